"""Backlogs really drained in several parts by many workers, with what a person did in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple
from zlib import crc32

import anyio
from msgspec.structs import replace

from engine.audit.lines import Line
from engine.drain.loop import Drain
from engine.drain.virtual import VirtualClock
from engine.errors import UsageProblem
from engine.events import Limits, SessionDraining, SessionResumed, SessionStarted, event_of
from engine.executors.port import Assignment, Report, Watch
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.operating import (
    Operation,
    ReinstateRun,
    RequeuePhase,
    ResetBreaker,
    ResumeAccount,
    operated,
)
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from projections.board import Board
from tests.audit.test_whatif_decisions import MORE_CHANGES
from tests.audit.test_whatif_limits import LIMIT_CHANGES, limited
from tests.audit.test_whatif_really import DEFAULT, outcome
from tests.audit.whatif_drains import Drained, Run, backlog, figures_of, script
from tests.rules.standings import budget
from tests.worlds import START_US, WRITER

CHANGES = [*MORE_CHANGES, *LIMIT_CHANGES]
OLD_REASONS = ("timeout", "import", "odd")
BUDGETS = (
    budget("phase", "attempts", 2),
    budget("run", "attempts", 3),
    budget("run", "ms", 3_000_000),
    budget("run", "tokens", 40),
    budget("session", "attempts", 6),
    budget("session", "ms", 6_000_000),
    budget("session", "tokens", 60),
    budget("day", "attempts", 9),
)


class Part(NamedTuple):
    """A session, or with ``resumes`` the next part of the one before it.

    ``stops_after_s``: when a person stops it; ``acts``: how much a person does before it.
    """

    limits: Limits
    resumes: bool = False
    stops_after_s: float | None = None
    acts: int = 0
    waits_s: float = 0.0


class World(NamedTuple):
    """A backlog to be drained under one policy and under another."""

    runs: list[Run]
    one: Policy
    other: Policy
    parts: list[Part]
    chooser: Chooser


class Staggered(ScriptedExecutor):
    """Lets every attempt begin at a moment of its own: no two of them time out at once."""

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Play one attempt, a few milliseconds later than another one would be."""
        sheet = assignment.sheet
        place = f"{sheet.run_id} {sheet.phase_id} {sheet.attempt}".encode()
        await anyio.sleep(crc32(place) % 9973 / 1e5)
        return await super().run(assignment, watch)


class Chooser:
    """A person who acts on what the board shows; ``acts``: what was done before each part."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        self.acts: list[list[Operation]] = []

    def choose(self, board: Board, most: int) -> list[Operation]:
        """Up to ``most`` acts, of which some may make no sense."""
        kinds = [kind for kind in _conceivable(board) if kind]
        chosen = [self._random.choice(self._random.choice(kinds)) for _ in range(most)]
        return list(dict.fromkeys(chosen))


def _conceivable(board: Board) -> list[list[Operation]]:
    who = {"by": "x", "why": "y"}
    return [
        [ReinstateRun(run_id=run.run_id, **who) for run in board.runs.values()],
        [RequeuePhase(run_id=p.run_id, phase_id=p.phase_id, **who) for p in board.backlog.values()],
        [ResetBreaker(fingerprint=each.fingerprint, **who) for each in board.breakers.values()],
        [ResumeAccount(account=account.account, **who) for account in board.accounts.values()],
    ]


def world(seed: int) -> World:
    """A backlog, two policies, and the parts in which it is drained."""
    random_ = random.Random(seed)
    kinds = [outcome, outcome, outcome, limited] if random_.random() < 0.4 else [outcome]
    runs = [
        Run(
            f"r{number}",
            random_.choice(["strict", "free"]),
            [_outcomes(random_, kinds) for _ in range(random_.randint(1, 4))],
            {
                f"p{each}": random_.choice(OLD_REASONS)
                for each in range(4)
                if random_.random() < 0.2
            },
        )
        for number in range(random_.randint(1, 8))
    ]
    one = DEFAULT
    for _ in range(random_.randint(0, 2)):
        one = replace(one, **random_.choice(CHANGES))
    other = one
    for _ in range(random_.randint(1, 2)):
        other = replace(other, **random_.choice(CHANGES))
    workers = random_.choice([1, 2, 3, 4, 8])
    parts = [_part(random_, n, workers) for n in range(random_.choice([1, 1, 2, 3, 4]))]
    return World(runs, one, other, parts, Chooser(random_))


def _outcomes(
    random_: random.Random, kinds: Sequence[Callable[[random.Random], Rule]]
) -> list[Rule]:
    chosen = [random_.choice(kinds)(random_) for _ in range(5)] + [outcome(random_)]
    return [
        each if each.sleep > 900 else replace(each, sleep=round(random_.uniform(1, 900), 3))
        for each in chosen
    ]


def _part(random_: random.Random, number: int, workers: int) -> Part:
    limits = Limits(
        batch_size=random_.choice([200, 200, 200, random_.randint(1, 12)]),
        workers=workers if random_.random() < 0.8 else random_.choice([1, 2, 4]),
        per_run_max=random_.choice([1, 2, 2, 4]),
        phase_timeout_ms=900_000,
        grace_ms=100,
        total_ms_max=random_.choice([None, None, None, None, 2_000_000]),
        budgets=tuple(b for b in BUDGETS if random_.random() < random_.choice([0, 0, 0.2])),
    )
    return Part(
        limits,
        resumes=number > 0 and random_.random() < 0.4,
        stops_after_s=random_.choice([None, None, round(random_.uniform(1, 4000), 3)]),
        acts=random_.choice([0, 0, 1, 3]) if number else 0,
        waits_s=random_.choice([0.0, 0.0, 7.0, 90_000.0]) if number else 0.0,
    )


def stopped_as_in(log: Drained, parts: Sequence[Part]) -> list[Part]:
    """The parts without the stops that found nothing to stop, of which no log tells."""
    number, stopped = -1, set[int]()
    for event in (line.event for line in log.lines):
        number += isinstance(event, SessionStarted | SessionResumed)
        if isinstance(event, SessionDraining) and event.because == "interrupted":
            stopped.add(number)
    return [p if n in stopped else p._replace(stops_after_s=None) for n, p in enumerate(parts)]


async def drained_in_parts(
    runs: Sequence[Run],
    policy: Policy,
    parts: Sequence[Part],
    *,
    chooser: Chooser | None = None,
    acts: Sequence[Sequence[Operation]] = (),
    blobs: BlobStore | None = None,
) -> Drained:
    """Drain ``runs`` part by part; what a person does is chosen by ``chooser`` or told by ``acts``.

    An act that makes no sense is refused, as it would be.
    """
    store, clock = MemoryStore(), VirtualClock(START_US)
    ids = IdMaker(clock.now_us, lambda: 7)
    async with recording(store, clock, WRITER) as recorder:
        await recorder.submit(Command("backlog", "backlog", b"", just(*backlog(runs))))
        session_id = ""
        for number, part in enumerate(parts):
            if part.waits_s:
                await anyio.sleep(part.waits_s)
            board, done = recorder.board, list[Operation]()
            for each in chooser.choose(board, part.acts) if chooser else acts[number]:
                with suppress(UsageProblem):
                    event = operated(each, board, clock.now_us())
                    await recorder.submit(Command(ids("cmd"), "operator", b"", just(event)))
                    done.append(each)
            if chooser:
                chooser.acts.append(done)
            session_id = session_id if part.resumes else ids("ses")
            drain = Drain(
                recorder=recorder,
                executor=Staggered(script(runs)),
                scope=Scope(session_id, policy, part.limits),
                clock=clock,
                ids=ids,
                blobs=blobs,
                tell=lambda _records: None,
                in_threads=False,
            )
            await _stopped(drain, part)
        figures = figures_of(recorder.board)
    records = await store.records(Query(), limit=1_000_000)
    lines = [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r)) for r in records
    ]
    return Drained(lines, figures)


async def _stopped(drain: Drain, part: Part) -> None:
    """Drain until it ends, and ask it to stop when it is time."""

    async def stop() -> None:
        if part.stops_after_s is not None:
            await anyio.sleep(part.stops_after_s)
            drain.stopping.asked.set()

    async with anyio.create_task_group() as group:
        group.start_soon(stop)
        await drain.run(resume=part.resumes)
        group.cancel_scope.cancel()
