"""Verify: check a log against its invariants, sharing no code with those who write it.

It reads rows with the standard library alone, recomputes the chain, and follows attempts, runs and
sessions through the log in one pass.  What it finds is named with the position where it shows.
Source of the invariants: docs/reference/invariants.md.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from engine.audit.anchored import Anchors, AnchorsState
from engine.audit.chain import Chain, Row
from engine.audit.histories import Histories
from engine.errors import LogUnreadable
from engine.store.location import Location

VIOLATIONS_MAX = 1000
WHAT_CHARS_MAX = 500
_SQL = f"SELECT {', '.join(Row._fields)} FROM events NOT INDEXED ORDER BY pos"  # noqa: S608  fixed
_TAGS = (
    ("session", "session_id"),
    ("run", "run_id"),
    ("phase", "phase_id"),
    ("attempt", "attempt_id"),
)
_NULLABLE = ("cause", "session", "run", "phase", "attempt")
_BYTES = ("request", "hash")
_INTEGERS = (
    "pos",
    "version",
    "idx",
    "schema",
    "occurred_us",
    "recorded_us",
    "cause",
    "epoch",
)
KNOWN_SCHEMAS: Mapping[str, int] = {
    "attempt.adopted": 1,
    "attempt.finished": 2,
    "attempt.spawned": 1,
    "attempt.started": 2,
    "backlog.import_finished": 1,
    "backlog.phase_registered": 1,
    "backlog.phase_requeued": 1,
    "backlog.run_registered": 1,
    "backlog.tier_registered": 1,
    "diagnosis.boundary_detected": 2,
    "diagnosis.fingerprinted": 1,
    "diagnosis.zero_yield_explained": 1,
    "engine.started": 1,
    "operator.account_resumed": 1,
    "operator.breaker_reset": 1,
    "operator.run_reinstated": 1,
    "session.draining": 2,
    "session.ended": 2,
    "session.policy_adopted": 1,
    "session.resumed": 2,
    "session.started": 2,
    "triage.account_paused": 1,
    "triage.account_recovered": 1,
    "triage.attempt_deferred": 1,
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


class Violation(NamedTuple):
    """Something that does not hold, and the log position where it shows."""

    what: str
    pos: int | None


@dataclass
class Verification:
    """What was found; ``ok`` when nothing was.

    ``found`` counts all violations, of which the first thousand are kept.  ``head``: the last
    chain hash in hex, zeros for an empty log.  ``epoch``: the newest one, 0 when there is none.
    """

    violations: list[Violation] = field(default_factory=list[Violation])
    found: int = 0
    events: int = 0
    open_attempts: int = 0
    head: str = "00" * 32
    epoch: int = 0
    anchors: AnchorsState = "none"

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


def verify(location: Location) -> Verification:
    """Check the log at ``location``; synchronous, one pass, little memory, no byte changed.

    Raises LogUnreadable when the file cannot be read to its end, or holds an event of a type or
    version that this program does not know.
    """
    result = Verification()
    # Before the log, so that what is anchored while the log is read does not seem to be missing.
    anchors = Anchors(location.beside("anchors"), result.report)
    try:
        with closing(_connect(location.path)) as connection:
            connection.execute("BEGIN")
            _follow(connection, anchors, location.beside("files") / "blobs", result)
    except sqlite3.Error as error:
        raise LogUnreadable(
            f"the log cannot be read beyond position {result.events}: {error}.",
            remedy="restore the database from a backup; up to there it was read.",
        ) from error
    result.violations.sort(key=lambda violation: violation.pos or 0)
    return result


def _follow(
    connection: sqlite3.Connection, anchors: Anchors, blobs: Path, result: Verification
) -> None:
    chain = Chain(result.report)
    histories = Histories(result.report, blobs)
    for row in _rows(connection):
        event = _parsed(row, result)
        chain.take(row, event)
        anchors.take(row.pos, row.hash.hex())
        if event is not None:
            histories.take(row.pos, row.cause, event)
        result.events += 1
    histories.close()
    result.open_attempts = histories.open_attempts
    result.head, result.epoch = chain.hash.hex(), chain.epoch

    def hash_at(pos: int) -> str | None:
        found = connection.execute("SELECT hash FROM events WHERE pos = ?", (pos,)).fetchone()
        return None if found is None else found[0].hex()

    result.anchors = anchors.close(chain.pos, hash_at)


def _connect(path: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        # On read-only media the shared-memory file cannot be made; without a WAL there is nothing
        # in flight, so reading the file as immutable is exact.
        if path.with_name(f"{path.name}-wal").exists():
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return connection


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    """Rows one by one, each with columns of the right kind."""
    known: set[tuple[type, ...]] = set()
    last = 0
    for values in connection.execute(_SQL):
        kinds = tuple(map(type, values))
        if kinds not in known:
            _check_kinds(kinds, last)
            known.add(kinds)
        row = Row._make(values)
        last = row.pos
        yield row


def _check_kinds(kinds: tuple[type, ...], last: int) -> None:
    for name, kind in zip(Row._fields, kinds, strict=True):
        expected = bytes if name in _BYTES else int if name in _INTEGERS else str
        if kind is not expected and not (kind is type(None) and name in _NULLABLE):
            raise LogUnreadable(
                f"the event behind position {last} has a {kind.__name__} for {name}.",
                remedy="restore the database from a backup; up to there it was read.",
            )


def _parsed(row: Row, result: Verification) -> dict[str, Any] | None:
    """The data of a row, None (and a report) when it is no JSON object."""
    if not 1 <= row.schema <= KNOWN_SCHEMAS.get(row.type, 0):
        raise LogUnreadable(
            f"the event at position {row.pos} is of type {row.type[:100]!a} version {row.schema},"
            " which this program does not know.",
            remedy="upgrade runoff to the version that wrote this log.",
        )
    try:
        loaded = json.loads(row.data)
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        result.report("S3: the data is not a JSON object", row.pos)
        return None
    event = cast("dict[str, Any]", loaded)
    if event.get("type") != row.type:
        result.report("S3: the type of the data is not that of the row", row.pos)
    for column, name in _TAGS:
        if getattr(row, column) != event.get(name):
            result.report(f"S6: the tag {column} is not that of the data", row.pos)
    return event
