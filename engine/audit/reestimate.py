"""Estimates and calibrations taken again: each from the log before it, held against the record.

Beside ``redecide``, since no rule reads them; a log without any is asked one question only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

from engine.audit.compared import Difference, Expected, compared
from engine.audit.connection import connect
from engine.audit.estimates import event_of
from engine.calibration.attempts import estimated
from engine.calibration.calibrate import calibrate
from engine.calibration.estimator import Coefficients, coefficients_from_json
from engine.calibration.result import LogHead, Settings
from engine.errors import UsageProblem
from engine.events import (
    AnyEvent,
    AttemptEstimated,
    AttemptStarted,
    CalibrationProposed,
    CoefficientsInForce,
    PhaseRegistered,
    Seen,
    decode_page,
    event_type,
)
from engine.store.location import Location
from projections.calibration import CALIBRATION, PhaseSamples, samples_of
from projections.fold import Keyed

PAGE_ROWS = 2000
# Of the log itself: a table that is derived of it may say anything.
_SHAPES = (
    "SELECT DISTINCT type FROM events"
    " WHERE type IN ('attempt.estimated', 'calibration.proposed', 'session.coefficients_in_force')"
)
_HASH = "SELECT hash FROM events WHERE pos = ?"
_ESTIMATING = (
    PhaseRegistered,
    CoefficientsInForce,
    AttemptStarted,
    AttemptEstimated,
)


class Reestimated(NamedTuple):
    """What was taken again, by type of event, and what differs."""

    decided: dict[str, int]
    differences: list[Difference]


def reestimated(location: Location) -> Reestimated:
    """Take every estimate and every recorded calibration again; changes no byte."""
    found = Reestimated({}, [])
    with closing(connect(location.path)) as connection:
        connection.execute("BEGIN")
        shapes = {row[0] for row in connection.execute(_SHAPES)}
        if shapes & {"attempt.estimated", "session.coefficients_in_force"}:
            _estimates(connection, found)
        if "calibration.proposed" in shapes:
            _proposals(connection, found)
    return found


def _seen(connection: sqlite3.Connection, types: Sequence[str]) -> Iterator[Seen]:
    marks = ", ".join("?" * len(types))
    rows_of = (
        "SELECT pos, recorded_us, type, schema, data FROM events"  # noqa: S608  marks only
        f" WHERE type IN ({marks}) ORDER BY pos"
    )
    cursor = connection.execute(rows_of, tuple(types))
    while rows := cursor.fetchmany(PAGE_ROWS):
        for row, event in zip(rows, decode_page(rows), strict=True):
            yield Seen(row[0], row[1], event)


def _estimates(connection: sqlite3.Connection, found: Reestimated) -> None:
    phases: dict[tuple[str, str], PhaseRegistered] = {}
    in_force: dict[str, Coefficients | None] = {}
    due: tuple[int, AttemptEstimated] | None = None
    for seen in _seen(connection, [event_type(kind) for kind in _ESTIMATING]):
        event = seen.event
        if due is not None:
            recorded = (seen.pos, event) if isinstance(event, AttemptEstimated) else None
            _compare(found, due[1], recorded, due[0])
            due = None
        elif isinstance(event, AttemptEstimated):
            _compare(found, None, (seen.pos, event), seen.pos)
        match event:
            case PhaseRegistered():
                phases[event.run_id, event.phase_id] = event
            case CoefficientsInForce():
                in_force[event.session_id] = _coefficients(event)
            case AttemptStarted():
                own = in_force.get(event.session_id)
                phase = phases.get((event.run_id, event.phase_id))
                if own is not None and phase is not None:
                    count = len(phase.deliverables)
                    made = estimated(event, phase.category, phase.complexity, count, own)
                    due = (seen.pos, made)
            case _:
                pass
    if due is not None:
        _compare(found, due[1], None, due[0])


def _coefficients(event: CoefficientsInForce) -> Coefficients | None:
    try:
        return coefficients_from_json(event.coefficients_json)
    except UsageProblem:
        return None


def _compare(
    found: Reestimated, expected: AnyEvent | None, recorded: tuple[int, AnyEvent] | None, pos: int
) -> None:
    if recorded is not None:
        kind = event_type(type(recorded[1]))
        found.decided[kind] = found.decided.get(kind, 0) + 1
        if recorded[1] == expected:
            return
    wanted = [] if expected is None else [Expected(expected, None)]
    held = [] if recorded is None else [(recorded[0], Expected(recorded[1], None))]
    found.differences.extend(compared(wanted, held, pos, {pos}))


def _proposals(connection: sqlite3.Connection, found: Reestimated) -> None:
    """Every recorded report, from the samples up to the position that it names."""
    reports = [
        (seen.pos, seen.event)
        for seen in _seen(connection, ["calibration.proposed"])
        if isinstance(seen.event, CalibrationProposed)
    ]
    folded = Keyed(CALIBRATION)
    rows = _seen(connection, [event_type(kind) for kind in CALIBRATION.handles])
    ahead = next(rows, None)
    for pos, report in sorted(reports, key=lambda each: each[1].position):
        while ahead is not None and ahead.pos <= report.position:
            folded.feed(ahead)
            ahead = next(rows, None)
        _compare(found, _again(connection, folded, report), (pos, report), pos)


def _again(
    connection: sqlite3.Connection, folded: Keyed[PhaseSamples], report: CalibrationProposed
) -> CalibrationProposed:
    row = connection.execute(_HASH, (report.position,)).fetchone()
    settings = Settings(
        min_samples=report.min_samples,
        confidence_threshold=report.confidence_threshold,
        coefficient_version=report.coefficient_version,
        include_run_ids=report.include_run_ids,
        since=report.since,
    )
    digest = (row[0] if row else bytes(32)).hex()
    head = LogHead(position=report.position, hash=digest, recorded_us=None)
    return event_of(calibrate(samples_of(folded.values()), settings, log=head))
