"""A clock that is set back while a daemon runs, or between two lives: what waits does not wait on.

Until the clock has caught up, the log's own time goes on half as fast as the clock did.
"""

from __future__ import annotations

from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from engine.drain.virtual import VirtualClock
from engine.executors.scripted import Rule, ScriptedUsage
from engine.triage.policy import Policy
from tests.living import DAY_S, HOUR_S, MINUTE_S, Living, SettableClock, audited, ends, group, us

DOWN = Rule(state="FAILED", rc=1, reason="the database is down", sleep=1)
LIMITED = Rule(
    phase="p0",
    attempt=1,
    state="FAILED",
    rc=1,
    stderr="429 rate limit exceeded. Please try again in 20m.",
    sleep=1,
)
DONE = Rule(state="COMPLETE", rc=0, events=1, sleep=MINUTE_S)
CAREFUL = Policy(name="t", order_phases=False, provider_pause_ms=60_000)
PATIENT = Policy(
    name="t", cool_down_ms=HOUR_S * 1000, attempts_per_phase_max=9, fingerprint_repeats_max=None
)
PROBING = Policy(
    name="t",
    breaker_runs=2,
    breaker_probes_max=0,
    breaker_cool_down_ms=HOUR_S * 1000,
    fingerprint_repeats_max=None,
)
BACK_S = (0.01, 5 * MINUTE_S, 2 * HOUR_S, 400 * 24 * HOUR_S)


def living_by(
    policy: Policy, *rules: Rule, session_hours: float = 24.0
) -> tuple[Living, SettableClock]:
    living = Living(policy=policy, workers=1, rules=rules, session_hours=session_hours)
    clock = living.clock = SettableClock(living.clock.now_us())
    return living, clock


async def until_started(living: Living, count: int, limit_s: float) -> float:
    """How long it takes until so many attempts have been started."""
    began_s = anyio.current_time()
    with anyio.move_on_after(limit_s):
        while len(await living.starts()) < count:  # noqa: ASYNC110  the time is what is measured
            await anyio.sleep(1)
    return anyio.current_time() - began_s


@pytest.mark.parametrize("back_s", BACK_S)
async def test_a_provider_that_is_waited_for_is_gone_to_again_within_twice_that_time(
    back_s: float,
) -> None:
    living, clock = living_by(CAREFUL, LIMITED, DONE)
    async with living.life(group("a", 3)):
        await anyio.sleep(MINUTE_S)
        tried = len(await living.starts())
        clock.set_back(back_s)
        took_s = await until_started(living, tried + 1, 3 * HOUR_S)
    assert 18 * MINUTE_S <= took_s <= 41 * MINUTE_S
    await starts_in_order(living)


@pytest.mark.parametrize("back_s", BACK_S)
async def test_a_run_cools_down_within_twice_its_time(back_s: float) -> None:
    living, clock = living_by(PATIENT, DOWN)
    async with living.life(group("a", 1), group("b", 1)):
        await anyio.sleep(MINUTE_S)
        tried = len(await living.starts())
        clock.set_back(back_s)
        took_s = await until_started(living, tried + 1, 9 * HOUR_S)
    assert HOUR_S - MINUTE_S <= took_s <= 2 * HOUR_S + MINUTE_S
    await starts_in_order(living)


@pytest.mark.parametrize("back_s", BACK_S)
async def test_a_breaker_is_probed_within_twice_its_time_by_the_next_life_too(
    back_s: float,
) -> None:
    living, clock = living_by(PROBING, DOWN)
    async with living.life(*(group(f"r{number}", 1) for number in range(5))):
        await anyio.sleep(MINUTE_S)
        tried = len(await living.starts())
    clock.set_back(back_s)
    async with living.life():
        took_s = await until_started(living, tried + 1, 9 * HOUR_S)
    assert HOUR_S - MINUTE_S <= took_s <= 2 * HOUR_S + MINUTE_S
    await starts_in_order(living)


async def test_a_session_of_so_many_hours_takes_twice_as_many_at_most() -> None:
    living, clock = living_by(CAREFUL, DONE, session_hours=2.0)
    async with living.life(group("a", 400)):
        await anyio.sleep(HOUR_S)
        clock.set_back(24 * HOUR_S)
        await anyio.sleep(5 * HOUR_S)
    assert len(set(await living.sessions_of_starts())) > 1


async def test_once_the_clock_has_caught_up_the_log_goes_by_it_again() -> None:
    living, clock = living_by(CAREFUL, DONE)
    async with living.life(group("a", 90)):
        await anyio.sleep(10 * MINUTE_S)
        clock.set_back(10 * MINUTE_S)
        await anyio.sleep(30 * MINUTE_S)
        await until_started(living, len(await living.starts()) + 1, HOUR_S)
        assert abs((await living.starts())[-1] - clock.now_us()) <= 1_000_000
    await starts_in_order(living)


async def test_a_days_budget_holds_by_the_logs_own_day_where_the_clock_was_set_back() -> None:
    usage = (ScriptedUsage(output_tokens=100),)
    rules = [Rule(state="COMPLETE", rc=0, usage=usage, sleep=MINUTE_S)]
    living = Living(
        "2026-11-27T12:00:00+00:00", policy=CAREFUL, workers=1, rules=rules, max_day_tokens=1000
    )
    async with living.life(group("a", 100)):
        await anyio.sleep(HOUR_S)
    living.clock = VirtualClock(us("2026-11-26T12:00:00+00:00"))
    async with living.life() as service:
        for _ in range(1000):  # no time goes by for what never rests
            await anyio.lowlevel.checkpoint()
        status = service.status()
        assert (status.state, status.until_us) == ("day_budget", us("2026-11-28T00:00:00+00:00"))
        await anyio.sleep(2 * DAY_S)
    starts = await living.starts()
    assert len(starts) == 20
    assert starts[10] == us("2026-11-28T00:00:00+00:00")
    assert await ends(living) == ["day_budget"] * 2
    await audited(living)


async def starts_in_order(living: Living) -> None:
    times = [record.recorded_us for record in await living.records()]
    assert all(before <= after for before, after in pairwise(times))
