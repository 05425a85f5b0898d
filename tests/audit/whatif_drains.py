"""Small scripted backlogs, really drained by one worker under one policy and under another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from engine.audit.lines import Line, commands
from engine.audit.whatif import walked
from engine.audit.whatif_result import WhatIf
from engine.drain.loop import Drain
from engine.drain.virtual import VirtualClock
from engine.events import (
    AnyEvent,
    AttemptStarted,
    Limits,
    Order,
    RunRegistered,
    event_of,
)
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore, MemoryBlobs
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.operating import Operation, operated
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from projections.board import Board
from tests.harness.backlogs import queued
from tests.worlds import START_US, WRITER


class Run(NamedTuple):
    """A run of the backlog; ``phases``: for each the outcomes of its attempts, in order.

    ``failed``: by which reason phases had failed before they came.
    """

    run_id: str
    order: Order
    phases: Sequence[Sequence[Rule]]
    failed: Mapping[str, str] = {}


class Figures(NamedTuple):
    """What drains came to."""

    attempts: int
    tokens: int
    successes: int


class Drained(NamedTuple):
    """The log of real drains, and what they came to."""

    lines: list[Line]
    figures: Figures


def fails(reason: str, tokens: int = 0) -> Rule:
    """An attempt that fails; with ``tokens`` it yields one usage record."""
    usage = [{"output_tokens": tokens}] if tokens else None
    return _rule(rc=1, reason=reason, usage=usage)


def succeeds(tokens: int = 0) -> Rule:
    """An attempt that succeeds, after a usage record of ``tokens``, if any."""
    return _rule(usage=[{"output_tokens": tokens}] if tokens else None)


def times_out() -> Rule:
    """An attempt that never ends by itself."""
    return _rule(sleep=9_000.0)


def _rule(**fields: object) -> Rule:
    return msgspec.convert({"sleep": 60.0} | {k: v for k, v in fields.items() if v}, Rule)


def backlog(runs: Sequence[Run]) -> list[AnyEvent]:
    """The runs and their phases as events."""
    events: list[AnyEvent] = []
    for run in runs:
        events.append(RunRegistered(run_id=run.run_id, origin="test", state="NEW"))
        events += [
            replace(
                queued(run.run_id, f"p{number}"),
                phase_index=number,
                order=run.order,
                last_failure_reason=run.failed.get(f"p{number}"),
            )
            for number in range(len(run.phases))
        ]
    return events


def script(runs: Sequence[Run]) -> list[Rule]:
    """One rule for each attempt that is told; the last one of a phase goes on for ever."""
    found: list[Rule] = []
    for run in runs:
        for phase, outcomes in enumerate(run.phases):
            place = {"run": run.run_id, "phase": f"p{phase}"}
            numbered = [replace(r, attempt=n, **place) for n, r in enumerate(outcomes, 1)]
            found += [*numbered, replace(outcomes[-1], **place)]
    return found


async def drained(
    runs: Sequence[Run],
    policy: Policy,
    *,
    batch_sizes: Sequence[int] = (200,),
    workers: int = 1,
    between: Sequence[Operation] = (),
    blobs: BlobStore | None = None,
    bounds: Mapping[str, Any] | None = None,
) -> Drained:
    """Drain ``runs`` for real, a session for each of ``batch_sizes``.

    ``between``: what a person asks for once the first session has ended.  ``bounds``: further
    limits of every session.
    """
    store, clock = MemoryStore(), VirtualClock(START_US)
    ids = IdMaker(clock.now_us, lambda: 7)
    async with recording(store, clock, WRITER) as recorder:
        await recorder.submit(Command("backlog", "backlog", b"", just(*backlog(runs))))
        for number, batch_size in enumerate(batch_sizes):
            for asked in between if number == 1 else ():
                event = operated(asked, recorder.board, clock.now_us())
                await recorder.submit(Command(ids("cmd"), "operator", b"", just(event)))
            limits = Limits(
                batch_size=batch_size,
                workers=workers,
                per_run_max=2,
                phase_timeout_ms=900_000,
                grace_ms=100,
                **(bounds or {}),
            )
            drain = Drain(
                recorder=recorder,
                executor=ScriptedExecutor(script(runs)),
                scope=Scope(ids("ses"), policy, limits),
                clock=clock,
                ids=ids,
                blobs=blobs,
                tell=lambda _records: None,
                in_threads=False,
            )
            await drain.run(resume=False)
        figures = figures_of(recorder.board)
    records = await store.records(Query(), limit=1_000_000)
    lines = [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r)) for r in records
    ]
    return Drained(lines, figures)


def figures_of(board: Board) -> Figures:
    """What all sessions of a board came to."""
    sessions = list(board.sessions.values())
    return Figures(
        sum(s.attempts for s in sessions),
        sum(s.tokens for s in sessions),
        sum(s.succeeded for s in sessions),
    )


def held_against(recorded: Drained, policy: Policy) -> WhatIf:
    """What ``policy`` would have come to, by the log of the recorded drains."""
    return walked(commands(recorded.lines), policy, MemoryBlobs().get)


def told(recorded: Drained, found: WhatIf) -> Figures:
    """The figures that a what-if claims."""
    tokens = recorded.figures.tokens - sum(each.tokens for each in found.not_made)
    lost = sum(each.ending == "succeeded" for each in found.not_made)
    return Figures(found.attempts_made, tokens, recorded.figures.successes - lost)


def made(recorded: Drained, left_out: Collection[str] = ()) -> Counter[tuple[str, str]]:
    """How often each phase was attempted, without the attempts in ``left_out``."""
    return Counter(
        (line.event.run_id, line.event.phase_id)
        for line in recorded.lines
        if isinstance(line.event, AttemptStarted) and line.event.attempt_id not in left_out
    )


def horizons(found: WhatIf) -> Mapping[str, int]:
    """Where the horizon of each run lies."""
    return {each.run_id: each.pos for each in found.horizons}
