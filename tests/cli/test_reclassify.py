"""``runoff reclassify``: another rule set is asked, what it says is appended, nothing is edited."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.forgery import forge
from tests.program import runoff

OWN = "standard-1"
POLICY = 'name = "old-eyes"\nversion = 1\ndetectors = "classic-1"\nfingerprint_repeats_max = 9\n'
LONG = "more than stands in the log itself\n" * 20
RULES = [
    {"run": "*-r2", "rc": 1, "state": "FAILED", "stderr": "KeyError: 'x'\n"},
    {"run": "*-r3", "rc": 1, "stdout": LONG, "stderr": "prompt is too long: 9 tokens > 8 maximum"},
    {"run": "*-r4", "sleep": 9999},
    {"state": "COMPLETE", "rc": 0, "events": 1},
]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drain under the original's detectors, which do not see that a prompt was too long."""
    folder = tmp_path_factory.mktemp("reclassify")
    (folder / "script.json").write_text(json.dumps(RULES))
    (folder / "policy.toml").write_text(POLICY)
    assert runoff(folder, "seed", "--repeat", "4").returncode == 0
    arguments = ["--virtual-time", "--batch-size", "60", "--policy", "policy.toml"]
    drain = runoff(folder, "drain", "--script", "script.json", *arguments)
    assert "Traceback" not in drain.stderr
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    shutil.copytree(drained, folder)
    return folder


def told(folder: Path, *arguments: str, why: str = "newer rules") -> Any:
    done = runoff(folder, "reclassify", "--why", why, "--by", "me", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def rows(folder: Path, kind: str = "%") -> list[tuple[int, str, bytes]]:
    connection = sqlite3.connect(folder / "b.db")
    sql = "SELECT pos, data, hash FROM events WHERE type LIKE ? ORDER BY pos"
    found = connection.execute(sql, (kind,)).fetchall()
    connection.close()
    return found


def counts(folder: Path) -> dict[str, Any]:
    connection = sqlite3.connect(folder / "b.db")
    tables = "SELECT name FROM sqlite_schema WHERE name GLOB 'projection_zero_yield_v*'"
    (name,) = connection.execute(tables).fetchone()
    (data,) = connection.execute(f"SELECT data FROM {name} WHERE key='total'").fetchone()
    connection.close()
    return dict(json.loads(data))


def test_what_a_rule_set_says_otherwise_is_appended_and_nothing_is_edited(log: Path) -> None:
    before = rows(log)
    found = told(log, "--rule-set", OWN)
    after = rows(log)
    assert after[: len(before)] == before
    said = [json.loads(data) for _, data, _ in rows(log, "diagnosis.reclassified")]
    assert len(said) == sum(found["moves"].values()) > 0
    assert {each["what"] for each in said} == {"fingerprint", "boundary", "zero_yield"}
    limits = [each for each in said if each["what"] == "boundary"]
    assert {(each["before"], each["after"]["name"]) for each in limits} == {
        (None, "context_window")
    }
    assert all(each["run_id"].endswith("-r3") for each in limits)
    assert {(each["by"], each["why"]) for each in said} == {("me", "newer rules")}
    assert found["attempts"] > found["changed"] > 0


def test_asked_again_it_has_nothing_more_to_say(log: Path) -> None:
    told(log, "--rule-set", OWN)
    before = rows(log)
    again = told(log, "--rule-set", OWN)
    assert (again["changed"], again["moves"]) == (0, {})
    # Opening the log for writing is no event of its own, when nothing follows.
    assert rows(log) == before


def test_a_dry_run_says_the_same_and_changes_no_byte(log: Path) -> None:
    before = (log / "b.db").read_bytes()
    dry = told(log, "--rule-set", OWN, "--dry-run")
    assert (log / "b.db").read_bytes() == before
    assert told(log, "--rule-set", OWN) == dry


def test_the_old_rule_set_takes_it_all_back(log: Path) -> None:
    runoff(log, "projection", "rebuild")
    original = counts(log)
    there = told(log, "--rule-set", OWN)
    moved = counts(log)
    assert moved["zero_yield"] != original["zero_yield"]
    assert moved["boundaries"] != original["boundaries"]
    back = told(log, "--rule-set", "classic-1")
    assert back["changed"] == there["changed"]
    assert counts(log) == original


def test_an_audit_asks_the_rule_set_again(log: Path) -> None:
    told(log, "--rule-set", OWN)
    done = runoff(log, "audit", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True), found
    assert found["decided"]["diagnosis.reclassified"] == len(rows(log, "diagnosis.reclassified"))
    assert runoff(log, "verify").returncode == 0


def test_a_forged_word_is_the_one_difference(log: Path) -> None:
    told(log, "--rule-set", OWN)
    pos = rows(log, "diagnosis.reclassified")[-1][0]

    def change(row: dict[str, object]) -> None:
        row["data"] = str(row["data"]).replace('"name":"', '"name":"un', 1)

    forge(log / "b.db", (pos, change))
    done = runoff(log, "audit", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 6
    assert [(d["pos"], d["what"]) for d in found["differences"]] == [(pos, "differs")]


def test_what_was_written_by_rules_that_nobody_has_is_unverifiable(log: Path) -> None:
    told(log, "--rule-set", OWN)
    pos = rows(log, "diagnosis.reclassified")[0][0]

    def change(row: dict[str, object]) -> None:
        row["data"] = str(row["data"]).replace(
            f'"detector":"{OWN}","timeouts"', '"detector":"fp-99","timeouts"'
        )

    forge(log / "b.db", (pos, change))
    done = runoff(log, "audit", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 6
    assert pos in {each["pos"] for each in found["unverifiable"]}


def test_it_can_be_kept_to_a_run(log: Path) -> None:
    run = next(
        json.loads(d)["run_id"] for _, d, _ in rows(log, "backlog.run_registered") if "-r3" in d
    )
    told(log, "--rule-set", OWN, "--run", run)
    said = [json.loads(data) for _, data, _ in rows(log, "diagnosis.reclassified")]
    assert {each["run_id"] for each in said} == {run}


def test_output_that_is_gone_is_counted_and_left_alone(log: Path) -> None:
    whole = told(log, "--rule-set", OWN, "--dry-run")
    shutil.rmtree(log / "b.db-files" / "blobs")
    found = told(log, "--rule-set", OWN)
    assert found["unreadable"] > 0
    assert found["changed"] < whole["changed"]
    done = runoff(log, "reclassify", "--rule-set", OWN, "--why", "x")
    assert "the output is gone or older than what rules read" in done.stdout


def test_an_unknown_rule_set_is_one_clear_line(log: Path) -> None:
    done = runoff(log, "reclassify", "--rule-set", "fp-99", "--why", "x")
    assert done.returncode == 2
    assert "there is no rule set called 'fp-99'" in done.stderr
    assert "Traceback" not in done.stderr
    empty = runoff(log, "reclassify", "--rule-set", OWN, "--why", " ")
    assert (empty.returncode, "--why is empty" in empty.stderr) == (2, True)


def test_in_words_it_names_each_attempt_and_sums_up(log: Path) -> None:
    done = runoff(log, "reclassify", "--rule-set", OWN, "--why", "x", "--dry-run")
    assert "boundary: nothing -> context_window (stopped_by)" in done.stdout
    assert f"{OWN} would say something else of" in done.stdout
    runoff(log, "reclassify", "--rule-set", OWN, "--why", "x")
    shown = runoff(log, "log", "show", "--type", "diagnosis.reclassified").stdout
    assert f"zero_yield by {OWN}: llm_boundary_hit, not execution_error (x)" in shown
