"""A clock that is set ahead while a daemon runs, as it is where a machine has slept meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

import anyio
import pytest
from hypothesis import given, strategies as st

from engine.daemon.resting import Windows
from engine.daemon.settings import Plan, Settings, plan_of
from engine.executors.scripted import Rule
from engine.triage.policy import POLICIES, Policy
from engine.triage.schedule import Opening, Window, opening
from tests.living import DAY_S, HOUR_S, MINUTE_S, Living, SettableClock, audited, ends, group, us

FREE = Policy(name="t", order_phases=False)
QUICK = Rule(state="COMPLETE", rc=0, events=1, sleep=10)
NIGHTS = ("20:00-06:00",)


def living_by(start: str, *, workers: int = 1) -> tuple[Living, SettableClock]:
    living = Living(start, policy=FREE, workers=workers, rules=[QUICK], windows=NIGHTS)
    clock = living.clock = SettableClock(us(start))
    return living, clock


@pytest.mark.parametrize("slept_s", [7 * MINUTE_S, 5 * HOUR_S, 400 * DAY_S + 5 * HOUR_S])
async def test_behind_a_sleep_nothing_starts_outside_the_windows(slept_s: float) -> None:
    living, clock = living_by("2026-11-27T05:50:00+00:00", workers=3)
    async with living.life(group("a", 300)) as service:
        await anyio.sleep(4 * MINUTE_S + 5)
        tried = len(await living.starts())
        clock.set_ahead(slept_s)
        await anyio.sleep(4 * MINUTE_S)
        assert service.status().state == "window_closed"
        assert len(await living.starts()) == tried
    assert await ends(living) == ["window_closed"]
    await audited(living)


async def test_a_clock_that_leaps_to_and_fro_between_two_looks_stops_nothing() -> None:
    living, clock = living_by("2026-11-27T05:00:00+00:00")
    async with living.life(group("a", 300)):
        await anyio.sleep(2 * MINUTE_S + 5)
        clock.set_ahead(5 * HOUR_S)
        await anyio.sleep(MINUTE_S)
        clock.set_back(5 * HOUR_S)
        await anyio.sleep(10 * MINUTE_S)
        tried = len(await living.starts())
        await anyio.sleep(MINUTE_S)
        assert len(await living.starts()) - tried == 6
    await audited(living)


async def test_behind_a_sleep_into_the_next_window_work_goes_on_without_a_break() -> None:
    living, clock = living_by("2026-11-27T05:50:00+00:00")
    async with living.life(group("a", 300)):
        await anyio.sleep(MINUTE_S + 5)
        clock.set_ahead(DAY_S)
        tried = len(await living.starts())
        await anyio.sleep(MINUTE_S)
        assert len(await living.starts()) - tried == 6
        await anyio.sleep(20 * MINUTE_S)
        assert (await living.starts())[-1] < us("2026-11-28T06:00:00+00:00")
    assert await ends(living) == ["total_time", "window_closed"]
    await audited(living)


@pytest.mark.parametrize("slept_s", [2 * HOUR_S, 26 * HOUR_S])
async def test_behind_a_sleep_past_its_beginning_a_window_is_used_within_a_minute(
    slept_s: float,
) -> None:
    living, clock = living_by("2026-11-27T19:00:00+00:00")
    async with living.life(group("a", 3)) as service:
        await anyio.sleep(10 * MINUTE_S + 1)
        assert service.status().state == "window_closed"
        clock.set_ahead(slept_s)
        await anyio.sleep(MINUTE_S)
        assert len(await living.starts()) >= 1
    await audited(living)


async def test_behind_a_sleep_an_account_that_rested_is_gone_to_within_a_minute() -> None:
    limited = Rule(
        phase="p0", state="FAILED", rc=1, stderr="429 rate limit exceeded, try again in 3h", sleep=1
    )
    start = "2026-11-27T20:00:00+00:00"
    living = Living(start, policy=POLICIES["default"], workers=1, rules=[limited, QUICK])
    clock = living.clock = SettableClock(us(start))
    async with living.life(group("a", 3)):
        await anyio.sleep(11 * MINUTE_S + 1)
        assert len(await living.starts()) == 1
        clock.set_ahead(4 * HOUR_S)
        await anyio.sleep(MINUTE_S)
        assert len(await living.starts()) > 1
    await audited(living)


PLANS = [
    plan_of(Settings(windows=windows, timezone="Europe/Berlin"), FREE)
    for windows in ((), NIGHTS, ("Sat 02:30-02:40", "Sun 02:10-02:20"), ("00:00-24:00",))
]
CLOCKS_GO_BACK_US = us("2026-10-25T01:00:00+00:00")
DAY_US = DAY_S * 1_000_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from(PLANS),
            st.integers(CLOCKS_GO_BACK_US - DAY_US, CLOCKS_GO_BACK_US + DAY_US),
        )
    )
)
def test_what_is_known_of_windows_is_what_a_look_says(
    asked: list[tuple[Plan, int]],
) -> None:
    known = Windows()
    for plan, now_us in asked:
        found = opening(plan.windows, plan.zone, now_us)
        assert known.leave_open(plan, now_us) is found.is_open
        if found.is_open and found.until_us is not None:
            assert known.leave_open(plan, found.until_us - 1)
            assert not known.leave_open(plan, found.until_us)


def test_windows_are_looked_at_once_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []

    def looked(windows: Sequence[Window], zone: tzinfo, now_us: int) -> Opening:
        looks.append(now_us)
        return opening(windows, zone, now_us)

    monkeypatch.setattr("engine.daemon.resting.opening", looked)
    known, begins_us = Windows(), us("2026-11-27T20:00:00+01:00")
    for number, plan in enumerate([PLANS[0], PLANS[1], PLANS[3]], 1):
        for now_us in (begins_us, begins_us + 1, begins_us + 1000):
            assert known.leave_open(plan, now_us)
        assert len(looks) == number
