"""Stream, actor, program, times and words of a row follow from the rest of the log, or are told.

Chain and anchors hold in all of these: they were forged as well.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.audit.audit import audit
from engine.audit.verify import verify
from engine.store.location import Location, locate
from tests.forgery import Change, forge
from tests.program import runoff

WORK_LEFT = 4
OUTCOMES = [
    {"run": "*-r2", "state": "FAILED", "rc": 1, "reason": "database is down"},
    {"state": "COMPLETE", "rc": 0, "events": 2, "stdout": "step by step\n"},
]


@pytest.fixture(scope="module")
def worked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log that was registered, drained, operated and drained on."""
    folder = tmp_path_factory.mktemp("worked")
    (folder / "script.json").write_text(json.dumps(OUTCOMES))
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size")
    assert runoff(folder, "seed", "--repeat", "3").returncode == 0
    assert runoff(folder, *drain, "3").returncode == WORK_LEFT
    run_id, phase_id = one(folder / "b.db", "run, phase", "type = 'attempt.finished'")
    assert runoff(folder, "phase", "requeue", run_id, phase_id, "--why", "again").returncode == 0
    (judged,) = one(folder / "b.db", "run", "type = 'triage.run_judged'")
    assert runoff(folder, "run", "reinstate", judged, "--why", "fixed").returncode == 0
    assert runoff(folder, *drain, "9").returncode == WORK_LEFT
    return folder


def one(database: Path, columns: str, where: str) -> tuple[Any, ...]:
    with closing(sqlite3.connect(database)) as connection:
        sql = f"SELECT {columns} FROM events WHERE {where} ORDER BY pos LIMIT 1"
        return tuple(connection.execute(sql).fetchone())


@pytest.fixture
def log(worked: Path, tmp_path: Path) -> Location:
    return locate(f"sqlite:///{shutil.copytree(worked, tmp_path / 'copy')}/b.db")


def to(**columns: object) -> Change:
    """Other values in these columns."""
    return lambda row: row.update(columns)


def worded(**fields: object) -> Change:
    """Other fields in the data, which is written as the program writes it."""

    def change(row: dict[str, object]) -> None:
        told = json.loads(str(row["data"])) | fields
        row["data"] = json.dumps(told, ensure_ascii=False, separators=(",", ":"))

    return change


def marks(found: list[tuple[str, int | None]]) -> set[tuple[str, int | None]]:
    return {(what.partition(":")[0], pos) for what, pos in found}


def verified(log: Location) -> set[tuple[str, int | None]]:
    return marks([(each.what, each.pos) for each in verify(log).violations])


def audited(log: Location) -> set[tuple[str, int | None]]:
    return marks([(each.what, each.pos) for each in audit(log, ("structure",)).findings])


def test_what_was_written_by_the_program_comes_from_where_it_should(log: Location) -> None:
    assert (verified(log), audited(log)) == (set(), set())


KINDS = (
    "backlog.run_registered",
    "backlog.phase_registered",
    "backlog.phase_requeued",
    "operator.run_reinstated",
    "engine.started",
    "session.policy_adopted",
    "session.started",
    "attempt.started",
    "usage.recorded",
    "attempt.finished",
    "diagnosis.fingerprinted",
    "triage.run_judged",
    "session.draining",
    "session.ended",
)


CHANGES: dict[str, Change] = {
    "actor": to(actor="me"),
    "session": to(stream="drain/elsewhere"),
    "run": to(stream="run/elsewhere"),
    "program": to(code="9.9.9"),
    "time": lambda row: row.update(occurred_us=int(str(row["occurred_us"])) - 1),
}


def first_of_each(log: Location) -> dict[int, str]:
    """The actor of the first row of each of ``KINDS``, by position."""
    found = [one(log.path, "pos, actor", f"type = '{kind}'") for kind in KINDS]
    return dict(found)


@pytest.mark.parametrize("what", CHANGES)
def test_a_row_of_another_place_is_named(log: Location, what: str) -> None:
    places = first_of_each(log)
    forge(log.path, *((pos, CHANGES[what]) for pos in places))
    expected = {("S36", pos) for pos in places}
    assert {each for each in verified(log) if each[0] == "S36"} == expected
    assert {each for each in audited(log) if each[0] == "S36"} == expected


@pytest.mark.parametrize("by", ["cli", "picker", "worker", "operator", "daemon", "drift"])
def test_an_actor_writes_only_what_is_its_own(log: Location, by: str) -> None:
    places = first_of_each(log)
    forge(log.path, *((pos, to(actor=by)) for pos in places))
    expected = {("S36", pos) for pos, actor in places.items() if actor != by}
    assert {each for each in verified(log) if each[0] == "S36"} == expected


def test_the_events_of_a_command_have_one_request(log: Location) -> None:
    (pos,) = one(log.path, "pos", "type = 'backlog.phase_registered'")
    forge(log.path, (pos, to(request=b"x" * 32)))
    assert ("S36", pos) in verified(log)
    assert ("S36", pos) in audited(log)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("backlog.phase_registered", {"goal": "Something else."}),
        ("backlog.run_registered", {"origin": "elsewhere"}),
        ("backlog.phase_requeued", {"why": "because"}),
        ("backlog.phase_requeued", {"by": "somebody else"}),
        ("operator.run_reinstated", {"why": "because"}),
        ("engine.started", {"host": "elsewhere"}),
    ],
)
def test_other_words_than_were_asked_for_are_named(
    log: Location, kind: str, fields: dict[str, str]
) -> None:
    pos, command = one(log.path, "pos, command_id", f"type = '{kind}'")
    end, _ = one(log.path, "max(pos), 0", f"command_id = '{command}'")
    forge(log.path, (pos, worded(**fields)))
    assert ("S37", end) in verified(log)
    assert ("S37", end) in audited(log)


def test_words_that_nothing_can_write_were_not_asked_for(log: Location) -> None:
    (pos,) = one(log.path, "pos", "type = 'operator.run_reinstated'")
    forge(
        log.path, (pos, lambda row: row.update(data=str(row["data"]).replace("fixed", "\\ud800")))
    )
    assert ("S37", pos) in verified(log)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("attempt.finished", worded(duration_ms=12_345)),
        ("usage.recorded", worded(input_tokens=12_345)),
        ("attempt.started", to(request=bytes(32))),
        ("session.ended", to(request=bytes(32))),
    ],
)
def test_verify_names_what_an_audit_decides_again(
    log: Location, kind: str, change: Callable[[dict[str, object]], None]
) -> None:
    pos, command = one(log.path, "pos, command_id", f"type = '{kind}'")
    end, _ = one(log.path, "max(pos), 0", f"command_id = '{command}'")
    forge(log.path, (pos, change))
    assert ("S37", end) in verified(log)
