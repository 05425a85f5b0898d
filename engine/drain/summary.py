"""What a session came to, from the board and the log."""

from __future__ import annotations

from collections import Counter

import msgspec

from engine.events import AttemptFinished, FingerprintStopped, RunStopped, SessionDraining, event_of
from engine.store.protocol import LogReader, Query
from engine.triage.scope import Scope
from projections.board import Board
from projections.sessions import SessionStanding
from projections.zero_yield import YieldCounts, session_key

STOPS_MAX = 1000


class RunLine(msgspec.Struct, frozen=True, kw_only=True):
    """One run's row of the summary; its counts are those of the session."""

    run_id: str
    standing: str
    stopped: str | None
    attempts: int
    timeouts: int
    yield_events: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One session, summed up.  ``stops`` are the sentences of its stop decisions."""

    session_id: str
    because: str
    attempts: int
    succeeded: int
    failed: int
    timed_out: int
    abandoned: int
    orphaned: int
    deferred: int
    yield_events: int
    tokens: int
    boundary_hits: int
    boundaries: dict[str, int]
    zero_yield: dict[str, int]
    stops: list[str]
    runs: list[RunLine]
    work_left: int
    active_ms: int
    head: int


async def summarise(reader: LogReader, board: Board, scope: Scope) -> Summary:
    """The summary of ``scope``'s session at the head of the log."""
    session = board.sessions.states[scope.session_id]
    counts = board.zero_yield.get(session_key(scope.session_id)) or YieldCounts()
    return Summary(
        session_id=session.session_id,
        because=session.because or "running",
        attempts=session.attempts,
        succeeded=session.succeeded,
        failed=session.failed,
        timed_out=session.timed_out,
        abandoned=session.abandoned,
        orphaned=session.orphaned,
        deferred=session.deferred,
        yield_events=session.yield_events,
        tokens=session.tokens,
        boundary_hits=session.boundary_hits,
        boundaries=counts.boundaries,
        zero_yield=counts.zero_yield,
        stops=await _stops(reader, scope.session_id),
        runs=await _runs(reader, board, session),
        work_left=session.work_left or 0,
        active_ms=session.active_ms,
        head=board.head.pos,
    )


async def _stops(reader: LogReader, session_id: str) -> list[str]:
    types = ("triage.run_stopped", "triage.fingerprint_stopped", "session.draining")
    records = await reader.records(Query(session=session_id, types=types), limit=STOPS_MAX)
    return [
        f"{event.run_id}: {event.reason.sentence}"
        if isinstance(event, RunStopped)
        else event.reason.sentence
        for event in map(event_of, records)
        if isinstance(event, RunStopped | FingerprintStopped | SessionDraining)
    ]


async def _runs(reader: LogReader, board: Board, session: SessionStanding) -> list[RunLine]:
    name = session.session_id
    runs = [run for run in board.runs.values() if run.in_session(name).attempts]
    yields = {run.run_id: run.yield_events for run in runs}
    # A run counts the usage of all sessions; where that is more, this one's is asked of the log.
    if sum(yields.values()) != session.yield_events:
        yields = await _yields(reader, name)
    return [
        RunLine(
            run_id=run.run_id,
            standing=run.standing,
            stopped=run.stopped_in(name),
            attempts=run.in_session(name).attempts,
            timeouts=run.timeouts_in(name),
            yield_events=yields.get(run.run_id, 0),
        )
        for run in runs
    ]


async def _yields(reader: LogReader, session_id: str) -> Counter[str]:
    """How many usage records each run had in the session."""
    found = Counter[str]()
    ends = Query(session=session_id, types=("attempt.finished",))
    pos = 0
    while records := await reader.records(ends, after=pos):
        for event in map(event_of, records):
            assert isinstance(event, AttemptFinished)
            found[event.run_id] += event.yield_events
        pos = records[-1].pos
    return found
