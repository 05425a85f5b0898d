"""Replay: how a board stood, what one event changes on it, and how two boards differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.events import AnyEvent, Head, Record, Seen, event_of
from engine.store.boards import feed
from projections.board import FOLDS, Board
from projections.fingerprints import FingerprintCount
from projections.fold import SEPARATOR
from projections.sessions import SessionStanding
from projections.zero_yield import TOTAL, YieldCounts

NEWEST_SESSIONS = 10
MOST_SEEN = 10

Rows = Mapping[str, Mapping[str, msgspec.Struct]]
"""The rows of every projection by name and key.  Rows are values: folding on changes none."""


class FieldChange(msgspec.Struct, frozen=True, kw_only=True):
    """One field of a row; ``old`` is None when the row is new."""

    field: str
    old: Any
    new: Any


class RowChange(msgspec.Struct, frozen=True, kw_only=True):
    """A row that is new (then every field is listed) or has changed (then what has).

    ``key``: the ids that name it, such as run and phase.
    """

    projection: str
    key: tuple[str, ...]
    added: bool
    fields: tuple[FieldChange, ...]


class ProjectionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one projection; ``rows``: the ``added`` and ``changed`` ones, by key."""

    name: str
    version: int
    rows_before: int
    rows_after: int
    added: int
    changed: int
    rows: tuple[RowChange, ...]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One event and the rows that changed because of it."""

    record: Record
    event: AnyEvent
    changes: tuple[RowChange, ...]


def rows_of(board: Board) -> Rows:
    """Every row as it is now; what ``board`` is fed later does not show in it."""
    return {keyed.fold.name: dict(keyed.states) for keyed in board.all}


def difference(before: Rows, after: Rows) -> tuple[ProjectionChange, ...]:
    """What differs from ``before`` to ``after``, a later position of the same log.

    One entry for each projection, with or without changes; folds never take a row away.
    """
    return tuple(_projection_change(name, before[name], after[name]) for name in FOLDS)


def _projection_change(
    name: str, before: Mapping[str, msgspec.Struct], after: Mapping[str, msgspec.Struct]
) -> ProjectionChange:
    pairs = ((key, before.get(key), new) for key, new in sorted(after.items()))
    rows = tuple(_changes(name, pairs))
    added = len(after) - len(before)
    return ProjectionChange(
        name=name,
        version=FOLDS[name].version,
        rows_before=len(before),
        rows_after=len(after),
        added=added,
        changed=len(rows) - added,
        rows=rows,
    )


def _changes(
    name: str, rows: Iterable[tuple[str, msgspec.Struct | None, msgspec.Struct]]
) -> Iterable[RowChange]:
    for key, old, new in rows:
        if old is not new and old != new:
            yield RowChange(
                projection=name,
                key=tuple(key.split(SEPARATOR)),
                added=old is None,
                fields=tuple(_fields(old, new)),
            )


def _fields(old: msgspec.Struct | None, new: msgspec.Struct) -> Iterable[FieldChange]:
    for field in new.__struct_fields__:
        is_now = getattr(new, field)
        was = None if old is None else getattr(old, field)
        if old is None or was != is_now:
            yield FieldChange(field=field, old=was, new=is_now)


def step(board: Board, record: Record) -> Step:
    """Feed ``board`` the event that comes next, and say what that changed.

    Raises UnknownEvent for an event that this program cannot read.
    """
    event = event_of(record)
    seen = Seen(record.pos, record.recorded_us, event)
    changes: list[RowChange] = []
    for keyed in board.all:
        if type(event) in keyed.fold.handles:
            before = {key: keyed.get(key) for key in keyed.fold.keys(seen)}
            feed(seen, keyed)
            rows = ((key, old, keyed.states[key]) for key, old in before.items())
            changes += _changes(keyed.fold.name, rows)
    board.head = Head(record.pos, record.hash)
    return Step(record=record, event=event, changes=tuple(changes))


class SessionLine(msgspec.Struct, frozen=True, kw_only=True):
    """One session in short; ``because`` is None while it runs.  All ways add up to ``attempts``."""

    session_id: str
    status: str
    because: str | None
    attempts: int
    open: int
    succeeded: int
    failed: int
    timed_out: int
    abandoned: int
    orphaned: int
    deferred: int
    yield_events: int
    tokens: int


class OpenAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that was running; ``number`` counts since the phase was last requeued."""

    attempt_id: str
    session_id: str | None
    run_id: str
    phase_id: str
    number: int


class FingerprintSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A failure over all sessions: how often, and in how many sessions, it was seen."""

    fingerprint: str
    template: str
    count: int
    sessions: int


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The board in short as of ``position``; ``recorded_us`` is None before the first event.

    ``runs``, ``phases`` and ``sessions`` are counts by standing, state and status; ``zero_yield``
    maps each reason to its attempts.  ``newest_sessions``: at most 10, newest first.
    ``fingerprints``: the at most 10 most seen, without deferred attempts.  ``open_breakers`` are
    fingerprints; ``accounts`` maps those that met a limit to the end of their last pause (Unix
    microseconds).
    """

    position: int
    recorded_us: int | None
    runs: dict[str, int]
    phases: dict[str, int]
    sessions: dict[str, int]
    newest_sessions: tuple[SessionLine, ...]
    open_attempts: tuple[OpenAttempt, ...]
    zero_yield: dict[str, int]
    fingerprints: tuple[FingerprintSeen, ...]
    open_breakers: tuple[str, ...]
    accounts: dict[str, int]


def overview(board: Board, recorded_us: int | None) -> Overview:
    """``board`` in short; ``recorded_us``: when the event at its position was recorded."""
    counts = board.zero_yield.get(TOTAL) or YieldCounts()
    sessions = board.sessions.states.values()
    newest = sorted(sessions, key=lambda s: (s.started_us, s.session_id), reverse=True)
    return Overview(
        position=board.head.pos,
        recorded_us=recorded_us,
        runs=_counted(run.standing for run in board.runs.values()),
        phases=_counted(phase.state for phase in board.backlog.values()),
        sessions=_counted(session.status for session in sessions),
        newest_sessions=tuple(map(_line, newest[:NEWEST_SESSIONS])),
        open_attempts=tuple(_open_attempts(board)),
        zero_yield=dict(sorted(counts.zero_yield.items())),
        fingerprints=_most_seen(board.fingerprints.values()),
        open_breakers=tuple(
            b.fingerprint for b in board.breakers.values() if b.opened_pos is not None
        ),
        accounts={a.account: a.until_us for a in board.accounts.values()},
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _line(session: SessionStanding) -> SessionLine:
    found: dict[str, Any] = {name: getattr(session, name) for name in SessionLine.__struct_fields__}
    return SessionLine(**found)


def _open_attempts(board: Board) -> Iterable[OpenAttempt]:
    # Attempt ids are ordered by time.
    for phase in sorted(board.backlog.values(), key=lambda phase: phase.open_attempt or ""):
        if phase.open_attempt is not None:
            yield OpenAttempt(
                attempt_id=phase.open_attempt,
                session_id=phase.last_session,
                run_id=phase.run_id,
                phase_id=phase.phase_id,
                number=phase.number,
            )


def _most_seen(rows: Iterable[FingerprintCount]) -> tuple[FingerprintSeen, ...]:
    found: dict[str, FingerprintSeen] = {}
    for row in rows:
        known = found.get(row.fingerprint)
        found[row.fingerprint] = FingerprintSeen(
            fingerprint=row.fingerprint,
            template=row.template or (known.template if known else ""),
            count=row.count + (known.count if known else 0),
            sessions=1 + (known.sessions if known else 0),
        )
    most = sorted(found.values(), key=lambda seen: (-seen.count, seen.fingerprint))
    return tuple(seen for seen in most[:MOST_SEEN] if seen.count)
