"""``runoff breaker``: look at what holds back runs without a verdict, and let them go."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.backlog.sample import write_sample
from engine.errors import UsageProblem
from tests.program import runoff

RUNS = 8
DRAIN = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs fail alike, two probes as well, and the rest is held back."""
    folder = tmp_path_factory.mktemp("broken")
    rule = {"state": "FAILED", "rc": 1, "stderr": "Error: invalid \x1b[31mapi key", "sleep": 3}
    (folder / "script.json").write_text(json.dumps([rule]))
    assert runoff(folder, "seed", "--repeat", str(RUNS)).returncode == 0
    ended = runoff(folder, *DRAIN, "--batch-size", "99")
    assert ended.returncode == 4, ended.stderr
    assert "runoff breaker reset" in ended.stdout
    return folder


@pytest.fixture
def copied(broken: Path, tmp_path: Path) -> Path:
    for path in broken.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
    return tmp_path


def shown(folder: Path, *arguments: str) -> Any:
    found = runoff(folder, "breaker", *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_an_open_breaker_is_listed_with_when_its_next_probe_is_due(broken: Path) -> None:
    (found,) = shown(broken)
    assert (found["state"], found["runs"], found["probes"]) == ("open", 3, 2)
    assert found["next_probe_us"] == found["last_probe_us"] + 15 * 60 * 1_000_000
    assert found["held_back"] == RUNS - 5
    words = runoff(broken, "breaker").stdout
    assert found["fingerprint"] in words
    assert "\x1b" not in words


def test_a_run_with_nothing_left_to_do_is_not_held_back(tmp_path: Path) -> None:
    write_sample(tmp_path / "older.db")
    with closing(sqlite3.connect(tmp_path / "older.db")) as older, older:
        older.execute("UPDATE phases SET state = 'COMPLETE' WHERE run_id = 'docs-refresh-v2'")
    rule = {"state": "FAILED", "rc": 1, "reason": "invalid api key"}
    (tmp_path / "script.json").write_text(json.dumps([rule]))
    assert runoff(tmp_path, "import", "older.db").returncode == 0
    assert runoff(tmp_path, *DRAIN, "--batch-size", "99").returncode == 4
    (found,) = shown(tmp_path)
    why = json.loads(runoff(tmp_path, "why", "--json").stdout)
    # Every run has one phase that could be its sample; the others wait for it.
    assert found["held_back"] == why["phases"]["breaker_open"] > 0


def test_it_shows_the_whole_story_of_a_cause(broken: Path) -> None:
    (listed,) = shown(broken, "list")
    found = shown(broken, "show", listed["fingerprint"])
    assert found["breaker"] == listed
    assert len(found["seen_in"]) == 5
    names = [each["type"] for each in found["history"]]
    assert names == ["triage.breaker_opened", *["triage.breaker_probed"] * 2]
    assert shown(broken, "show", listed["fingerprint"][:9]) == found
    words = runoff(broken, "breaker", "show", listed["fingerprint"]).stdout
    assert f"@{found['history'][0]['pos']}" in words
    assert "\x1b" not in words


def test_as_of_before_it_opened_there_was_none(broken: Path) -> None:
    (found,) = shown(broken)
    assert shown(broken, "list", "--at", str(found["opened_pos"] - 1)) == []
    (then,) = shown(broken, "list", "--at", str(found["opened_pos"]))
    assert (then["state"], then["probes"], then["next_probe_us"]) == ("open", 0, None)


def test_reset_by_hand_runs_without_a_verdict_go_on(copied: Path) -> None:
    (before,) = shown(copied)
    name = before["fingerprint"]
    assert runoff(copied, "breaker", "reset", "", "--why", "whichever").returncode == 2
    beginning = ("breaker", "reset", name[:9])
    said = runoff(copied, *beginning, "--why", "new key", "--by", "ops", "--json")
    assert said.returncode == 0, said.stderr
    event = json.loads(said.stdout)
    assert (event["session_id"], event["fingerprint"]) == (before["session_id"], name)
    assert (event["why"], event["by"]) == ("new key", "ops")
    (after,) = shown(copied)
    assert (after["state"], after["held_back"], after["opened_pos"]) == ("closed", 0, None)
    history = shown(copied, "show", name)["history"]
    assert history[-1]["type"] == "operator.breaker_reset"
    assert history[-1]["text"] == "reset by ops: new key"
    (copied / "script.json").write_text('[{"events": 1}]')
    ended = runoff(copied, *DRAIN, "--batch-size", "99")
    assert ended.returncode == 0, ended.stderr
    standings = json.loads(runoff(copied, "run", "list", "--json").stdout)
    assert "unsampled" not in {run["standing"] for run in standings}
    assert runoff(copied, "audit").returncode == 0


def test_what_is_not_open_cannot_be_reset(copied: Path) -> None:
    (found,) = shown(copied)
    reset = ("breaker", "reset", found["fingerprint"], "--why", "again")
    assert runoff(copied, *reset).returncode == 0
    before = json.loads(runoff(copied, "identity", "--json").stdout)["head"]
    refused = runoff(copied, *reset)
    assert refused.returncode == UsageProblem.exit_code
    assert "is not open; it closed at position" in refused.stderr
    types = runoff(copied, "log", "show", "--after", str(before), "--json").stdout
    assert "operator.breaker_reset" not in types


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("show", "nope"), "no breaker was ever opened by 'nope'"),
        (("reset", "nope", "--why", "x"), "no breaker was ever opened by 'nope'"),
        (("reset", "nope", "--why", " "), "--why is empty"),
        (("reset", "nope"), "Missing option '--why'"),
        (("reset", "x" * 3000, "--why", "x"), "FINGERPRINT has 3000 characters"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    broken: Path, arguments: tuple[str, ...], text: str
) -> None:
    refused = runoff(broken, "breaker", *arguments)
    assert refused.returncode == UsageProblem.exit_code
    assert text in refused.stderr
    assert "Traceback" not in refused.stderr


ALIKE = {"state": "FAILED", "rc": 1, "stderr": "Error: no api key", "sleep": 1}
WELL = {"state": "COMPLETE", "rc": 0, "events": 1}


def scripted(folder: Path, name: str, rule: dict[str, Any]) -> tuple[str, ...]:
    (folder / name).write_text(json.dumps([rule]))
    return ("drain", "--script", name, "--virtual-time", "--workers", "1", "--batch-size")


def test_short_sessions_find_a_cause_as_a_long_one_does(tmp_path: Path) -> None:
    drain = scripted(tmp_path, "fail.json", ALIKE)
    assert runoff(tmp_path, "seed", "--repeat", "9").returncode == 0
    for _ in range(3):
        runoff(tmp_path, *drain, "1")
    (found,) = shown(tmp_path)
    assert (found["state"], found["runs"]) == ("open", 3)
    assert runoff(tmp_path, "audit").returncode == 0


def test_a_cause_is_counted_from_nothing_once_another_sessions_probe_closed_it(
    tmp_path: Path,
) -> None:
    fail, well = (
        scripted(tmp_path, "fail.json", ALIKE),
        scripted(tmp_path, "well.json", WELL),
    )
    assert runoff(tmp_path, "seed", "--repeat", "9").returncode == 0
    runoff(tmp_path, *fail, "3")
    runoff(tmp_path, *well, "1")
    (found,) = shown(tmp_path)
    assert found["state"] == "closed"
    runoff(tmp_path, *fail, "2")
    assert shown(tmp_path)[0]["state"] == "closed"
    runoff(tmp_path, *fail, "9")
    (again,) = shown(tmp_path)
    assert (again["state"], again["runs"]) == ("open", 3)
    assert runoff(tmp_path, "audit").returncode == 0
