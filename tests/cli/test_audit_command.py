"""``runoff audit`` on logs that hold, and on logs that were forged with their chain."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.forgery import Change, forge
from tests.program import runoff

LONG = "more than stands in the log itself\n" * 20
RULES = [
    {"run": "*-r2", "rc": 1, "state": "FAILED", "stderr": "KeyError: 'x'\n", "stdout": LONG},
    {"run": "*-r3", "rc": 1, "state": "FAILED", "stderr": "KeyError: 'x'\n"},
    {"run": "*-r4", "sleep": 9999},
    {"run": "*-r5", "rc": 1, "stderr": "prompt is too long: 9 tokens > 8 maximum"},
    {"state": "COMPLETE", "rc": 0, "events": 1},
]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    (folder / "script.json").write_text(json.dumps(RULES))
    assert runoff(folder, "seed", "--repeat", "6").returncode == 0
    arguments = ["--virtual-time", "--batch-size", "60", "--workers", "3"]
    drain = runoff(folder, "drain", "--script", "script.json", *arguments)
    assert "Traceback" not in drain.stderr
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "log"
    shutil.copytree(drained, folder)
    return folder


def audited(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = runoff(folder, "audit", "--json", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def first(folder: Path, kind: str, having: str = "") -> int:
    connection = sqlite3.connect(folder / "b.db")
    sql = "SELECT min(pos) FROM events WHERE type=? AND data LIKE ?"
    (pos,) = connection.execute(sql, (kind, f"%{having}%")).fetchone()
    connection.close()
    assert pos is not None, (kind, having)
    return int(pos)


def data(**fields: object) -> Change:
    def change(row: dict[str, object]) -> None:
        event = json.loads(str(row["data"]))
        event.update(fields)
        row["data"] = json.dumps(event, separators=(",", ":"), ensure_ascii=False)

    return change


def test_a_log_that_was_written_by_its_rules_holds_and_no_byte_changes(log: Path) -> None:
    before = hashlib.sha256((log / "b.db").read_bytes()).hexdigest()
    code, found = audited(log)
    assert code == 0, found
    assert found["ok"] is True
    assert (found["differences"], found["unverifiable"], found["findings"]) == ([], [], [])
    assert found["decided"]["attempt.started"] > 20
    assert found["decided"]["triage.run_judged"] == 6
    assert hashlib.sha256((log / "b.db").read_bytes()).hexdigest() == before


@pytest.mark.parametrize(
    ("kind", "having", "change", "field"),
    [
        ("diagnosis.fingerprinted", "KeyError", {"fingerprint": "fp-1:feed"}, "fingerprint"),
        ("diagnosis.fingerprinted", "KeyError", {"seen_before": 7}, "seen_before"),
        ("diagnosis.boundary_detected", "", {"kind": "quota"}, "kind"),
        ("diagnosis.zero_yield_explained", "timeout", {"reason": "unknown"}, "reason"),
        ("triage.run_judged", "deprioritized", {"because": "new_failure"}, "because"),
        ("session.ended", "", {"work_left": 99}, "work_left"),
        ("session.ended", "", {"because": "batch_size"}, "because"),
        ("session.ended", "", {"because": "interrupted"}, "because"),
        ("session.ended", "", {"because": "held_back"}, "because"),
    ],
)
def test_one_forged_field_is_one_difference_at_its_place(
    log: Path, kind: str, having: str, change: dict[str, object], field: str
) -> None:
    pos = first(log, kind, having)
    forge(log / "b.db", (pos, data(**change)))
    code, found = audited(log)
    assert code == 6
    assert found["findings"] == []
    here = [each for each in found["differences"] if each["pos"] == pos]
    assert [(each["what"], each["type"]) for each in here] == [("differs", kind)]
    assert list(here[0]["fields"]) == [field]
    assert here[0]["fields"][field][0] == change[field]
    assert audited(log, "--level", "chain", "--level", "structure")[0] == 0


def test_an_attempt_that_was_not_the_one_to_pick_is_named(log: Path) -> None:
    pos = first(log, "attempt.started")
    forge(log / "b.db", (pos, data(phase_index=5)))
    code, found = audited(log)
    assert code == 6
    (difference,) = found["differences"]
    assert (difference["pos"], difference["type"]) == (pos, "attempt.started")
    assert difference["fields"] == {"phase_index": [5, 0]}


def test_a_verdict_that_was_left_out_is_missing(log: Path) -> None:
    pos = first(log, "triage.run_judged", "timeout")
    forge(log / "b.db", drop=(pos,))
    code, found = audited(log)
    assert code == 6
    assert ("missing", "triage.run_judged") in {
        (each["what"], each["type"]) for each in found["differences"]
    }


def test_a_decision_of_a_rule_that_nobody_knows_is_unverifiable_and_never_ok(log: Path) -> None:
    pos = first(log, "triage.run_judged")
    connection = sqlite3.connect(log / "b.db")
    (text,) = connection.execute("SELECT data FROM events WHERE pos=?", (pos,)).fetchone()
    connection.close()
    reason = json.loads(text)["reason"] | {"version": 99}
    forge(log / "b.db", (pos, data(reason=reason)))
    code, found = audited(log)
    assert code == 6
    assert found["ok"] is False
    assert [each["pos"] for each in found["unverifiable"]] == [pos]
    assert "version 99" in found["unverifiable"][0]["why"]
    assert found["differences"] == []


def test_a_session_that_ended_with_work_that_it_might_have_started_is_named(log: Path) -> None:
    started = first(log, "attempt.started")
    connection = sqlite3.connect(log / "b.db")
    (head,) = connection.execute("SELECT max(pos) FROM events").fetchone()
    connection.close()
    end = first(log, "session.ended")
    assert end == head
    forge(log / "b.db", drop=tuple(range(started, end)))
    code, found = audited(log)
    assert code == 6
    assert [(d["what"], d["type"]) for d in found["differences"]] == [
        ("unexpected", "session.ended")
    ]


def test_a_projection_beyond_the_head_has_read_another_log(log: Path) -> None:
    connection = sqlite3.connect(log / "b.db")
    connection.execute("UPDATE projections SET pos = pos + 1000, hash = zeroblob(32)")
    connection.commit()
    connection.close()
    code, found = audited(log, "--level", "projections")
    assert code == 6
    assert {each["what"].partition("has")[2] for each in found["findings"]} == {" read another log"}


def test_output_that_is_gone_leaves_its_diagnosis_unverifiable(log: Path) -> None:
    shutil.rmtree(log / "b.db-files" / "blobs")
    code, found = audited(log)
    assert code == 6
    assert found["differences"] == []
    assert {each["why"] for each in found["unverifiable"]} == {
        "the output that the detectors read is gone"
    }


def test_a_damaged_projection_is_a_finding_of_its_level(log: Path) -> None:
    connection = sqlite3.connect(log / "b.db")
    connection.execute(
        "UPDATE projection_run_triage_v3 SET data=replace(data,'promising','inconclusive')"
    )
    connection.commit()
    connection.close()
    code, found = audited(log)
    assert code == 6
    assert {each["level"] for each in found["findings"]} == {"projections"}
    assert audited(log, "--level", "decisions")[0] == 0


def test_words_name_the_place_and_what_should_stand_there(log: Path) -> None:
    pos = first(log, "triage.run_judged", "deprioritized")
    forge(log / "b.db", (pos, data(because="new_failure")))
    told = runoff(log, "audit")
    assert told.returncode == 6
    assert f"@{pos}  decision: triage.run_judged" in told.stdout
    assert "'new_failure', not 'repeated_failure'" in told.stdout


def test_what_differs_in_words_alone_hides_nothing_and_is_counted_apart(log: Path) -> None:
    """As in a log of an earlier program, which had other words for the same reasons."""
    connection = sqlite3.connect(log / "b.db")
    sql = "SELECT pos FROM events WHERE type = 'attempt.started'"
    starts = [int(pos) for (pos,) in connection.execute(sql)]
    connection.close()
    verdict = first(log, "triage.run_judged", "deprioritized")
    assert starts[0] < verdict
    in_words = [(pos, _in_other_words) for pos in starts]
    forge(log / "b.db", *in_words, (verdict, data(because="new_failure")))
    told = runoff(log, "audit")
    assert told.returncode == 6
    listed = [line for line in told.stdout.splitlines() if "  decision: " in line]
    assert listed[0].startswith(f"@{verdict}  ")
    others = len(listed) - len(starts)
    assert all("reason.sentence" in line for line in listed[others:])
    worded = f"({len(starts)} in the words of a sentence alone)"
    assert f"{len(listed)} differences {worded}, 0 unverifiable." in told.stdout


def _in_other_words(row: dict[str, object]) -> None:
    event = json.loads(str(row["data"]))
    event["reason"]["sentence"] += " So it went."
    row["data"] = json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def test_a_row_that_is_filed_under_another_run_is_a_finding(log: Path) -> None:
    pos = first(log, "triage.run_judged")

    def refile(row: dict[str, object]) -> None:
        row["run"] = "another"

    forge(log / "b.db", (pos, refile))
    code, found = audited(log)
    assert code == 6
    assert [(each["level"], each["pos"]) for each in found["findings"]] == [("structure", pos)]
    assert found["differences"] == []


def test_a_policy_that_a_newer_program_wrote_is_named_by_whoever_needs_it(log: Path) -> None:
    pos = first(log, "session.policy_adopted")
    forge(log / "b.db", (pos, data(policy_json='{"name":"default","rule_of_tomorrow":1}')))
    code, found = audited(log)
    assert code == 6
    assert {each["why"] for each in found["unverifiable"]} == {
        "its session, policy or rules are unknown here"
    }
    assert len(found["unverifiable"]) > 20
    run_id = "telemetry-collection-v4"
    for arguments in (["whatif"], ["why", run_id]):
        done = runoff(log, *arguments)
        assert done.returncode == 5, (arguments, done.stderr)
        assert "a recorded policy cannot be read" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("verb", ["audit", "whatif"])
def test_the_database_is_named_before_anything_is_said_of_it(log: Path, verb: str) -> None:
    told = runoff(log, verb).stderr
    assert [line.split()[0] for line in told.splitlines()[:3]] == ["database", "file", "log"]
