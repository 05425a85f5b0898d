"""Rerun: the sessions of a log drained again in memory, under another policy, on virtual time.

Nothing here is known; it is simulated.  Outcomes are the recorded ones where the log has them, and
borrowed where it has none (``engine.executors.recorded`` counts which).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from engine.drain.loop import Drain
from engine.drain.virtual import VirtualClock
from engine.events import (
    AnyEvent,
    AttemptFinished,
    Limits,
    PhaseRegistered,
    RunRegistered,
    SessionResumed,
    SessionStarted,
    Stream,
    TierRegistered,
)
from engine.executors.port import Declared, Executor, Output, Report, Telemetry, Usage
from engine.executors.recorded import RecordedExecutor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore, MemoryBlobs
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.recorder import Writer, recording
from engine.triage.policy import Policy
from engine.triage.scope import Scope

_WRITER = Writer("simulated", "simulated", 1, "whatif", "0")
_BATCH = 256


class _Unread(MemoryBlobs):
    """Takes output that nobody reads again.

    Without a store no evidence of a limit would stand anywhere, and rules that ask for its place
    would decide otherwise.
    """

    def put(self, data: bytes) -> str:
        """The digest of ``data``."""
        return hashlib.sha256(data).hexdigest()


class Recorded(NamedTuple):
    """What a rerun needs of a log: its backlog, its sessions in order, and its outcomes."""

    backlog: Sequence[AnyEvent]
    sessions: Sequence[tuple[str, Limits]]
    outcomes: dict[tuple[str, str], list[Report]]


class Rerun(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulated sessions came to.  ``sources``: where their outcomes came from."""

    attempts: int
    succeeded: int
    failed: int
    timed_out: int
    tokens: int
    usage_events: int
    busy_minutes: float
    runs_deprioritized: int
    sources: dict[str, int]


def recorded(events: Sequence[AnyEvent], blobs: BlobStore) -> Recorded:
    """Take from a log what a rerun needs."""
    backlog: list[AnyEvent] = []
    sessions: dict[str, Limits] = {}
    outcomes: dict[tuple[str, str], list[Report]] = {}
    for event in events:
        if isinstance(event, RunRegistered | TierRegistered | PhaseRegistered):
            backlog.append(event)
        elif isinstance(event, SessionStarted | SessionResumed):
            sessions[event.session_id] = event.limits
        elif isinstance(event, AttemptFinished) and event.ending not in ("abandoned", "orphaned"):
            reports = outcomes.setdefault((event.run_id, event.phase_id), [])
            reports.append(_report(event, blobs))
    return Recorded(backlog, list(sessions.items()), outcomes)


def _report(finished: AttemptFinished, blobs: BlobStore) -> Report:
    """The facts of an end, as its executor may have reported them."""
    told = finished.told
    by_our_timer = finished.ending if told is None else told.ended
    return Report(
        ended="timed_out" if by_our_timer == "timed_out" else "exited",
        duration_ms=finished.duration_ms,
        exit_code=finished.exit_code,
        signal=finished.signal,
        claimed_success=finished.ending == "succeeded",
        final_state=told.state if told is not None else finished.final_state,
        reason=told.reason if told is not None else finished.error,
        clears_reason=told is not None and told.stored_reason is None,
        telemetry=_telemetry(finished),
        declared=_declared(finished),
        stdout=_output(finished.stdout, blobs),
        stderr=_output(finished.stderr, blobs),
        missing_deliverables=finished.missing_deliverables,
    )


def _declared(finished: AttemptFinished) -> Declared | None:
    told = finished.told
    if told is None or told.declared is None:
        return None
    return Declared(kind=told.declared, how=told.declared_by or "recorded")


def _telemetry(finished: AttemptFinished) -> Telemetry:
    """As many usage records, which together took as many tokens."""
    count = finished.yield_events
    if not count:
        return Telemetry()
    each, rest = divmod(finished.tokens, count)
    usage = tuple(
        Usage(line=line, source="script", output_tokens=each + (rest if line == 1 else 0))
        for line in range(1, count + 1)
    )
    return Telemetry(usage=usage, lines_read=count)


def _output(stream: Stream, blobs: BlobStore) -> Output:
    data = blobs.get(stream.digest) if stream.digest else None
    return Output.of(data if data is not None else stream.excerpt.encode())


async def rerun(found: Recorded, policy: Policy, script: Executor | None = None) -> Rerun:
    """Drain the backlog of ``found`` again, session by session.  Needs a loop on virtual time."""
    store, clock = MemoryStore(), VirtualClock()
    executor = RecordedExecutor(found.outcomes, script)
    ids = IdMaker(clock.now_us, lambda: 7)
    async with recording(store, clock, _WRITER) as recorder:
        for start in range(0, len(found.backlog), _BATCH):
            events = found.backlog[start : start + _BATCH]
            await recorder.submit(Command(f"backlog-{start}", "backlog", b"", just(*events)))
        for session_id, limits in found.sessions:
            drain = Drain(
                recorder=recorder,
                executor=executor,
                scope=Scope(session_id, policy, limits),
                clock=clock,
                ids=ids,
                blobs=_Unread(),
                tell=lambda _records: None,
                in_threads=False,
            )
            await drain.run(resume=False)
        sessions = list(recorder.board.sessions.values())
        runs = list(recorder.board.runs.values())
    return Rerun(
        attempts=sum(s.attempts for s in sessions),
        succeeded=sum(s.succeeded for s in sessions),
        failed=sum(s.failed for s in sessions),
        timed_out=sum(s.timed_out for s in sessions),
        tokens=sum(s.tokens for s in sessions),
        usage_events=sum(s.yield_events for s in sessions),
        busy_minutes=sum(s.busy_ms for s in sessions) / 60_000,
        runs_deprioritized=sum(run.standing == "deprioritized" for run in runs),
        sources={str(name): count for name, count in executor.sources.items()},
    )
