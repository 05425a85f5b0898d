"""The time of a log never goes back, never stands still, and meets the clock again."""

from __future__ import annotations

from hypothesis import given, strategies as st

from engine.store.log_time import SLOWER, LogTime

START_US = 1_700_000_000_000_000
SECOND_US = 1_000_000


class TwoClocks:
    """A wall clock that anybody sets, beside a monotonic one."""

    def __init__(self) -> None:
        self.wall_us, self.mono_us = START_US, 0

    def now_us(self) -> int:
        return self.wall_us

    def monotonic_s(self) -> float:
        return self.mono_us / 1e6

    def advance(self, by_us: int) -> None:
        self.wall_us += by_us
        self.mono_us += by_us


Step = tuple[str, int]
YEAR_US = 365 * 86_400 * SECOND_US
amounts_us = st.sampled_from([1, 10, 3600 * SECOND_US, YEAR_US]).flatmap(
    lambda most_us: st.integers(0, most_us)
)
either_way_us = amounts_us | amounts_us.map(lambda us: -us)


@st.composite
def step(draw: st.DrawFn) -> Step:
    what = draw(st.sampled_from(["advance", "set", "reach"]))
    return what, draw(amounts_us if what == "advance" else either_way_us)


steps = st.lists(step(), max_size=12)


def taken(clock: TwoClocks, log: LogTime, step: Step) -> None:
    what, by_us = step
    if what == "advance":
        clock.advance(by_us)
    elif what == "set":
        clock.wall_us += by_us
    else:
        log.reach(clock.wall_us + by_us)


@given(steps)
def test_it_never_goes_back_and_is_never_behind_the_clock_or_what_was_recorded(
    found: list[Step],
) -> None:
    clock = TwoClocks()
    log = LogTime(clock)
    before_us = log.now_us()
    for what, by_us in found:
        least_us = clock.wall_us + by_us if what == "reach" else 0
        taken(clock, log, (what, by_us))
        now_us = log.now_us()
        assert now_us >= max(before_us, clock.wall_us, least_us)
        if what == "reach":
            assert now_us == max(before_us, least_us), "no time has gone by"
        before_us = now_us


@given(steps, amounts_us)
def test_while_it_is_ahead_it_goes_half_as_fast_until_the_clock_has_caught_up(
    found: list[Step], by_us: int
) -> None:
    clock = TwoClocks()
    log = LogTime(clock)
    for step in found:
        taken(clock, log, step)
    before_us = log.now_us()
    clock.advance(by_us)
    expected_us = max(clock.wall_us, before_us + by_us // SLOWER)
    assert abs(log.now_us() - expected_us) <= 1, "whole microseconds, of floating seconds"


@given(st.lists(amounts_us, max_size=12))
def test_it_is_the_clock_as_long_as_nobody_sets_that_back(advances_us: list[int]) -> None:
    clock = TwoClocks()
    log = LogTime(clock)
    for by_us in advances_us:
        clock.advance(by_us)
        assert log.now_us() == clock.wall_us


def test_what_another_engine_records_meanwhile_begins_the_way_back_anew() -> None:
    clock = TwoClocks()
    log = LogTime(clock)
    for ahead_s in (10, 50):
        there_us = clock.wall_us + ahead_s * SECOND_US
        log.reach(there_us)
        assert log.now_us() == there_us
        clock.advance(4 * SECOND_US)
        assert log.now_us() == there_us + 2 * SECOND_US


def test_an_hour_back_is_made_up_for_in_two() -> None:
    clock = TwoClocks()
    log = LogTime(clock)
    assert log.now_us() == START_US
    clock.wall_us -= 3600 * SECOND_US
    told_us: list[int] = []
    for _ in range(5):
        told_us.append(log.now_us() - START_US)
        clock.advance(1800 * SECOND_US)
    assert told_us == [0, 900 * SECOND_US, 1800 * SECOND_US, 2700 * SECOND_US, 3600 * SECOND_US]
    assert log.now_us() == clock.wall_us == START_US + 5400 * SECOND_US
