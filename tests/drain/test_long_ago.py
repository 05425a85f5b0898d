"""When an attempt of another machine counts as over there, of which nothing was heard again."""

from __future__ import annotations

import pytest

from engine.drain.sharing import Share
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.protocol import Query
from tests.drain.shared_world import (
    ELSEWHERE,
    LASTS_S,
    LEASE_S,
    LONG_AGO_S,
    Ahead,
    World,
    left_open,
)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("later_s", "ahead_s", "watched_s", "left"),
    [
        (0.0, 0.0, LASTS_S - 1, 0),
        (0.0, 0.0, LASTS_S, 1),
        (0.0, 600.0, 10.0, 0),  # by this machine's clock it would be over
        (0.0, 400 * 86_400.0, 10.0, 0),
        (0.0, 600.0, LASTS_S, 1),
        (0.0, -600.0, LASTS_S, 1),
        (LONG_AGO_S, 0.0, 0.0, 1),
        (LONG_AGO_S, 86_400.0, 0.0, 1),
        (LONG_AGO_S, -1.0, 0.0, 0),
        (LONG_AGO_S - 1, 0.0, 0.0, 0),
        (LONG_AGO_S - 1, 86_400.0, 0.0, 0),  # by the clock of the server it is not
    ],
)
async def test_an_attempt_elsewhere_is_over_by_what_was_seen_of_it_and_not_by_clocks(
    world: World, later_s: float, ahead_s: float, watched_s: float, left: int
) -> None:
    begun = left_open("t", ELSEWHERE)
    async with world.engine("first", "gone boot") as (recorder, _):
        await recorder.submit(Command("begun", "x", b"", just(*begun)))
    world.clock.advance(later_s)
    async with world.engine("s", "here boot") as (recorder, _):
        clock, ids = Ahead(world.clock, ahead_s), IdMaker(world.clock.now_us, lambda: 1)
        share = Share(recorder, world.leases, clock, ids, "s", here="here boot")
        await share.join()
        assert (await share.left(frozenset())).here == frozenset()
        world.clock.advance(watched_s)
        assert len((await share.left(frozenset())).over) == left


async def test_where_a_clock_was_behind_an_attempt_elsewhere_is_not_long_ago_that_lapsed_just_now(
    world: World,
) -> None:
    """It may have begun later than its machine had recorded."""
    async with world.engine("t", "far-away boot") as (recorder, far_away):
        await recorder.submit(Command("begun", "x", b"", just(*left_open("t", ELSEWHERE))))
        await far_away.join()
    world.clock.advance(2 * LONG_AGO_S)
    async with world.engine("", "here boot") as (_, resting):
        for _ in range(4):
            await resting.look()
            world.clock.advance(LEASE_S / 3)
        assert (await resting.left_alone()).over == []
    (lapsed,) = await world.store.records(Query(types=("session.lapsed",)))
    async with world.engine("s", "here boot") as (recorder, share):
        await share.join()
        clock = Ahead(world.clock, -1)
        behind = Share(recorder, world.leases, clock, world.ids, "s", here="here boot")
        for ago_s, left in ((LONG_AGO_S - 1, 0), (LONG_AGO_S, 1)):
            world.clock.set(lapsed.recorded_us + round(ago_s * 1e6))
            assert len((await share.left(frozenset())).over) == left
        assert (await behind.left(frozenset())).over == []


async def test_while_an_attempt_elsewhere_may_run_the_server_is_not_asked_what_time_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every engine looks at every beat at whatever is open elsewhere."""

    async def asked() -> int:
        raise AssertionError

    async with world.engine("first", "gone boot") as (recorder, _):
        await recorder.submit(Command("begun", "x", b"", just(*left_open("t", ELSEWHERE))))
    world.clock.advance(LONG_AGO_S - 1)
    async with world.engine("s", "here boot") as (_, share):
        await share.join()
        monkeypatch.setattr(world.leases, "now_us", asked)
        assert (await share.left(frozenset())).over == []
        world.clock.advance(1)
        with pytest.raises(AssertionError):
            await share.left(frozenset())
