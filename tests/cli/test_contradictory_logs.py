"""Logs that contradict themselves, or name times of no calendar: one clear line, no traceback."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.forgery import forge
from tests.program import runoff

RULES = [
    {"run": "*-r2", "rc": 1, "stderr": "KeyError: 'x'\n", "sleep": 1},
    {"state": "COMPLETE", "rc": 0, "events": 1, "sleep": 1},
]
LOOKS = [
    ("run", "list"),
    ("session", "list"),
    ("session", "decisions"),
    ("breaker",),
    ("budget",),
    ("fingerprint", "list"),
    ("replay",),
    ("replay", "--step"),
    ("log", "show"),
    ("identity",),
    ("phase", "list"),
]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contradictory")
    (folder / "script.json").write_text(json.dumps(RULES))
    assert runoff(folder, "seed", "--repeat", "3").returncode == 0
    runoff(folder, "drain", "--script", "script.json", "--virtual-time", "--batch-size", "9")
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "log"))


def first(folder: Path, kind: str) -> tuple[int, str]:
    with closing(sqlite3.connect(folder / "b.db")) as connection:
        sql = "SELECT min(pos), run FROM events WHERE type=?"
        pos, run = connection.execute(sql, (kind,)).fetchone()
    return int(pos), str(run)


def of_a_ghost(row: dict[str, object]) -> None:
    event = json.loads(str(row["data"])) | {"phase_id": "ghost"}
    row |= {"phase": "ghost", "data": json.dumps(event, separators=(",", ":"))}


def later(row: dict[str, object]) -> None:
    row["recorded_us"] = 2**62


def seen(folder: Path, *arguments: str) -> tuple[int, str]:
    done = runoff(folder, *arguments)
    assert "Traceback" not in done.stderr, (arguments, done.stderr)
    return done.returncode, done.stderr


def test_an_event_of_a_phase_that_never_was_is_named_by_whoever_reads_the_board(log: Path) -> None:
    pos, run_id = first(log, "attempt.started")
    forge(log / "b.db", (pos, of_a_ghost))
    codes = {look: seen(log, *look) for look in [*LOOKS, ("why", run_id)]}
    refused = [told for code, told in codes.values() if code == 5]
    assert all(f"position {pos} " in told for told in refused)
    assert all("never registered" in told for told in refused)
    assert {codes[look][0] for look in (("run", "list"), ("replay",), ("identity",))} == {5}
    assert codes["why", run_id][0] == 5
    assert {code for code, _ in codes.values()} <= {0, 5}
    assert seen(log, "verify")[0] == 6


def test_times_that_no_calendar_has_are_shown_as_numbers(log: Path) -> None:
    with closing(sqlite3.connect(log / "b.db")) as connection:
        (head,) = connection.execute("SELECT max(pos) FROM events").fetchone()
    forge(log / "b.db", *[(pos, later) for pos in range(1, head + 1)])
    _, run_id = first(log, "attempt.started")
    for look in [*LOOKS, ("why", run_id)]:
        assert seen(log, *look)[0] == 0, look
    assert f"{2**62} us" in runoff(log, "log", "show").stdout
