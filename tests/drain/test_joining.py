"""Who shares a log joins with a lease, looks after what others leave, and gives the table back."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from engine.clock import Clock
from engine.drain import joining, sharing
from engine.drain.joining import joined, notice_the_dead
from engine.drain.loop import Drain
from engine.drain.sharing import Left, Share, keeping
from engine.drain.virtual import VirtualTimeLoop
from engine.errors import LogHeld, ServerLost, WrongDatabase
from engine.events import SessionLapsed, SessionLeased
from engine.store.command import Command, just
from engine.store.leases import BEATS_PER_LEASE, LEASE_S, Holder, Lease, MemoryLeases
from engine.store.leaving import Leaving
from engine.store.location import Location
from engine.store.recorder import Recorder
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from tests.drain.shared_world import World
from tests.rules.standings import limits

SERVER = Location("postgresql://h/d", Path("d"))
FILE = Location("sqlite:///d", Path("d"))
OPEN, OVER = "open here", "left over"


class Table(MemoryLeases):
    """A table of leases that is closed once by whoever opened it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.closed = 0
        self.lives_s: list[float] = []
        self.renewed: list[tuple[str, float]] = []

    async def renew(self, holder: Holder, lease_s: float) -> None:
        self.renewed.append((holder.session_id, lease_s))
        await super().renew(holder, lease_s)

    async def close(self) -> None:
        self.closed += 1


class Crew:
    """What joining asks of a drain."""

    def __init__(self, world: World, recorder: Recorder) -> None:
        self.recorder, self.clock, self.ids = recorder, world.clock, world.ids
        self.scope = Scope("s", Policy(name="t"), limits())
        self.is_under_way = True
        self.attended = frozenset({"mine"})
        self.adopted: list[Any] = []

    def tell(self, records: object) -> None:
        """Nobody listens."""

    def adopt(self, adoptions: list[Any]) -> None:
        self.adopted.append(adoptions)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    made.leases = Table(made.clock)

    async def leases(
        location: Location | None, leaving: Leaving, lease_s: float = LEASE_S
    ) -> MemoryLeases | None:
        assert location is not None
        assert isinstance(leaving, Leaving)
        cast("Table", made.leases).lives_s.append(lease_s)
        return made.leases if location is SERVER else None

    monkeypatch.setattr(joining, "open_leases", leases)
    return made


def closed(world: World) -> int:
    return cast("Table", world.leases).closed


def drain_of(crew: Crew) -> Drain:
    return cast("Drain", crew)


@pytest.mark.parametrize("location", [None, FILE])
async def test_who_is_alone_at_a_log_takes_over_all_that_is_open(
    world: World, location: Location | None
) -> None:
    async with world.engine("s", "here") as (recorder, _):
        async with joined(location, drain_of(Crew(world, recorder)), end=False) as among:
            assert among is None
        assert await world.said() == []
        await notice_the_dead(FILE, recorder, world.clock, world.ids)
    assert closed(world) == 0


@pytest.mark.parametrize("lease_s", [LEASE_S, 45.0])
async def test_who_joins_holds_a_lease_on_the_session_and_closes_the_table(
    world: World, lease_s: float
) -> None:
    async with world.engine("other", "here") as (recorder, _):
        more: dict[str, float] = {} if lease_s == LEASE_S else {"lease_s": lease_s}
        async with joined(SERVER, drain_of(Crew(world, recorder)), end=False, **more) as among:
            assert among == frozenset()
            assert [each.holder.session_id for each in await world.leases.all()] == ["s"]
            assert set(cast("Table", world.leases).renewed) == {("s", lease_s)}
        assert cast("Table", world.leases).lives_s == [lease_s]
        (said,) = await world.said()
        assert isinstance(said, SessionLeased)
        assert (said.session_id, said.lease_ms) == ("s", round(lease_s * 1000))
    assert closed(world) == 1


async def test_a_session_that_another_engine_is_at_is_not_joined(world: World) -> None:
    async with world.engine("s", "here") as (_, share), world.engine("t", "here") as (other, _):
        await share.join()
        with pytest.raises(LogHeld):
            async with joined(SERVER, drain_of(Crew(world, other)), end=False):
                pytest.fail("it was joined")
    assert closed(world) == 1


@pytest.mark.parametrize("end", [False, True])
async def test_what_others_leave_is_handed_to_a_drain_that_is_under_way(
    world: World, monkeypatch: pytest.MonkeyPatch, end: bool
) -> None:
    shares: list[Share] = []
    asked: list[Any] = []

    @asynccontextmanager
    async def keeping(share: Share) -> AsyncGenerator[None, None]:
        shares.append(share)
        yield

    async def left(_share: Share, attended: frozenset[str]) -> Left:
        asked.append(attended)
        return Left(frozenset({"a"}), cast("Any", [OVER]))

    async def open_attempts(*arguments: object, **named: object) -> list[Any]:
        asked.append((*arguments, named))
        return [OPEN]

    monkeypatch.setattr(joining, "keeping", keeping)
    monkeypatch.setattr(joining, "open_attempts", open_attempts)
    monkeypatch.setattr(Share, "left", left)
    async with world.engine("other", "here") as (recorder, _):
        crew = Crew(world, recorder)
        async with joined(SERVER, drain_of(crew), end=end):
            crew.is_under_way = False
            await shares[0].look_after()
            assert (asked, crew.adopted) == ([], [])
            crew.is_under_way = True
            await shares[0].look_after()
    where = SERVER.beside("files")
    told = {"end": end, "among": frozenset({"a"}), "files_root": where, "tell": crew.tell}
    assert asked == [crew.attended, (recorder, world.clock, told)]
    assert crew.adopted == [[OPEN, OVER]]


async def test_the_table_is_closed_even_where_the_dead_cannot_be_noticed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_share: Share) -> None:
        raise WrongDatabase("it lets nobody in.", remedy="ask why.")

    async with world.engine("s", "here") as (recorder, _):
        await notice_the_dead(SERVER, recorder, world.clock, world.ids)
        assert closed(world) == 1
        monkeypatch.setattr(Share, "notice", refused)
        with pytest.raises(WrongDatabase):
            await notice_the_dead(SERVER, recorder, world.clock, world.ids)
    assert closed(world) == 2


async def test_who_notices_the_dead_holds_no_session_itself(world: World) -> None:
    async with world.engine("s", "here") as (recorder, share), world.engine("t", "x") as (other, _):
        await share.join()
        dead = Holder("s", recorder.epoch, sharing.place(), 2**22 + 7, 1)
        await world.leases.renew(dead, LEASE_S)
        await notice_the_dead(SERVER, other, world.clock, world.ids)
        leased, lapsed = await world.said()
    assert isinstance(leased, SessionLeased)
    assert isinstance(lapsed, SessionLapsed)
    assert (lapsed.session_id, lapsed.proved) == ("s", True)
    assert await world.leases.all() == []


class LostOnce(MemoryLeases):
    """Leases of a server that is lost at the first of some questions, and back at once."""

    def __init__(self, clock: Clock, *questions: str) -> None:
        super().__init__(clock)
        self.questions = set(questions)

    def _lose(self, question: str) -> None:
        if question in self.questions:
            self.questions.remove(question)
            raise ServerLost("it is away.", remedy="wait.")

    async def renew(self, holder: Holder, lease_s: float) -> None:
        self._lose("renew")
        await super().renew(holder, lease_s)

    async def all(self) -> list[Lease]:
        self._lose("all")
        return await super().all()


async def test_a_server_that_is_lost_while_an_engine_joins_is_waited_for(world: World) -> None:
    world.leases = LostOnce(world.clock, "renew", "all")
    async with world.engine("s", "here") as (recorder, share):
        await share.join()
    assert [each.holder.epoch for each in await world.leases.all()] == [recorder.epoch]


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualTimeLoop})])
async def test_a_server_that_is_lost_while_a_lease_is_renewed_is_waited_for(world: World) -> None:
    world.leases = leases = LostOnce(world.clock)
    async with world.engine("s", "here") as (_, share):
        await share.join()
        leases.questions.add("renew")
        with anyio.move_on_after(LEASE_S / BEATS_PER_LEASE + 1):
            async with keeping(share):
                await anyio.sleep_forever()
    assert [each.renewals for each in await leases.all()] == [2]


async def test_a_server_that_is_lost_while_the_dead_are_looked_for_is_waited_for(
    world: World,
) -> None:
    async with world.engine("dead", "here") as (dead, _):
        lease = SessionLeased(session_id="dead", epoch=1, host="host", lease_ms=15_000)
        await dead.submit(Command("x", "x", b"", just(lease)))
    world.leases = LostOnce(world.clock, "all")
    holder = Holder("dead", dead.epoch, "here boot", 2**22 + 7, 1)
    await world.leases.renew(holder, LEASE_S)
    async with world.engine("s", "here boot") as (_, share):
        await share.look()
    assert [type(each) for each in await world.said()] == [SessionLeased, SessionLapsed]
