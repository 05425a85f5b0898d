"""Verify names what was done to a log, and where it shows first."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.events import COLUMNS, chain_hash
from tests.forgery import unguarded
from tests.program import runoff

OUTCOMES = [
    {"run": "*-r2", "state": "FAILED", "rc": 1, "reason": "database is down"},
    {"run": "*-r3", "state": "FAILED", "rc": 1, "reason": "database is down"},
    {"state": "COMPLETE", "rc": 0, "events": 2, "stdout": "step by step\n" * 99},
]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drained")
    (folder / "script.json").write_text(json.dumps(OUTCOMES))
    assert runoff(folder, "seed", "--repeat", "3").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "99")
    assert runoff(folder, *drain).returncode == 0
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "copy"))


def verified(folder: Path) -> tuple[int, dict[str, Any]]:
    found = runoff(folder, "verify", "--json")
    assert "Traceback" not in found.stderr
    return found.returncode, json.loads(found.stdout)


def tamper(folder: Path, *sql: str) -> None:
    connection = sqlite3.connect(folder / "b.db")
    triggers = unguarded(connection)
    for statement in (*sql, *triggers):
        connection.execute(statement)
    connection.commit()
    connection.close()


def position(folder: Path, where: str) -> int:
    connection = sqlite3.connect(folder / "b.db")
    (pos,) = connection.execute(f"SELECT min(pos) FROM events WHERE {where}").fetchone()
    connection.close()
    return int(pos)


def test_an_untouched_log_holds_and_verifying_changes_no_byte(log: Path) -> None:
    before = (log / "b.db").read_bytes()
    code, found = verified(log)
    assert (code, found["ok"], found["violations"], found["open_attempts"]) == (0, True, [], 0)
    assert (log / "b.db").read_bytes() == before


def test_an_edited_row_is_named(log: Path) -> None:
    pos = position(log, "type='triage.run_judged'")
    edited = "UPDATE events SET data=replace(data,'promising','deprioritized') WHERE pos="
    tamper(log, f"{edited}{pos}")
    code, found = verified(log)
    assert code == 6
    assert found["violations"][0]["pos"] == pos
    assert found["violations"][0]["what"].startswith("S2")


def test_a_deleted_row_is_named(log: Path) -> None:
    tamper(log, "DELETE FROM events WHERE pos=20")
    code, found = verified(log)
    assert (code, found["violations"][0]["pos"]) == (6, 21)


@pytest.mark.parametrize("kind", ["folder", "fifo", "dangling link"])
def test_what_only_bears_the_name_of_the_anchors_is_a_finding(log: Path, kind: str) -> None:
    anchors = log / "b.db-anchors"
    anchors.unlink()
    if kind == "folder":
        anchors.mkdir()
    elif kind == "fifo":
        os.mkfifo(anchors)
    else:
        anchors.symlink_to("nowhere")
    code, found = verified(log)
    assert (code, found["ok"], found["anchors"]) == (6, False, "broken")
    assert "S2: what bears the name of the anchors is no file" in str(found["violations"])
    assert runoff(log, "audit").returncode == 6


def test_a_cut_tail_is_told_by_the_anchors(log: Path) -> None:
    tamper(log, "DELETE FROM events WHERE pos > 60")
    code, found = verified(log)
    assert code == 6
    assert any("cut short" in violation["what"] for violation in found["violations"])


def test_reordered_rows_are_named(log: Path) -> None:
    tamper(
        log,
        "UPDATE events SET pos=-1 WHERE pos=30",
        "UPDATE events SET pos=30 WHERE pos=31",
        "UPDATE events SET pos=31 WHERE pos=-1",
    )
    code, found = verified(log)
    assert (code, found["violations"][0]["pos"]) == (6, 30)


def test_a_changed_output_is_named(log: Path) -> None:
    blob = next((log / "b.db-files" / "blobs").glob("*/*"))
    blob.write_bytes(b"gone\n")
    code, found = verified(log)
    assert code == 6
    assert found["violations"][0]["what"].startswith("S14")


def test_a_changed_projection_is_named(log: Path) -> None:
    tamper(log, "UPDATE projection_backlog_v5 SET data=replace(data,'COMPLETE','FAILED')")
    code, found = verified(log)
    assert code == 6
    assert "S29: backlog differs" in found["violations"][0]["what"]


def newer(folder: Path) -> int:
    """Append as a newer program would: an unknown event, and projections that are beyond it."""
    connection = sqlite3.connect(folder / "b.db")
    last = connection.execute("SELECT * FROM events ORDER BY pos DESC LIMIT 1").fetchone()
    row = dict(zip(COLUMNS, last, strict=True))
    row |= {"pos": row["pos"] + 1, "stream": "newer", "version": 1, "command_id": "newer"}
    row |= {"idx": 0, "type": "triage.run_pardoned", "data": '{"type":"triage.run_pardoned"}'}
    row |= {"cause": None, "session": None, "run": None, "phase": None, "attempt": None}
    columns = tuple(row.values())[:-1]
    row["hash"] = chain_hash(last[-1], columns)
    marks = ",".join("?" * len(row))
    connection.execute(f"INSERT INTO events VALUES ({marks})", tuple(row.values()))
    connection.execute("UPDATE projections SET pos=?, hash=?", (row["pos"], row["hash"]))
    connection.commit()
    connection.close()
    return int(row["pos"])


def test_nobody_reads_past_or_appends_to_what_a_newer_program_wrote(log: Path) -> None:
    pos = newer(log)
    for arguments in (
        ("verify", "--json"),
        ("run", "list"),
        ("identity",),
        ("drain", "--", "true"),
        ("run", "reinstate", "telemetry-collection-v4", "--why", "x"),
        ("seed", "--run-id", "another"),
    ):
        refused = runoff(log, *arguments)
        assert refused.returncode == 5, arguments
        assert f"position {pos}" in refused.stderr
        assert "try: upgrade" in refused.stderr
        assert "Traceback" not in refused.stderr
    connection = sqlite3.connect(log / "b.db")
    assert connection.execute("SELECT max(pos) FROM events").fetchone() == (pos,)
    connection.close()


def test_the_raw_log_shows_what_cannot_be_read(log: Path) -> None:
    pos = newer(log)
    shown = runoff(log, "log", "show", "--at", str(pos), "--raw")
    assert shown.returncode == 0, shown.stderr
    assert "triage.run_pardoned" in shown.stdout


def rechain(folder: Path) -> None:
    """Recompute every hash, as a forger with the source at hand would."""
    connection = sqlite3.connect(folder / "b.db")
    triggers = unguarded(connection)
    sql = f"SELECT {', '.join(COLUMNS[:-1])} FROM events ORDER BY pos"
    previous = bytes(32)
    for row in connection.execute(sql).fetchall():
        previous = chain_hash(previous, row)
        connection.execute("UPDATE events SET hash=? WHERE pos=?", (previous, row[0]))
    for trigger in triggers:
        connection.execute(trigger)
    connection.commit()
    connection.close()
    (folder / "b.db-anchors").unlink()


@pytest.mark.parametrize(
    ("where", "edit", "what"),
    [
        ("type='attempt.finished'", "'\"yield_events\":2','\"yield_events\":3'", "S21"),
        ("type='attempt.started'", "'\"number\":1','\"number\":2'", "S9"),
        ("type='triage.run_judged'", "'\"generation\":1','\"generation\":2'", "S16"),
    ],
)
def test_a_forged_chain_still_breaks_the_rules_of_the_game(
    log: Path, where: str, edit: str, what: str
) -> None:
    pos = position(log, where)
    tamper(log, f"UPDATE events SET data=replace(data,{edit}) WHERE pos={pos}")
    rechain(log)
    code, found = verified(log)
    assert code == 6
    assert found["violations"][0]["pos"] == pos
    assert found["violations"][0]["what"].startswith(what)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE projection_run_triage_v3 SET data='garbage'",
        "UPDATE projection_run_triage_v3 SET data=replace(data,'promising','deprioritized')",
        "DROP TABLE projection_run_triage_v3",
        "DELETE FROM projections",
    ],
)
def test_a_reader_trusts_the_log_and_not_its_stored_projections(log: Path, damage: str) -> None:
    before = runoff(log, "run", "list", "--json").stdout
    tamper(log, damage)
    after = runoff(log, "run", "list", "--json")
    assert after.stdout == before
    assert after.returncode == 0
    # Whoever writes next puts right what was damaged, without being asked to.
    again = ("phase", "requeue", "telemetry-collection-v4-r2", "telemetry-p1-string-util")
    assert runoff(log, *again, "--why", "test").returncode == 0
    assert runoff(log, "projection", "check").returncode == 0
