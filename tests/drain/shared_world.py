"""A log in memory that engines share, with one hand-set clock and one table of leases."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from engine.clock import HandSetClock
from engine.drain.sharing import CLOCKS_APART_US, OVERSTAY_S, Share
from engine.errors import ServerLost
from engine.events import (
    AnyEvent,
    AttemptSpawned,
    PolicyAdopted,
    RunRegistered,
    SessionLapsed,
    SessionLeased,
    SessionStarted,
    event_of,
)
from engine.executors.processes import boot_id
from engine.ids import IdMaker
from engine.store.leases import Holder, MemoryLeases
from engine.store.memory import MemoryStore
from engine.store.protocol import Query
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from tests.harness.backlogs import queued
from tests.rules.standings import limits, started

LEASE_S = 15.0


class World:
    """A shared log in memory, one clock, one table of leases."""

    def __init__(self) -> None:
        self.store = MemoryStore(is_shared=True)
        self.clock = HandSetClock()
        self.leases = MemoryLeases(self.clock)
        self.numbers = iter(range(1, 10_000))
        self.ids = IdMaker(self.clock.now_us, lambda: next(self.numbers))

    @asynccontextmanager
    async def engine(
        self, session_id: str, here: str, lease_s: float = LEASE_S
    ) -> AsyncGenerator[tuple[Recorder, Share], None]:
        writer = Writer("host", "boot", 1, "test", "0")
        async with recording(self.store, self.clock, writer) as recorder:
            share = Share(
                recorder,
                self.leases,
                self.clock,
                self.ids,
                session_id,
                lease_s=lease_s,
                here=here,
            )
            yield recorder, share

    async def said(self) -> list[SessionLeased | SessionLapsed]:
        records = await self.store.records(Query(types=("session.*",)))
        found = [event_of(r) for r in records]
        return [each for each in found if isinstance(each, SessionLeased | SessionLapsed)]


async def watch(world: World, share: Share, seconds: float) -> None:
    """Let time pass for an engine that beats, looks and renews."""
    while seconds > 0:
        step = min(LEASE_S / 3, seconds)
        world.clock.advance(step)
        seconds -= step
        await share.renew()
        await share.notice()


class Ahead(HandSetClock):
    """The clock of a machine that is minutes ahead of the others."""

    def __init__(self, clock: HandSetClock, seconds: float) -> None:
        super().__init__(clock.now_us() + round(seconds * 1e6))
        self._clock = clock
        self._ahead_us = round(seconds * 1e6)

    def now_us(self) -> int:
        return self._clock.now_us() + self._ahead_us

    def monotonic_s(self) -> float:
        return self._clock.monotonic_s()


class Enough(Exception):
    """So long was watched."""


class Hinted(MemoryLeases):
    """Leases whose hints let the time pass; the server is lost at one moment."""

    def __init__(self, clock: HandSetClock, until_s: float, lost_s: float | None) -> None:
        super().__init__(clock)
        self._hinting, self._until_s, self._lost_s = clock, until_s, lost_s

    async def until_hint(self, limit_s: float) -> None:
        self._hinting.advance(limit_s)
        now_s = self._hinting.monotonic_s()
        if now_s > self._until_s:
            raise Enough
        if self._lost_s is not None and now_s > self._lost_s:
            self._lost_s = None
            raise ServerLost("it is away.", remedy="wait.")


class Beats(Hinted):
    """Leases that write down what is asked of them; others append while a hint is awaited."""

    def __init__(self, world: World, until_s: float) -> None:
        began_s = world.clock.monotonic_s()
        super().__init__(world.clock, began_s + until_s, lost_s=None)
        self.hints_s: list[float] = []
        self.renewed: list[tuple[Holder, float]] = []
        self.meanwhile: Callable[[], Awaitable[None]] = _nothing

    async def renew(self, holder: Holder, lease_s: float) -> None:
        self.renewed.append((holder, lease_s))
        await super().renew(holder, lease_s)

    async def until_hint(self, limit_s: float) -> None:
        self.hints_s.append(limit_s)
        await super().until_hint(limit_s)
        await self.meanwhile()


async def _nothing() -> None:
    """Nobody appends."""


POLICY = Policy(name="t")


HERE, ELSEWHERE = (socket.gethostname(), boot_id()), ("far-away", "b")
NAMESAKE = (socket.gethostname(), "b")


def left_open(session_id: str, where: tuple[str, str]) -> list[AnyEvent]:
    """An attempt that a session started on a machine, which has a name and a boot."""
    host, boot = where
    tags = {"run_id": "r", "phase_id": "p"}
    return [
        RunRegistered(run_id="r", origin="test", state="NEW"),
        queued("r", "p"),
        PolicyAdopted(
            session_id=session_id, policy=POLICY.label, policy_sha256="", policy_json=POLICY.json
        ),
        SessionStarted(session_id=session_id, executor="x", limits=limits(grace_ms=2000)),
        started(**tags, attempt_id="a", session_id=session_id, timeout_ms=10_000),
        AttemptSpawned(
            **tags,
            session_id=session_id,
            attempt_id="a",
            host=host,
            boot_id=boot,
            pid=1,
            start_ticks=None,
            directory="/nowhere",
        ),
    ]


LASTS_S = 12 + OVERSTAY_S
LONG_AGO_S = LASTS_S + CLOCKS_APART_US / 1e6
