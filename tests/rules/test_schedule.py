"""Schedule windows: what their text means, and laws that hold in every zone on every day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st

from engine.errors import UsageProblem
from engine.triage.schedule import DAYS, Window, opening, window_from

HOUR_US = 3_600_000_000
ALL = frozenset(range(7))
# Zones whose clocks change at one, two, three in the morning, at midnight, by half an hour, never.
ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Africa/Cairo",
    "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago", "Pacific/Apia",
)  # fmt: skip


def us(text: str, zone: str = "UTC") -> int:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        found = found.replace(tzinfo=ZoneInfo(zone))
    return round(found.timestamp() * 1e6)


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("Mon-Fri 20:00-06:00", Window(frozenset(range(5)), 1200, 360)),
        ("sat,SUN 00:00-24:00", Window(frozenset({5, 6}), 0, 1440)),
        ("22:00-04:00", Window(ALL, 1320, 240)),
        ("  Fri-Mon   08:30-08:31 ", Window(frozenset({4, 5, 6, 0}), 510, 511)),
        ("Mon-Mon 20:00-00:00", Window(frozenset({0}), 1200, 1440)),
    ],
)
def test_a_window_is_read(text: str, window: Window) -> None:
    assert window_from(text) == window


@pytest.mark.parametrize(
    "text",
    [
        "", "Mon", "Mon 8:00-09:00", "Mon 08:00", "Mon 08:60-09:00", "Mon 24:00-06:00",
        "Mon 25:00-26:00", "Mon 08:00-24:01", "Mo 08:00-09:00", "Mon- 08:00-09:00",
        "Mon,,Tue 08:00-09:00", "08:00-08:00", "Mon 08:00-09:00 Tue", "Mon 0８:00-09:00",
        "Mon 08:60-10:00", "Mon 07:00-08:60", "Mon 07:00-08:99",
    ],
)  # fmt: skip
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem):
        window_from(text)


def test_without_windows_all_of_time_is_open() -> None:
    assert opening((), UTC, 0) == (True, None)


def test_a_window_that_never_closes_has_no_end() -> None:
    assert opening([window_from("00:00-24:00")], ZoneInfo("Africa/Cairo"), us("2026-04-24")) == (
        True,
        None,
    )


NIGHTS = [window_from("Mon-Fri 20:00-06:00")]


@pytest.mark.parametrize(
    ("now", "is_open", "until"),
    [
        ("2026-11-26T19:59:59", False, "2026-11-26T20:00"),  # a Thursday
        ("2026-11-26T20:00", True, "2026-11-27T06:00"),
        ("2026-11-27T05:59:59", True, "2026-11-27T06:00"),
        ("2026-11-27T06:00", False, "2026-11-27T20:00"),
        ("2026-11-28T03:00", True, "2026-11-28T06:00"),  # Friday's window, on Saturday
        ("2026-11-28T06:00", False, "2026-11-30T20:00"),  # then the weekend
        # Clocks go back on the night to Sunday 25 October and forward on that to 29 March.
        ("2026-10-25T12:00", False, "2026-10-26T20:00"),
    ],
)
def test_a_window_opens_and_closes_by_the_clock_on_the_wall(
    now: str, is_open: bool, until: str
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    expected = (is_open, us(until, "Europe/Berlin"))
    assert opening(NIGHTS, berlin, us(now, "Europe/Berlin")) == expected


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-28", 9), ("2026-10-24", 11), ("2026-07-04", 10)]
)
def test_a_night_is_as_long_as_the_clocks_make_it(day: str, hours: int) -> None:
    berlin, saturday = ZoneInfo("Europe/Berlin"), [window_from("Sat 20:00-06:00")]
    start_us = us(f"{day}T20:00", "Europe/Berlin")
    assert opening(saturday, berlin, start_us) == (True, start_us + hours * HOUR_US)


def test_a_reading_that_the_clocks_skip_is_an_hour_later() -> None:
    berlin, gap = ZoneInfo("Europe/Berlin"), [window_from("Sun 02:30-04:00")]
    opens_us = us("2026-03-29T01:30:00+00:00")  # 03:30 in summer time
    assert opening(gap, berlin, opens_us - 1) == (False, opens_us)
    assert opening(gap, berlin, opens_us) == (True, us("2026-03-29T02:00:00+00:00"))


def test_an_end_that_the_clocks_skip_is_an_hour_later_too() -> None:
    berlin, into_gap = ZoneInfo("Europe/Berlin"), [window_from("Sun 01:00-02:30")]
    now_us = us("2026-03-29T01:00", "Europe/Berlin")
    assert opening(into_gap, berlin, now_us) == (True, now_us + HOUR_US + HOUR_US // 2)


def test_a_window_that_the_clocks_swallow_opens_in_the_week_after() -> None:
    berlin, swallowed = ZoneInfo("Europe/Berlin"), [window_from("Sun 02:30-03:10")]
    saturday_us = us("2026-03-28T12:00", "Europe/Berlin")
    next_us = us("2026-04-05T02:30", "Europe/Berlin")
    assert opening(swallowed, berlin, saturday_us) == (False, next_us)


def test_a_night_before_a_day_that_a_zone_leaves_out_is_open_to_the_day_after() -> None:
    apia, nights = ZoneInfo("Pacific/Apia"), [window_from("Thu 22:00-04:00")]
    begins_us = us("2011-12-29T22:00", "Pacific/Apia")  # a Friday the 30th there was not
    ends_us = us("2011-12-31T04:00", "Pacific/Apia")
    for now_us in (begins_us, ends_us - 1):
        assert opening(nights, apia, now_us) == (True, ends_us)


def test_a_short_break_a_week_is_a_break_also_in_the_week_that_is_an_hour_longer() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    all_but = [
        window_from(text) for text in ("Mon-Sat 00:00-24:00", "Sun 00:00-01:00", "Sun 01:30-24:00")
    ]
    for day, sunday in (("2026-10-26", "2026-11-01"), ("2026-07-07", "2026-07-12")):
        now_us, breaks_us = us(day, "Europe/Berlin"), us(f"{sunday}T01:00", "Europe/Berlin")
        assert opening(all_but, berlin, now_us) == (True, breaks_us)


def test_a_window_inside_another_closes_nothing() -> None:
    nested = [window_from("Mon 08:00-20:00"), window_from("Mon 09:00-10:00")]
    now_us = us("2026-11-23T09:30")
    assert opening(nested, UTC, now_us) == (True, us("2026-11-23T20:00"))


def test_a_reading_that_comes_twice_begins_the_first_and_ends_the_second_time() -> None:
    berlin, twice = ZoneInfo("Europe/Berlin"), [window_from("Sun 02:00-02:30")]
    opens_us = us("2026-10-25T00:00:00+00:00")
    assert opening(twice, berlin, opens_us) == (True, us("2026-10-25T01:30:00+00:00"))


windows = st.lists(
    st.builds(
        Window,
        st.frozensets(st.integers(0, 6), min_size=1),
        st.integers(0, 1439),
        st.integers(1, 1440),
    ).filter(lambda window: window.start != window.end),
    min_size=1,
    max_size=3,
)
moments = st.integers(us("2026-01-01"), us("2027-01-01"))
zones = st.sampled_from(ZONES).map(ZoneInfo)


@given(windows, zones, moments)
def test_it_changes_at_the_moment_that_was_named_and_not_before(
    given: list[Window], zone: ZoneInfo, now_us: int
) -> None:
    found = opening(given, zone, now_us)
    if found.until_us is None:
        assert found.is_open
        return
    assert now_us < found.until_us <= now_us + 9 * 24 * HOUR_US
    before = opening(given, zone, found.until_us - 1)
    assert before == found
    assert opening(given, zone, found.until_us).is_open is not found.is_open


@given(windows, zones, moments)
def test_away_from_changed_clocks_it_is_what_the_wall_says(
    given: list[Window], zone: ZoneInfo, now_us: int
) -> None:
    now = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now_us)
    around = [now + timedelta(hours=step) for step in range(-60, 61, 6)]
    if len({moment.astimezone(zone).utcoffset() for moment in around}) > 1:
        return
    wall = now.astimezone(zone)
    minute = wall.hour * 60 + wall.minute
    assert opening(given, zone, now_us).is_open is any(
        (wall.weekday() in w.days and w.start <= minute < w.end)
        if w.start < w.end
        else (wall.weekday() in w.days and minute >= w.start)
        or ((wall.weekday() - 1) % 7 in w.days and minute < w.end)
        for w in given
    )


@given(windows, st.sampled_from(DAYS))
def test_an_order_of_windows_means_nothing(given: list[Window], day: str) -> None:
    more = [*given, window_from(f"{day} 03:00-05:00")]
    now_us, zone = us("2026-03-29T01:10"), ZoneInfo("Europe/Berlin")
    assert opening(more, zone, now_us) == opening(more[::-1], zone, now_us)
