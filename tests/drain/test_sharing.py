"""When an engine counts as lapsed, and whose attempts are whose, by hand-set clocks."""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest

from engine.drain import joining, sharing
from engine.drain.sharing import Left, Share, keeping, opened
from engine.drain.virtual import VirtualTimeLoop
from engine.errors import Fenced, LogHeld, LogWentBack, ServerLost, StorageFailed
from engine.events import (
    AttemptAdopted,
    AttemptSpawned,
    Record,
    RunRegistered,
    SessionEnded,
    SessionLapsed,
    SessionLeased,
    encode,
    event_type,
)
from engine.executors.processes import process_start_ticks
from engine.store.command import Command, just
from engine.store.leases import Holder, MemoryLeases
from engine.store.location import Location
from engine.store.protocol import Query
from engine.store.recorder import Recorder
from tests.drain.shared_world import (
    ELSEWHERE,
    HERE,
    LASTS_S,
    LEASE_S,
    NAMESAKE,
    Beats,
    Enough,
    Hinted,
    World,
    left_open,
    watch,
)
from tests.rules.standings import limits, session, started


@pytest.fixture
def world() -> World:
    return World()


Engines = Callable[[int], Awaitable[list[tuple[Recorder, Share]]]]


@pytest.fixture
async def engines(world: World) -> AsyncGenerator[Engines, None]:
    """Engines that have joined; each believes to be on a machine of its own."""
    async with AsyncExitStack() as opened_here:

        async def joined(count: int) -> list[tuple[Recorder, Share]]:
            found: list[tuple[Recorder, Share]] = []
            for number in range(count):
                engine = world.engine(f"s{number}", f"host-{number} boot")
                pair = await opened_here.enter_async_context(engine)
                await pair[1].join()
                found.append(pair)
            return found

        yield joined


async def test_an_engine_joins_by_an_event_and_a_lease(world: World, engines: Engines) -> None:
    (first, _), (second, _) = await engines(2)
    assert (first.epoch, second.epoch) == (1, 2)
    assert [(e.session_id, e.epoch) for e in await world.said()] == [("s0", 1), ("s1", 2)]
    assert [lease.holder.epoch for lease in await world.leases.all()] == [1, 2]


async def test_a_session_that_an_engine_is_at_is_not_joined(world: World, engines: Engines) -> None:
    await engines(1)
    async with world.engine("s0", "elsewhere") as (_, share):
        with pytest.raises(LogHeld, match="engine 1 is at the session"):
            await share.join()


async def test_joining_once_more_is_no_event(world: World, engines: Engines) -> None:
    ((_, share),) = await engines(1)
    await share.join()
    assert len(await world.said()) == 1


async def test_a_lease_lapses_when_it_has_stood_still_for_all_of_its_life(
    world: World, engines: Engines
) -> None:
    (_, frozen), (recorder, watching) = await engines(2)
    await frozen.renew()
    await watching.notice()
    await watch(world, watching, LEASE_S - 1)
    assert recorder.board.sessions.states["s0"].leased_by == 1
    await watch(world, watching, 2)
    lapsed = (await world.said())[-1]
    assert isinstance(lapsed, SessionLapsed)
    assert (lapsed.session_id, lapsed.epoch, lapsed.noticed_by, lapsed.proved) == (
        "s0",
        1,
        2,
        False,
    )
    assert lapsed.host == "host-0"
    assert [lease.holder.epoch for lease in await world.leases.all()] == [2]


async def test_nobody_lapses_who_was_not_seen_standing_still(
    world: World, engines: Engines
) -> None:
    """After an outage all leases have run out by the clock, and nobody was there to renew."""
    (_, one), (_, other) = await engines(2)
    world.clock.advance(10 * LEASE_S)
    await other.notice()
    await watch(world, other, LEASE_S - 1)
    await one.renew()
    await watch(world, other, LEASE_S - 1)
    assert not any(isinstance(each, SessionLapsed) for each in await world.said())


async def test_one_that_was_overtaken_is_refused_and_hears_why(
    world: World, engines: Engines
) -> None:
    (recorder, frozen), (_, watching) = await engines(2)
    await watch(world, watching, LEASE_S + 1)
    with pytest.raises(Fenced, match="engine 2 has noticed"):
        await recorder.submit(Command("late", "other", b"", just()))
    with pytest.raises(Fenced):
        await frozen.follow()


@pytest.mark.parametrize("others", [0, 1])
async def test_one_that_appends_nothing_notices_a_log_that_went_back(
    world: World, engines: Engines, others: int
) -> None:
    """Also when it has come as far again, with another history."""
    ((recorder, idle),) = await engines(1)
    await idle.follow()
    rows = vars(world.store)["_log"]
    last = rows.pop()
    if others:
        rows.append(last._replace(hash=bytes(32)))
    with pytest.raises(LogWentBack):
        await idle.follow()
    assert isinstance(recorder.failed, LogWentBack)


@pytest.mark.parametrize("here", ["host-0 boot", "host-0 another boot"])
async def test_a_process_that_is_gone_here_has_lapsed_at_once(
    world: World, engines: Engines, here: str
) -> None:
    ((recorder, _),) = await engines(1)
    dead = Holder("s0", recorder.epoch, "host-0 boot", 2**22 + 7, 1)
    await world.leases.renew(dead, LEASE_S)
    async with world.engine("next", here) as (_, share):
        await share.join()
    lapses = [each for each in await world.said() if isinstance(each, SessionLapsed)]
    assert [each.proved for each in lapses] == [True] * (here == dead.place)


async def test_one_that_has_rested_sees_the_dead_who_came_after(
    world: World, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leases(*_: object) -> MemoryLeases:
        return world.leases

    monkeypatch.setattr(joining, "open_leases", leases)
    (rested, _), (recorder, _) = await engines(2)
    dead = Holder("s1", recorder.epoch, sharing.place(), 2**22 + 7, 1)
    await world.leases.renew(dead, LEASE_S)
    nowhere = Location("postgresql://h/d", Path("d"))
    await joining.notice_the_dead(nowhere, rested, world.clock, world.ids)
    lapsed = (await world.said())[-1]
    assert isinstance(lapsed, SessionLapsed)
    assert lapsed.proved


async def test_a_lease_that_is_gone_from_the_table_lapses_like_one_that_stands_still(
    world: World, engines: Engines
) -> None:
    _, (_, watching) = await engines(2)
    await world.leases.give_back("s0", 1)
    await watching.notice()
    assert not any(isinstance(each, SessionLapsed) for each in await world.said())
    await watch(world, watching, LEASE_S + 1)
    assert isinstance((await world.said())[-1], SessionLapsed)


async def test_the_lease_of_a_session_that_has_ended_is_given_back_behind_the_block(
    world: World, engines: Engines
) -> None:
    ((recorder, share),) = await engines(1)
    async with keeping(share):
        ended = SessionEnded(
            session_id="s0", because="nothing_eligible", active_ms=1, attempts=0, work_left=0
        )
        await recorder.submit(Command("end", "drain/s0", b"", just(ended)))
        assert len(await world.leases.all()) == 1
    assert await world.leases.all() == []


async def test_an_engine_that_ends_by_an_error_leaves_the_proof_of_its_death(
    world: World, engines: Engines
) -> None:
    ((recorder, share),) = await engines(1)
    with pytest.raises(ExceptionGroup):
        async with keeping(share):
            raise StorageFailed("the disk is full", remedy="make room")
    ((holder, *_),) = await world.leases.all()
    dead = Holder("s0", recorder.epoch, holder.place, 2**22 + 7, 1)
    await world.leases.renew(dead, LEASE_S)
    async with world.engine("next", holder.place) as (_, other):
        await other.join()
    lapsed = (await world.said())[-1]
    assert isinstance(lapsed, SessionLapsed)
    assert lapsed.proved


def row(event: AttemptSpawned | AttemptAdopted, pos: int = 2) -> Record:
    columns = (pos, "s", pos, f"c{pos}", 0, b"", event_type(type(event)), 1, pos, pos, None, 1)
    return Record(*columns, "s", "r", "p", "a", "x", "0", encode(event), b"")


TAGS = {"session_id": "s", "run_id": "r", "phase_id": "p", "attempt_id": "a"}


def spawned(host: str) -> Record:
    event = AttemptSpawned(
        **TAGS, host=host, boot_id="b", pid=1, start_ticks=None, directory="/nowhere"
    )
    return row(event)


def adopted(epoch: int) -> Record:
    return row(AttemptAdopted(**TAGS, epoch=epoch), 3)


@pytest.mark.parametrize(
    ("leased_by", "heir", "adopters", "owner"),
    [
        (1, None, (), 1),  # its own engine lives
        (2, None, (), 2),  # also beside an older one
        (None, 2, (), 2),  # who noticed takes over
        (None, 9, (), 1),  # who noticed is dead, too: the oldest engine
        (None, None, (), 1),  # a session of a log from before leases
        (1, None, (3,), 3),  # taken over from an engine that begins the session anew
        (None, 2, (3,), 3),  # the newest who adopted and lives
        (None, 2, (3, 9), 3),
        (None, 2, (9,), 2),
    ],
)
def test_an_open_attempt_is_always_one_engines(
    leased_by: int | None, heir: int | None, adopters: tuple[int, ...], owner: int
) -> None:
    begun = row(started(), 1)  # type: ignore[arg-type]
    records = [begun, *map(adopted, adopters)]
    living: dict[int, str] = dict.fromkeys((1, 2, 3), "host")
    found = opened(records, session(leased_by=leased_by, heir=heir), living)
    assert found.owner == owner
    assert not found.is_elsewhere


@pytest.mark.parametrize(
    ("leased_by", "heir", "adopters", "there", "owner"),
    [
        (None, 2, (), (), 2),  # nobody is there
        (None, 2, (), (3, 4), 3),  # who noticed is elsewhere: the oldest engine there
        (None, 4, (), (3, 4), 4),  # who noticed is there
        (2, None, (), (3, 4), 2),  # who is at its session is at it, whatever hosts are called
        (4, 3, (), (3, 4), 4),
        (None, 9, (), (3, 4), 3),
        (None, 3, (2,), (3, 4), 2),  # it was taken over, wherever that is
    ],
)
def test_an_open_attempt_is_one_of_its_own_host_before_any_other(
    leased_by: int | None,
    heir: int | None,
    adopters: tuple[int, ...],
    there: tuple[int, ...],
    owner: int,
) -> None:
    """Only there its end can be proved before its time is over, and its outcome be taken over."""
    begun = row(started(), 1)  # type: ignore[arg-type]
    records = [begun, spawned("far-away"), *map(adopted, adopters)]
    living = {each: "far-away" if each in there else "here" for each in (1, 2, 3, 4)}
    assert opened(records, session(leased_by=leased_by, heir=heir), living).owner == owner


def test_an_attempt_elsewhere_is_over_when_its_guardian_must_have_ended_it() -> None:
    event = started(timeout_ms=10_000)
    begun = row(event, 1)  # type: ignore[arg-type]
    living = {1: "here"}
    found = opened([begun, spawned("far-away")], session(limits=limits(grace_ms=2000)), living)
    taken_over = opened([begun, spawned("far-away"), adopted(1)], session(), living)
    assert found.is_elsewhere
    assert taken_over.is_elsewhere
    assert (found.started_us, found.lasts_s) == (1, 12 + sharing.OVERSTAY_S)


@pytest.mark.parametrize(
    ("session_id", "where"),
    [("t", HERE), ("s0", HERE), ("t", ELSEWHERE), ("t", NAMESAKE)],
    ids=["left here", "of our own, begun just now", "left elsewhere", "left on one of this name"],
)
async def test_what_nobody_is_at_falls_to_the_oldest_engine_where_it_can_be_proved(
    world: World, engines: Engines, session_id: str, where: tuple[str, str]
) -> None:
    inherited = {"a"} if where == HERE else set[str]()
    left = inherited if session_id == "t" else set[str]()
    (recorder, oldest), (_, younger) = await engines(2)
    await recorder.submit(Command("begun", "x", b"", just(*left_open(session_id, where))))
    for share in (oldest, younger):
        await share.follow()
    assert await oldest.inherited() == inherited
    assert await oldest.left(frozenset()) == Left(frozenset(left), [])
    assert await oldest.left(frozenset({"a"})) == Left(frozenset(), [])
    assert await younger.inherited() == set()
    world.clock.advance(LASTS_S)
    at_last = await oldest.left(frozenset())
    assert [each.started.attempt_id for each in at_last.over] == ["a"] * (where != HERE)
    assert [each.lives for each in at_last.over] == [False] * len(at_last.over)
    reports = [await each.report(anyio.Event()) for each in at_last.over]
    assert [each.ended for each in reports] == ["lost"] * len(reports)
    assert await younger.left(frozenset()) == Left(frozenset(), [])


async def test_a_longer_lease_than_ones_own_lives_as_long_as_it_was_given(
    world: World, engines: Engines
) -> None:
    ((first, watching),) = await engines(1)
    before = (
        SessionLeased(session_id="t", epoch=99, host="h", lease_ms=1),
        SessionLapsed(session_id="t", epoch=99, host="h", noticed_by=1, proved=True),
    )
    await first.submit(Command("before", "drain/t", b"", just(before[0])))
    await first.submit(Command("behind", "drain/t", b"", just(before[1])))
    async with world.engine("t", "host-t boot", lease_s=3 * LEASE_S) as (_, patient):
        await patient.join()
    await watching.follow()
    await watching.notice()
    await watch(world, watching, 3 * LEASE_S - 1)
    assert isinstance((await world.said())[-1], SessionLeased)
    await watch(world, watching, 1)
    assert isinstance((await world.said())[-1], SessionLapsed)


async def test_who_has_the_longer_lease_looks_for_as_long_as_that(
    world: World, engines: Engines
) -> None:
    await engines(1)
    async with world.engine("t", "host-t boot", lease_s=3 * LEASE_S) as (_, watching):
        await watching.join()
        await watch(world, watching, 3 * LEASE_S - 1)
        assert not any(isinstance(each, SessionLapsed) for each in await world.said())
        await watch(world, watching, 1)
    assert isinstance((await world.said())[-1], SessionLapsed)


async def test_a_row_of_an_older_engine_says_nothing_of_a_newer_one(
    world: World, engines: Engines
) -> None:
    ((recorder, _),) = await engines(1)
    await world.leases.give_back("s0", recorder.epoch)
    dead = Holder("s0", recorder.epoch - 1, "here", 2**22 + 7, 1)
    await world.leases.renew(dead, LEASE_S)
    async with world.engine("next", "here") as (_, share):
        await share.join()
    assert not any(isinstance(each, SessionLapsed) for each in await world.said())


async def test_two_who_see_it_at_once_say_it_once(world: World, engines: Engines) -> None:
    _, (_, one), (_, other) = await engines(3)
    for share in (one, other):
        await share.follow()
    for _ in range(9):  # long enough for the second to miss the row, too
        world.clock.advance(LEASE_S / 3)
        for share in (one, other):
            await share.renew()
        for share in (one, other):
            await share.notice()
    lapses = [each for each in await world.said() if isinstance(each, SessionLapsed)]
    assert [each.session_id for each in lapses] == ["s0"]


@pytest.mark.parametrize("lost_s", [None, 0.8 * LEASE_S])
async def test_who_was_away_together_with_the_server_lets_nothing_lapse_for_it(
    world: World, lost_s: float | None
) -> None:
    began_s = world.clock.monotonic_s()
    until_s = began_s + 1.8 * LEASE_S
    world.leases = Hinted(world.clock, until_s, lost_s=None if lost_s is None else began_s + lost_s)
    looked_s: list[float] = []

    async def look_after() -> None:
        looked_s.append(world.clock.monotonic_s() - began_s)

    async with world.engine("s0", "host-0") as (_, frozen):
        await frozen.join()
        async with world.engine("s1", "host-1") as (_, watching):
            watching.look_after = look_after
            await watching.join()
            with pytest.raises(Enough):
                await watching.keep()
    assert looked_s[:2] == pytest.approx([LEASE_S / 3, 2 * LEASE_S / 3])
    lapses = [each for each in await world.said() if isinstance(each, SessionLapsed)]
    assert len(lapses) == (lost_s is None)


async def test_what_an_engine_has_adopted_is_its_own(world: World, engines: Engines) -> None:
    (recorder, oldest), (_, younger) = await engines(2)
    taken = AttemptAdopted(**(TAGS | {"session_id": "t"}), epoch=2)
    await recorder.submit(Command("begun", "x", b"", just(*left_open("t", HERE), taken)))
    for share in (oldest, younger):
        await share.follow()
    assert await oldest.inherited() == set()
    assert await younger.inherited() == {"a"}


async def test_others_are_followed_every_second(world: World, engines: Engines) -> None:
    world.leases = leases = Beats(world, until_s=4.51)
    ((other, _),) = await engines(1)
    lags: list[int] = []
    async with world.engine("mine", "here boot") as (recorder, _):
        parts = (recorder, leases, world.clock, world.ids, "mine")
        share = Share(*parts, lease_s=4.5, here="here boot")

        async def meanwhile() -> None:
            lags.append(other.head.pos - recorder.head.pos)
            await other.submit(Command(world.ids("cmd"), "x", b"", just(RUN)))

        await share.join()
        leases.meanwhile = meanwhile
        with pytest.raises(Enough):
            await share.keep()
    assert leases.hints_s[:6] == [1, 0.5] * 3
    assert max(lags[1:]) == 0, "what came before the last hint was followed"
    leased = (await world.said())[-1]
    assert leased == SessionLeased(
        session_id="mine", epoch=recorder.epoch, host=socket.gethostname(), lease_ms=4500
    )


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualTimeLoop})])
async def test_a_lease_is_renewed_three_times_in_its_life_while_the_engine_waits_for_the_server(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.leases = leases = Beats(world, until_s=99)
    async with world.engine("mine", "here boot") as (recorder, _):
        parts = (recorder, leases, world.clock, world.ids, "mine")
        share = Share(*parts, lease_s=4.5, here="here boot")
        await share.join()
        monkeypatch.setattr(share, "follow", anyio.sleep_forever)
        with anyio.move_on_after(4.51):
            async with keeping(share):
                await anyio.sleep_forever()
    me = Holder("mine", recorder.epoch, "here boot", os.getpid(), process_start_ticks(os.getpid()))
    assert leases.renewed == [(me, 4.5)] * (1 + 3)


RUN = RunRegistered(run_id="r", origin="test", state="NEW")


async def test_behind_a_failed_append_nothing_is_waited_for_or_given_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    began_s = world.clock.monotonic_s()
    world.leases = Hinted(world.clock, began_s + 99, lost_s=began_s + 1)
    async with world.engine("s0", "host-0") as (recorder, share):
        await share.join()
        ended = SessionEnded(
            session_id="s0", because="nothing_eligible", active_ms=1, attempts=0, work_left=0
        )
        await recorder.submit(Command("end", "drain/s0", b"", just(ended)))
        with monkeypatch.context() as patched:
            patched.setattr(Recorder, "failed", StorageFailed("it is full.", remedy="wait."))
            with pytest.raises(ServerLost):
                await share.keep()
            await share.leave()
        assert [lease.holder.session_id for lease in await world.leases.all()] == ["s0"]


async def test_an_engine_never_notices_itself(world: World, engines: Engines) -> None:
    ((_, share),) = await engines(1)
    for _ in range(9):
        world.clock.advance(LEASE_S / 3)
        await share.notice()
    assert len(await world.said()) == 1


async def test_a_lease_lapses_the_moment_that_it_has_stood_still_for_all_its_life(
    world: World, engines: Engines
) -> None:
    await engines(1)
    world.clock.advance(1)
    async with world.engine("next", "elsewhere") as (_, watching):
        await watching.join()
        await watch(world, watching, LEASE_S)
    (record,) = await world.store.records(Query(types=("session.lapsed",)))
    assert record.stream == "drain/s0"


@pytest.mark.parametrize(("apart_s", "lapses"), [(2 * LEASE_S / 3, 0), (2 * LEASE_S / 3 - 1, 1)])
async def test_who_misses_two_beats_was_not_there_to_look(
    world: World, engines: Engines, apart_s: float, lapses: int
) -> None:
    _, (_, watching) = await engines(2)
    for _ in range(4):
        await watching.notice()
        world.clock.advance(apart_s)
    said = await world.said()
    assert sum(isinstance(each, SessionLapsed) for each in said) == lapses


async def test_a_lease_that_is_renewed_late_begins_to_stand_still_anew(
    world: World, engines: Engines
) -> None:
    (_, late), (_, watching) = await engines(2)
    began_s = world.clock.monotonic_s()
    await late.renew()
    for at, renews in ((0.2, 0), (0.7, 0), (1.1, 0), (1.15, 1), (1.6, 0), (2.1, 0), (2.2, 0)):
        world.clock.advance(began_s + at * LEASE_S - world.clock.monotonic_s())
        await (late.renew() if renews else watching.notice())
    assert not any(isinstance(each, SessionLapsed) for each in await world.said())


async def test_a_lease_that_is_gone_once_more_is_gone_anew(world: World, engines: Engines) -> None:
    (_, flickering), (_, watching) = await engines(2)
    await world.leases.give_back("s0", 1)
    await watch(world, watching, LEASE_S - 1)
    await flickering.renew()
    await watch(world, watching, LEASE_S / 3)
    await world.leases.give_back("s0", 1)
    await watch(world, watching, LEASE_S - 1)
    assert not any(isinstance(each, SessionLapsed) for each in await world.said())
