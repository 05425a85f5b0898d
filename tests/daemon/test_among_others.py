"""A daemon that rests while others are at the same log: what it shows, and what it sees to."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import gethostname
from typing import Any

import anyio
import pytest

from engine.daemon.service import Service
from engine.daemon.settings import Settings, plan_of
from engine.drain import commands, joining
from engine.drain.intake import registering
from engine.drain.sharing import Share, place
from engine.events import AttemptFinished, SessionLapsed, SessionLeased, SessionStarted
from engine.executors.scripted import Rule
from engine.store.command import Command, just
from engine.store.leases import BEATS_PER_LEASE, LEASE_S, Holder, MemoryLeases
from engine.store.leaving import Leaving
from engine.store.location import Location
from engine.store.memory import MemoryStore
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import POLICIES, Policy
from engine.triage.scope import Scope
from tests.living import HOUR_S, MINUTE_S, WRITER, Living, group
from tests.rules.standings import started

BEAT_S = LEASE_S / BEATS_PER_LEASE
DEAD_PID = 1 << 30
THEIRS = Scope("t", Policy(name="theirs"), plan_of(Settings(), POLICIES["default"]).limits)
HERE = gethostname()


class Sharing(Living):
    """A daemon on a log that others share; ``leases``: the table of who lives."""

    def __init__(self, start: str = "2026-11-26T12:00:00+00:00", **settings: Any) -> None:
        super().__init__(start, **settings)
        self.store = MemoryStore(is_shared=True)
        self.place = Location("postgresql://h/d", Path("d"))
        self.leases = MemoryLeases(self.clock)

    async def open_leases(
        self, _location: Location, _leaving: Leaving, _lease_s: float = LEASE_S
    ) -> MemoryLeases:
        return self.leases

    @asynccontextmanager
    async def another(self, host: str = HERE) -> AsyncGenerator[Recorder, None]:
        writer = Writer(host, "boot", DEAD_PID, "runoff daemon", "0")
        async with recording(self.store, self.clock, writer) as recorder:
            yield recorder

    async def leave(self, recorder: Recorder, *, here: str | None = None) -> None:
        """An engine leaves an attempt that it had just started, and was killed."""
        await recorder.submit(registering(group("s", 1)))
        host = (here or place()).partition(" ")[0]
        leased = SessionLeased(session_id="t", epoch=recorder.epoch, host=host, lease_ms=15_000)
        await recorder.submit(Command(self.ids("cmd"), "x", b"", just(leased)))
        holder = Holder("t", recorder.epoch, here or place(), DEAD_PID, 1)
        await self.leases.renew(holder, LEASE_S)
        await recorder.submit(commands.begin(self.ids("cmd"), THEIRS, "x", resume=False))
        left = started(session_id="t", run_id="s", phase_id="p0", attempt_id="left")
        await recorder.submit(Command(self.ids("cmd"), "x", b"", just(left)))

    async def endings(self) -> dict[str, str]:
        """How attempts ended."""
        found = await self.events("attempt.finished")
        return {e.attempt_id: e.ending for e in found if isinstance(e, AttemptFinished)}

    async def lapses(self) -> list[tuple[int, bool]]:
        """Which engines are known to have lapsed, and whether that is proved."""
        found = await self.events("session.lapsed")
        return [(each.epoch, each.proved) for each in found if isinstance(each, SessionLapsed)]

    async def begun(self) -> list[str]:
        """The sessions that were begun, but the dead engine's."""
        found = await self.events("session.started")
        ids = [each.session_id for each in found if isinstance(each, SessionStarted)]
        return [each for each in ids if each != "t"]


@pytest.fixture
async def living(monkeypatch: pytest.MonkeyPatch) -> Sharing:
    made = Sharing()
    monkeypatch.setattr(joining, "open_leases", made.open_leases)
    return made


async def paused(service: Service) -> None:
    await service.pause("ann", "lunch")
    await anyio.sleep(HOUR_S)


async def test_one_that_rests_on_a_shared_log_shows_what_others_have_appended() -> None:
    living = Living()
    living.store = MemoryStore(is_shared=True)
    async with living.life(group("r", 1)) as service:
        await paused(service)
        async with recording(living.store, living.clock, WRITER) as other:
            await other.submit(registering(group("s", 2)))
            assert await service.settle()
            status = service.status()
            assert status.phases == {"QUEUED": 3}
            assert status.position == other.head.pos


async def test_one_that_rests_closes_what_an_engine_of_its_host_left_that_was_killed(
    living: Sharing,
) -> None:
    async with living.life() as service:
        await paused(service)
        async with living.another() as other:
            await living.leave(other)
            await anyio.sleep(BEAT_S + 1)
            assert await living.lapses() == [(other.epoch, True)]
            assert await living.endings() == {"left": "orphaned"}
        assert service.state == "paused"
        await anyio.sleep(HOUR_S)
        assert len(await living.starts()) == 1
        assert await living.begun() == []  # it goes on with the dead one's
        await service.resume("ann", "back")
        await anyio.sleep(2 * MINUTE_S)
        assert len(await living.starts()) == 2
        assert set((await living.endings()).values()) == {"orphaned", "succeeded"}


async def test_one_that_is_started_while_no_window_is_open_is_ready_when_the_dead_are_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    living = Sharing(windows=("Mon-Sun 20:00-21:00",))
    monkeypatch.setattr(joining, "open_leases", living.open_leases)
    async with living.another() as other:
        await living.leave(other)
    async with living.life() as service:
        await anyio.sleep(1)
        assert service.is_ready
        assert await living.endings() == {"left": "orphaned"}
        assert service.state == "window_closed"
        await anyio.sleep(HOUR_S)
        assert len(await living.starts()) == 1
        await anyio.sleep(8 * HOUR_S)
        assert len(await living.starts()) == 2


async def test_one_that_a_person_must_look_at_still_waits_for_that_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    policy = Policy(name="strict", consecutive_zero_yield_max=1)
    fails = Rule(state="FAILED", rc=1, events=0, sleep=1)
    living = Sharing(policy=policy, rules=(fails,))
    monkeypatch.setattr(joining, "open_leases", living.open_leases)
    async with living.life(group("r", 3)) as service:
        await anyio.sleep(HOUR_S)
        assert service.state == "halted"
        so_far = len(await living.starts())
        async with living.another() as other:
            await living.leave(other)
            await anyio.sleep(BEAT_S + 1)
            assert (await living.endings())["left"] == "orphaned"
        await anyio.sleep(HOUR_S)
        assert service.state == "halted"
        assert len(await living.starts()) == so_far + 1


async def test_one_that_rests_says_when_another_host_is_silent_for_the_life_of_a_lease(
    living: Sharing,
) -> None:
    async with living.life() as service:
        await paused(service)
        async with living.another("far") as other:
            await living.leave(other, here="far boot")
            await anyio.sleep(LEASE_S - 1)
            assert await living.lapses() == []
            await anyio.sleep(2 * BEAT_S)
            assert await living.lapses() == [(other.epoch, False)]


async def test_what_an_engine_at_work_on_the_same_host_sees_to_is_left_to_it(
    living: Sharing,
) -> None:
    async with living.life() as service:
        await paused(service)
        async with living.another() as at_work, living.another() as other:
            share = Share(at_work, living.leases, living.clock, living.ids, "w")
            await share.join()
            await living.leave(other)
            for _ in range(10):
                await share.renew()
                await anyio.sleep(BEAT_S)
            assert await living.lapses() == [(other.epoch, True)]
            assert await living.endings() == {}
            # It dies, too: then there is nobody else.
            await anyio.sleep(3 * LEASE_S)
            assert await living.endings() == {"left": "orphaned"}


async def notice(living: Sharing, other: Recorder) -> None:
    """An engine at no session says that another has died, and sees to nothing."""
    await Share(other, living.leases, living.clock, living.ids, "").look()
    assert len(await living.lapses()) == 1


async def test_what_somebody_noticed_who_does_nothing_is_seen_to_at_the_second_look(
    living: Sharing,
) -> None:
    async with living.life() as service, living.another() as noticing, living.another() as other:
        await paused(service)
        await living.leave(other)
        await notice(living, noticing)
        await anyio.sleep(BEAT_S + 1)
        assert await living.endings() == {}
        await anyio.sleep(BEAT_S)
        assert await living.endings() == {"left": "orphaned"}


async def test_what_was_noticed_before_one_rests_is_seen_to_at_its_first_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    living = Sharing(windows=("Mon-Sun 20:00-21:00",))
    monkeypatch.setattr(joining, "open_leases", living.open_leases)
    async with living.another() as noticing, living.another() as other:
        await living.leave(other)
        await notice(living, noticing)
        async with living.life():
            await anyio.sleep(1)
            assert await living.endings() == {"left": "orphaned"}


async def test_two_that_rest_see_to_it_once_and_an_hour_of_rest_says_nothing(
    living: Sharing,
) -> None:
    async with living.life() as service, living.life() as second:
        await service.pause("ann", "lunch")
        await paused(second)
        at_rest, leased = (await living.store.head()).pos, await living.records("session.leased")
        await anyio.sleep(HOUR_S)
        assert (await living.store.head()).pos == at_rest
        async with living.another() as other:
            await living.leave(other)
            await anyio.sleep(BEAT_S + 1)
            assert await living.endings() == {"left": "orphaned"}
        after = (await living.store.head()).pos
        await anyio.sleep(HOUR_S)
        assert (await living.store.head()).pos == after
        # By the dead engine, and by the one that saw to it.
        assert len(await living.records("session.leased")) == len(leased) + 2
