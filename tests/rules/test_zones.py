"""Zones, whole: every name that is known, and the next moment that clocks show a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from hypothesis import given, strategies as st

from engine.zones import fixed_zone, next_time_us, zone

MINUTE_US, HOUR_US, DAY_US = 60_000_000, 3_600_000_000, 86_400_000_000


@pytest.mark.parametrize(
    ("said", "hours"),
    [
        *(("UTC", 0.0), ("utc", 0.0), ("GMT", 0.0), ("Z", 0.0), ("z", 0.0)),
        *(("EST", -5.0), ("EDT", -4.0), ("CST", -6.0), ("CDT", -5.0)),
        *(("MST", -7.0), ("MDT", -6.0), ("PST", -8.0), ("pdt", -7.0)),
        *(("+02:00", 2.0), ("-0330", -3.5), ("+0545", 5.75), ("UTC+2", 2.0), ("gmt-12", -12.0)),
        *(("+14:00", 14.0), ("+00:00", 0.0)),
        *(("+15:00", None), ("+02:60", None), ("+02:00x", None), ("IST", None), ("", None)),
        ("America/New_York", None),
    ],
)
def test_a_zone_without_a_calendar_is_an_offset(said: str, hours: float | None) -> None:
    found = fixed_zone(said)
    offset = None if found is None else found.utcoffset(None)
    assert offset == (None if hours is None else timedelta(hours=hours))
    if hours is not None:
        assert zone(said) == found


@pytest.mark.parametrize(
    "said", ["New_York", "America/", "America/Atlantis", "../etc", "/", "IST", "CET", "Japan"]
)
def test_what_is_no_zone_is_none(said: str) -> None:
    assert zone(said) is None


def test_only_names_of_places_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some machines know Japan or CET, too, and a recorded time must not rest on that."""

    def everywhere(_said: str) -> tzinfo:
        return UTC

    monkeypatch.setattr("engine.zones.ZoneInfo", everywhere)
    assert zone("Japan") is None
    assert zone("EST") == fixed_zone("EST")
    assert zone("Some/Where") is UTC


def us(*parts: int) -> int:
    return round(datetime(*parts, tzinfo=UTC).timestamp()) * 1_000_000  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("minute", "said", "after_us", "expected_us"),
    [
        (900, "UTC", us(2026, 12, 2, 14, 59), us(2026, 12, 2, 15)),
        (900, "UTC", us(2026, 12, 2, 15), us(2026, 12, 3, 15)),
        (900, "UTC", us(2026, 12, 2, 15) - 1, us(2026, 12, 2, 15)),
        (1435, "UTC", us(2026, 12, 2, 23, 50), us(2026, 12, 2, 23, 55)),
        (0, "PST", us(2026, 12, 2, 7), us(2026, 12, 2, 8)),
        (1435, "PST", us(2026, 12, 2, 7), us(2026, 12, 2, 7, 55)),
        # three in the afternoon in New York is 20:00 in winter and 19:00 in summer
        (900, "America/New_York", us(2026, 12, 2), us(2026, 12, 2, 20)),
        (900, "America/New_York", us(2026, 7, 2), us(2026, 7, 2, 19)),
        (900, "America/New_York", us(2026, 10, 31, 20), us(2026, 11, 1, 20)),
        # half past two in Berlin comes twice on the night to 25 October, and on 29 March not at all
        (150, "Europe/Berlin", us(2026, 10, 25, 0, 29), us(2026, 10, 25, 0, 30)),
        (150, "Europe/Berlin", us(2026, 10, 25, 0, 45), us(2026, 10, 25, 1, 30)),
        (150, "Europe/Berlin", us(2026, 10, 25, 1, 30), us(2026, 10, 26, 1, 30)),
        (150, "Europe/Berlin", us(2026, 3, 29, 0, 45), us(2026, 3, 29, 1, 30)),
        (150, "Europe/Berlin", us(2026, 3, 29, 1, 30), us(2026, 3, 30, 0, 30)),
    ],
)
def test_the_next_time_is_that_of_the_clocks_there(
    minute: int, said: str, after_us: int, expected_us: int
) -> None:
    where = zone(said)
    assert where is not None
    assert next_time_us(minute, where, after_us) == expected_us


PLACES = ["UTC", "PST", "+0545", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana"]
TURNS = [  # clocks are put forward or back, a year begins, a month ends on a leap day
    *(us(2026, 3, 29, 1), us(2026, 10, 25, 1), us(2026, 4, 4, 15), us(2026, 10, 3, 15, 30)),
    *(us(2026, 3, 8, 5), us(2026, 11, 1, 5), us(2027, 1, 1), us(2028, 2, 29, 23)),
]
moments = st.one_of(
    st.integers(946_684_800_000_000, 4_102_444_800_000_000),
    *(st.integers(turn - DAY_US, turn + DAY_US) for turn in TURNS),
)


@given(st.integers(0, 1439), st.sampled_from(PLACES), moments)
def test_the_next_time_is_the_first_that_clocks_show_and_lies_within_a_day(
    minute: int, said: str, now: int
) -> None:
    where = zone(said)
    assert where is not None
    found = next_time_us(minute, where, now)
    assert found is not None
    assert now < found <= now + DAY_US + HOUR_US  # a day on which clocks are set back is longer
    skipped = (minute_of_day(found, where) - minute) % 1440
    assert skipped <= 60  # of an hour that is left out
    first = now // MINUTE_US + 1
    before = range(first, found // MINUTE_US)
    assert not any(minute_of_day(each * MINUTE_US, where) == minute for each in before)


def minute_of_day(us: int, where: tzinfo) -> int:
    """What clocks in ``where`` show."""
    shown = datetime.fromtimestamp(us / 1e6, UTC).astimezone(where)
    return shown.hour * 60 + shown.minute


@pytest.mark.parametrize("after_us", [10**18, -(10**18), 253_402_300_799_000_000])
def test_beyond_the_calendar_there_is_no_next_time(after_us: int) -> None:
    assert next_time_us(0, UTC, after_us) is None
