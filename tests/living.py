"""A daemon on virtual time: a backlog in memory, a script for an executor, and its log to read.

Needs a test that runs on ``engine.drain.virtual.VirtualTimeLoop``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import anyio

from engine.audit.lines import Line, commands
from engine.audit.redecide import Redecision
from engine.backlog.batch import Registration
from engine.calibration.estimator import Coefficients
from engine.daemon.notify import Notifier
from engine.daemon.service import Service
from engine.daemon.settings import Plan, Settings, plan_of
from engine.daemon.telling import Teller
from engine.detect.reclassification import Changed
from engine.drain.virtual import VirtualClock
from engine.events import (
    AnyEvent,
    AttemptStarted,
    Classified,
    PhaseRegistered,
    Reclassified,
    Record,
    RunRegistered,
    SessionEnded,
    event_of,
)
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.blobs import MemoryBlobs
from engine.store.location import Location
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Writer, recording
from engine.triage.policy import POLICIES, Policy

WRITER = Writer("host", "boot", 1, "runoff daemon", "0")
MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86_400


def us(text: str) -> int:
    """Unix microseconds of ISO 8601 with a zone."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6)


def changed(attempt_id: str, pos: int, basis: int, *, text: str = "words") -> Changed:
    """What a rule set says of an attempt that ended at ``pos``."""
    event = Reclassified(
        session_id="ses",
        run_id="r",
        phase_id="p",
        attempt_id=attempt_id,
        what="fingerprint",
        detector="standard-1",
        timeouts="detected",
        before=None,
        after=Classified(detector="fp-1", name="f", text=text),
        by="ann",
        why="x",
    )
    return Changed(pos=pos, basis=basis, events=(event,))


def group(run_id: str, phases: int) -> Registration:
    """A run to register."""
    events: list[AnyEvent] = [RunRegistered(run_id=run_id, origin="test", state="NEW")]
    events += [
        PhaseRegistered(
            run_id=run_id,
            phase_id=f"p{number}",
            tier_id="T",
            tier_index=0,
            phase_index=number,
            name="",
            state="QUEUED",
        )
        for number in range(phases)
    ]
    return Registration(key=f"run/{run_id}", stream=f"run/{run_id}", events=tuple(events))


class SettableClock(VirtualClock):
    """One that somebody sets; how long is waited for something does not change by that."""

    def set_back(self, seconds: float) -> None:
        """From now on it shows so much less."""
        self._start_us -= round(seconds * 1e6)

    def set_ahead(self, seconds: float) -> None:
        """From now on it shows so much more, as behind a sleep of the machine."""
        self.set_back(-seconds)


class Lines:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []
        self.errors: list[str] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    def error(self, event: str, **facts: Any) -> None:
        self.errors.append(facts["text"])
        self.info(event, **facts)


class Living:
    """A log with lives of a daemon, one after the other; ``plan`` is what is read at a reload."""

    def __init__(
        self,
        start: str = "2026-11-26T12:00:00+00:00",
        *,
        policy: Policy | None = None,
        rules: Sequence[Rule] = (Rule(state="COMPLETE", rc=0, events=1, sleep=MINUTE_S),),
        **settings: Any,
    ) -> None:
        self.store = MemoryStore()
        self.clock = VirtualClock(us(start))
        self.numbers = iter(range(10**9))
        self.ids = IdMaker(self.clock.now_us, lambda: next(self.numbers))
        self.executor = ScriptedExecutor(list(rules))
        self.plan: Plan = plan_of(Settings(**settings), policy or POLICIES["default"])
        self.blobs = MemoryBlobs()
        self.coefficients: Callable[[], Awaitable[Coefficients | None]] | None = None
        self.place: Location | None = None
        self.lines = Lines()

    def again(self, policy: Policy | None = None, **settings: Any) -> None:
        """What the next reload reads."""
        self.plan = plan_of(Settings(**settings), policy or self.plan.policy)

    @asynccontextmanager
    async def life(self, *groups: Registration) -> AsyncGenerator[Service, None]:
        """One life: it is stopped at the end of the block, and must come to its end."""
        async with recording(self.store, self.clock, WRITER) as recorder:
            service = Service(
                recorder=recorder,
                executor=self.executor,
                clock=self.clock,
                ids=self.ids,
                blobs=self.blobs,
                load=lambda: self.plan,
                plan=self.plan,
                teller=Teller(self.lines, lambda event: type(event).__name__, lambda: 0),
                notifier=Notifier({}),
                in_threads=False,
                coefficients=self.coefficients,
                place=self.place,
            )
            await service.open()
            for each in groups:
                await service.intake.register(each)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(service.run)
                yield service
                service.stop()

    async def records(self, *types: str) -> list[Record]:
        """All records of these types."""
        found: list[Record] = []
        while page := await self.store.records(
            Query(types=types), after=found[-1].pos if found else 0
        ):
            found += page
        return found

    async def events(self, *types: str) -> list[AnyEvent]:
        """The same as events."""
        return [event_of(record) for record in await self.records(*types)]

    async def starts(self) -> list[int]:
        """When attempts were started, in Unix microseconds."""
        return [r.recorded_us for r in await self.records("attempt.started")]

    async def sessions_of_starts(self) -> list[str]:
        """The session of each attempt, in order."""
        found = await self.events("attempt.started")
        return [event.session_id for event in found if isinstance(event, AttemptStarted)]


async def audited(living: Living) -> None:
    """Every decision of the log is taken again alike."""
    again = Redecision(living.blobs.get)
    lines = [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r))
        for r in await living.records()
    ]
    for each in commands(lines):
        again.take(each)
    assert [difference.sentence for difference in again.differences] == []
    assert again.unverifiable == []


async def ends(living: Living) -> list[str]:
    """Why each session ended, in order."""
    found = await living.events("session.ended")
    return [event.because for event in found if isinstance(event, SessionEnded)]
