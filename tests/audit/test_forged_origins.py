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
from engine.audit.chain import Row
from engine.audit.origins import DATED, ORIGINS, Origins, is_dated
from engine.audit.verify import verify
from engine.events.codec import SCHEMAS
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


def test_the_origins_of_all_types_are_known() -> None:
    assert ORIGINS.keys() == SCHEMAS.keys()


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


def row(kind: str, **columns: Any) -> Row:
    base = dict.fromkeys(Row._fields) | {"pos": 9, "type": kind, "command_id": "c", "code": "1"}
    base |= {"stream": "drain/s", "session": "s", "recorded_us": 5, "occurred_us": 5, "idx": 0}
    return Row._make((base | columns).values())


def said(*rows: tuple[Row, dict[str, Any]]) -> list[int | None]:
    """Where something is said of rows."""
    found: list[int | None] = []
    origins = Origins(lambda _what, pos: found.append(pos))
    for each, event in rows:
        origins.take(each, event)
    return found


@pytest.mark.parametrize(
    ("kind", "because", "cause", "right"),
    [
        ("session.draining", "batch_size", None, "picker"),
        ("session.draining", "total_time", None, "picker"),
        ("session.draining", "session_budget", None, "picker"),
        ("session.draining", "day_budget", None, "picker"),
        ("session.draining", "zero_yield_streak", 8, "worker"),
        ("session.draining", "interrupted", None, "cli"),
        ("session.draining", "run_budgets", None, "cli"),
        ("triage.budget_reached", None, None, "picker"),
        ("triage.budget_reached", None, 8, "worker"),
    ],
)
def test_who_says_it_shows_in_why_and_in_its_cause(
    kind: str, because: str | None, cause: int | None, right: str
) -> None:
    for actor in ("picker", "worker", "cli", "me"):
        found = said((row(kind, actor=actor, cause=cause), {"because": because}))
        assert found == ([] if actor == right else [9])


@pytest.mark.parametrize(
    ("kind", "columns", "event", "is_right"),
    [
        ("session.part_lost", {"stream": "drain/other"}, {}, True),
        ("session.part_lost", {"stream": "run/other"}, {}, False),
        ("backlog.run_registered", {"stream": "import/x", "run": "r"}, {}, True),
        ("backlog.run_registered", {"stream": "run/r", "run": "r"}, {}, True),
        ("backlog.run_registered", {"stream": "run/r", "run": "q"}, {}, False),
        ("backlog.run_registered", {"stream": "runs", "run": "r"}, {}, False),
        ("operator.breaker_reset", {"stream": "operator/f"}, {"fingerprint": "f"}, True),
        ("operator.breaker_reset", {"stream": "operator/s"}, {"fingerprint": "f"}, False),
        ("operator.account_resumed", {"stream": "operator/a"}, {"account": "a"}, True),
        ("operator.account_resumed", {"stream": "operator/b"}, {"account": "a"}, False),
        ("backlog.phase_requeued", {"stream": "operator/r"}, {"run_id": "r"}, True),
        ("backlog.phase_requeued", {"stream": "operator/p"}, {"run_id": "r"}, False),
        ("calibration.proposed", {"stream": "operator/calibration"}, {}, True),
        ("calibration.proposed", {"stream": "calibration"}, {}, False),
        ("calibration.coefficients_adopted", {"stream": "operator/coefficients"}, {}, True),
        ("calibration.coefficients_adopted", {"stream": "operator/calibration"}, {}, False),
    ],
)
def test_a_stream_is_that_of_what_its_events_are_about(
    kind: str, columns: dict[str, str], event: dict[str, Any], is_right: bool
) -> None:
    assert said((row(kind, actor="cli", **columns), event)) == ([] if is_right else [9])


@pytest.mark.parametrize(
    ("kind", "created", "occurred", "is_right"),
    [
        ("backlog.run_registered", None, 5, True),
        ("backlog.run_registered", 3, 3, True),
        ("backlog.run_registered", 3, 5, False),
        ("backlog.phase_registered", 3, 4, False),
        ("backlog.phase_registered", 0, 5, True),
        ("usage.imported", 3, 3, True),
        ("usage.estimate_imported", 3, 3, True),
        ("backlog.tier_registered", 3, 3, False),
    ],
)
def test_what_is_dated_occurred_then_and_all_else_when_it_was_recorded(
    kind: str, created: int | None, occurred: int, is_right: bool
) -> None:
    one_row = row(kind, stream="import/x", actor="cli", occurred_us=occurred)
    assert said((one_row, {"created_us": created})) == ([] if is_right else [9])
    text = "" if created is None else f'"created_us":{created}'
    for data in (f'{{"type":"x",{text}}}', f'{{{text},"failure_reason":"x"}}'):
        plainly = is_dated(data.encode(), occurred, 5) if kind in DATED else occurred == 5
        assert plainly == is_right or created == 0


@pytest.mark.parametrize("told", [31, 36, 3])
def test_a_date_is_its_whole_number(told: int) -> None:
    assert not is_dated(b'{"created_us":%d}' % told, 3 if told != 3 else 31, 5)


def test_a_program_that_began_may_have_written_what_comes_later() -> None:
    began = {"program": "runoff", "package_version": "1"}
    engine = row("engine.started", stream="engine", actor="runoff", command_id="e")
    later = [row("session.ended", actor="cli", pos=10, code=code) for code in ("1", "2")]
    assert said((engine, began), (later[0], {})) == []
    assert said((engine, began), (later[1], {})) == [10]
    newer = row("engine.started", stream="engine", actor="runoff", command_id="f", code="2")
    both = (engine, began), (newer, began | {"package_version": "2"})
    assert said(*both, (later[0], {})) == said(*both, (later[1], {})) == []


def test_what_is_odd_is_no_measure_for_what_stands_beside_it() -> None:
    first, second, third = (row("session.ended", actor=actor) for actor in ("me", "cli", "cli"))
    assert said((first, {}), (second, {}), (third, {})) == [9]
    other = third._replace(stream="drain/t", session="t", pos=11)
    assert said((first, {}), (second, {}), (other, {})) == [9, 11]
    assert said((second, {}), (first, {}), (other, {})) == [9, 11]
    assert said((second, {}), (other._replace(command_id="d"), {})) == []


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
