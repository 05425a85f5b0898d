"""Verify: check a log against its invariants, sharing no code with those who write it.

It reads rows with the standard library alone, recomputes the chain, and follows attempts, runs and
sessions through the log in one pass.  What it finds is named with the position where it shows.
Source of the invariants: docs/reference/invariants.md.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from engine.audit.anchored import AnchorsState
from engine.audit.chain import Report
from engine.audit.connection import connect
from engine.audit.derived import check_derived
from engine.audit.histories import Histories
from engine.audit.local import local
from engine.audit.parts import Tags
from engine.audit.requests import Requests
from engine.audit.rows import Asked, follow, not_read
from engine.audit.schema import check_schema
from engine.pace import Pace
from engine.store.location import Location

VIOLATIONS_MAX = 1000
WHAT_CHARS_MAX = 500
_TAGS = ("session_id", "run_id", "phase_id", "attempt_id")
KNOWN_SCHEMAS: Mapping[str, int] = {
    "attempt.adopted": 1,
    "attempt.estimated": 1,
    "attempt.finished": 3,
    "attempt.spawned": 1,
    "attempt.started": 2,
    "backlog.import_finished": 1,
    "backlog.phase_registered": 2,
    "backlog.phase_requeued": 1,
    "backlog.run_registered": 1,
    "backlog.tier_registered": 1,
    "calibration.coefficients_adopted": 1,
    "calibration.drift_alarmed": 1,
    "calibration.proposed": 1,
    "daemon.configured": 1,
    "daemon.paused": 1,
    "daemon.resumed": 1,
    "diagnosis.boundary_detected": 4,
    "diagnosis.fingerprinted": 2,
    "diagnosis.reclassified": 1,
    "diagnosis.zero_yield_explained": 2,
    "engine.started": 1,
    "operator.account_resumed": 1,
    "operator.breaker_reset": 1,
    "operator.run_reinstated": 1,
    "session.coefficients_in_force": 1,
    "session.draining": 3,
    "session.ended": 3,
    "session.lapsed": 1,
    "session.leased": 1,
    "session.part_lost": 1,
    "session.policy_adopted": 1,
    "session.resumed": 3,
    "session.started": 3,
    "triage.account_paused": 1,
    "triage.account_recovered": 1,
    "triage.attempt_deferred": 2,
    "triage.breaker_closed": 1,
    "triage.breaker_opened": 1,
    "triage.breaker_probed": 1,
    "triage.budget_reached": 1,
    "triage.fingerprint_stopped": 1,
    "triage.run_cooled_down": 1,
    "triage.run_judged": 2,
    "triage.run_stopped": 2,
    "usage.estimate_imported": 1,
    "usage.imported": 1,
    "usage.recorded": 1,
    "usage.rejected": 1,
}


class _TwiceNamed(ValueError):
    """An object has two fields of one name, of which readers may take either."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceNamed(next(name for name in names if names.count(name) > 1))
    return fields


def _no_number(text: str) -> None:
    """JSON has no such number, though the standard library reads it."""
    raise ValueError(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number)


class Violation(NamedTuple):
    """Something that does not hold, and the log position where it shows."""

    what: str
    pos: int | None


@dataclass
class Verification:
    """What was found; ``ok`` when nothing was.

    ``found`` counts all violations, of which the first thousand are kept.  ``head``: the last
    chain hash in hex, zeros for an empty log.  ``epoch``: the newest one, 0 when there is none.
    ``anchored``: the last position that an anchor holds, 0 for none.
    """

    violations: list[Violation] = field(default_factory=list[Violation])
    found: int = 0
    events: int = 0
    open_attempts: int = 0
    head: str = "00" * 32
    epoch: int = 0
    anchors: AnchorsState = "none"
    anchored: int = 0

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return self.found == 0

    def report(self, what: str, pos: int | None) -> None:
        """Note a violation; beyond the first thousand they are only counted."""
        self.found += 1
        if len(self.violations) < VIOLATIONS_MAX:
            # A doctored log may name things with half a character, which nothing can print.
            printable = what[:WHAT_CHARS_MAX].encode(errors="replace").decode()
            self.violations.append(Violation(printable, pos))


def verify(location: Location, *, is_copy: bool = False, pace: Pace | None = None) -> Verification:
    """Check the log at ``location``; synchronous, one pass, little memory, no byte changed.

    ``is_copy``: it is a copy of its rows alone, without what keeps them as they were written.
    ``pace`` is told how far it has come.

    Raises LogUnreadable when the file cannot be read to its end, or holds an event of a type or
    version that this program does not know.
    """
    with local(location, pace) as place:
        return _verified(place, is_copy=is_copy or place.is_shared, pace=pace)


def _verified(location: Location, *, is_copy: bool, pace: Pace | None) -> Verification:
    result = Verification()
    histories = Histories(result.report, location.beside("files") / "blobs")
    requests = Requests(result.report)

    def each(pos: int, kind: str, tags: Tags, data: str, asked: Asked) -> None:
        requests.take(pos, asked.command_id, asked.request, (kind, tags.attempt, data))
        event = _parsed(pos, kind, tags, data, result)
        if event is not None:
            histories.take(pos, asked.cause, event)

    followed = follow(location, KNOWN_SCHEMAS, result.report, each, pace)
    histories.close()
    requests.close()
    _look_beside_rows(location, result, check_derived)
    result.events, result.open_attempts = followed.events, histories.open_attempts
    result.head, result.epoch = followed.hash.hex(), followed.epoch
    result.anchors, result.anchored = followed.anchors, followed.anchored
    result.violations.sort(key=lambda violation: violation.pos or 0)
    if not is_copy:
        # Behind the rows: what is wrong with those is wrong at a place.
        _look_beside_rows(location, result, check_schema)
    return result


def _look_beside_rows(
    location: Location, result: Verification, check: Callable[[sqlite3.Connection, Report], None]
) -> None:
    """Let ``check`` look at what stands in the file beside the rows, at one moment."""
    try:
        with closing(connect(location.path)) as connection:
            connection.execute("BEGIN")
            check(connection, result.report)
    except sqlite3.Error as error:
        raise not_read(error, "beside its events") from error


def _parsed(
    pos: int, kind: str, tags: Tags, data: str, result: Verification
) -> dict[str, Any] | None:
    """The data of a row, None (and a report) when it is no JSON object."""
    try:
        loaded = _DECODER.decode(data)
    except _TwiceNamed as error:
        result.report(f"S3: the data names {error.args[0]!a:.80} twice", pos)
        return None
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        result.report("S3: the data is not a JSON object", pos)
        return None
    event = cast("dict[str, Any]", loaded)
    if event.get("type") != kind:
        result.report("S3: the type of the data is not that of the row", pos)
    for column, name, tag in zip(Tags._fields, _TAGS, tags, strict=True):
        if tag != event.get(name):
            result.report(f"S6: the tag {column} is not that of the data", pos)
    return event
