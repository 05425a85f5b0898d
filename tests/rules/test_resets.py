"""When a limit is lifted, whole: every form that providers print, and what only looks like one."""

from __future__ import annotations

import calendar
import time
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import event as noted, given, strategies as st

from engine.detect.resets import resets_at_us, resets_clock, resets_in_ms
from engine.events import ClockTime

SECOND, MINUTE, HOUR, DAY, WEEK = 1000, 60_000, 3_600_000, 86_400_000, 604_800_000
UNITS = {
    "ms": 1,
    "millisecond": 1,
    "milliseconds": 1,
    "s": SECOND,
    "sec": SECOND,
    "secs": SECOND,
    "second": SECOND,
    "seconds": SECOND,
    "m": MINUTE,
    "min": MINUTE,
    "mins": MINUTE,
    "minute": MINUTE,
    "minutes": MINUTE,
    "h": HOUR,
    "hr": HOUR,
    "hrs": HOUR,
    "hour": HOUR,
    "hours": HOUR,
    "d": DAY,
    "day": DAY,
    "days": DAY,
    "w": WEEK,
    "week": WEEK,
    "weeks": WEEK,
}


# Spans.


@pytest.mark.parametrize("unit", UNITS)
def test_a_span_is_read_in_every_spelling_of_its_unit(unit: str) -> None:
    for word, gap, number in product(
        ("try again", "retry", "reset", "resets", "resetting", "available", "wait"),
        (" in ", " after ", " for ", " ", " in: "),
        ("1", "20", "1.5", "0.25"),
    ):
        for said in (f"{word}{gap}{number}{unit}", f"{word}{gap}{number} {unit}."):
            expected = round(float(number) * UNITS[unit])
            assert resets_in_ms(said) == expected, said
            assert resets_in_ms(f"Error 429: {said.upper()} OR ELSE") == expected, said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # as providers print them
        ("Please try again in 20s.", 20 * SECOND),
        ("Please try again in 1m30s.", 90 * SECOND),
        ("Please try again in 6m0s.", 6 * MINUTE),
        ("Please try again in 1h2m3.5s", HOUR + 2 * MINUTE + 3500),
        ("Please try again in 850ms.", 850),
        ("Please retry in 12.403297s.", 12_403),
        ("Your limit resets in 2 hours and 5 minutes", 2 * HOUR + 5 * MINUTE),
        ("resets in 1 day, 2 hours", DAY + 2 * HOUR),
        ("quota will be available again in 3 days", 3 * DAY),
        ("please wait for 45 seconds before sending", 45 * SECOND),
        ("please wait 45 seconds", 45 * SECOND),
        ("retry after 30 seconds", 30 * SECOND),
        ('"retryDelay": "17s"', 17 * SECOND),
        ("reset after 4h 59m 59s", 5 * HOUR - SECOND),
        ("try again in 1d 1h 1m 1s", DAY + HOUR + MINUTE + SECOND),
        # four parts are read, a fifth is not
        ("try again in 1d 1h 1m 1s 500ms", DAY + HOUR + MINUTE + SECOND),
        # the first span that is stated
        ("retry in 5s, or try again in 9s", 5 * SECOND),
        # numbers are bounded
        ("try again in 999999999s", 999_999_999 * SECOND),
        ("try again in 1234567890s", None),
        ("try again in 1.1234567s", None),
        # up to 24 characters may stand between
        ("try again whenever you like in 5s", 5 * SECOND),
        ("available" + " " + "x" * 22 + " in 5s", 5 * SECOND),
        ("available" + " " + "x" * 27 + " in 5s", None),
        ("resets" + " " + "x" * 22 + " in 5s", 5 * SECOND),
        ("resetting" + " " + "x" * 22 + " in 5s", 5 * SECOND),
        ("retry-after" + " " + "x" * 22 + " after 5s", 5 * SECOND),
        ("try again" + " " + "x" * 22 + " for 5s", 5 * SECOND),
        ("wait" + " " + "x" * 23 + " for 5s", None),
        # and numbers among them are not the span's
        ("retry 2 more times in 5s", 5 * SECOND),
        # but nothing else
        ("try again. In 5s", None),
        ("reset; in 5s", None),
        # a number without a unit or with some other word is no span
        ("try again in 5", None),
        ("try again in 5 steps", None),
        ("retry 3 more times", None),
        ("retry in 3 months", None),
        ("retry in 3 dozens", None),
        ("wait for 10 hits", None),
        ("wait 5 msx", None),
        # no word for it at all
        ("in 20s", None),
        ("after 20 seconds it broke", None),
        ("took 20s", None),
        ("", None),
    ],
)
def test_a_span_is_a_word_for_it_and_numbers_with_units(text: str, expected: int | None) -> None:
    assert resets_in_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("retry-after: 20", 20 * SECOND),
        ("Retry-After: 20", 20 * SECOND),
        ("retry_after: 20", 20 * SECOND),
        ("retryAfter: 20", 20 * SECOND),
        ("retry after=20", 20 * SECOND),
        ("retry-after=20", 20 * SECOND),
        ("retry-after : 20", 20 * SECOND),
        ('"retry-after": "20"', 20 * SECOND),
        ("'retry-after': '20'", 20 * SECOND),
        ("retry-after:20", 20 * SECOND),
        ("retry-after-ms: 1500", 1500),
        ("retry-after-MS: 1500", 1500),
        ("retry_after_ms=1500", 1500),
        ("retryAfterMs: 1500", 1500),
        ("retry after ms: 1500", 1500),
        ("retry-after-seconds: 12", 12 * SECOND),
        ("retry_after_seconds=12.5", 12_500),
        ('{"retry_after_seconds": 12}', 12 * SECOND),
        ("retry-after: 0.0004", 0),
        ("retry-after: 0", 0),
        ("retry-after: 999999999", 999_999_999 * SECOND),
        # a header with a unit is a span
        ("retry-after: 20s", 20 * SECOND),
        ("retry-after: 2m", 2 * MINUTE),
        ("retry-after: 1500 ms", 1500),
        ("retry-after: 1.5h", 90 * MINUTE),
        # a header is better than a span
        ("try again in 5s; retry-after: 20", 20 * SECOND),
        ("retry-after: 20 minutes", 20 * MINUTE),
        ("retry-after: 2 weeks", 2 * WEEK),
        # a number that goes on is another thing
        ("retry-after: 1234567890", None),
        ("retry-after: 1.1234567", None),
        ("retry-after: 2026-12-02 08:00:00", None),
        ("retry-after: 01:30:00", None),
        ("retry-after: 20/10", None),
        # no number, no header
        ("retry-after: Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("retry-after", None),
        ("retries-after: 20", None),
    ],
)
def test_the_header_counts_seconds_unless_it_says_milliseconds(
    text: str, expected: int | None
) -> None:
    assert resets_in_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Rate limited, retry after 90", 90 * SECOND),
        ("RETRY AFTER 90", 90 * SECOND),
        ("retry-after 90", 90 * SECOND),
        ("retry_after 90", 90 * SECOND),
        ("retry after 1.5", 1500),
        ("retry after 90.", 90 * SECOND),
        ("please retry after 90, or give up", 90 * SECOND),
        ("(retry after 90)", 90 * SECOND),
        ('"retry after 90"}', 90 * SECOND),
        ("retry after 90 (request req_1)", 90 * SECOND),
        ("retry after 90 \r\nbye", 90 * SECOND),
        ("retry after 5, or try again in 9s", 5 * SECOND),
        ("try again in 9s, or retry after 5", 9 * SECOND),
        ("wait 'retry after 5' 9s", 9 * SECOND),  # the first to begin, not to end
        # not where it counts something else, or goes on
        ("retry after 90 seconds", 90 * SECOND),
        ("retry after 2 minutes", 2 * MINUTE),
        ("retry after 3 failed attempts", None),
        ("retry after 90%", None),
        ("retry after 10:30", None),
        ("retry after 2026-12-02", None),
        ("retry after 1767225600", None),
        ("retry in 90", None),
        ("we retry 90", None),
    ],
)
def test_a_number_with_which_a_clause_ends_counts_seconds_behind_retry_after(
    text: str, expected: int | None
) -> None:
    assert resets_in_ms(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("your limit will reset in 01:30:00", HOUR + 30 * MINUTE),
        ("RESETS IN 01:30:07.", HOUR + 30 * MINUTE + 7 * SECOND),
        ("try again in 100:00:01", 100 * HOUR + SECOND),
        ("available again in: 00:00:59", 59 * SECOND),
        ("wait for 0:10:00", 10 * MINUTE),
        ("retry after 0:10:00", 10 * MINUTE),
        ("resetting in 0:10:00, try again in 9s", 10 * MINUTE),
        ("resets in 1:30", None),  # hours, or minutes?
        ("resets in 01:60:00", None),
        ("resets in 01:30:60", None),
        ("resets in 01:30:00:00", None),
        ("resets in 01:30:00.5", None),
        ("resets in 1000:00:00", None),
        ("resets at 01:30:00", None),
        ("took in 01:30:00", None),
    ],
)
def test_hours_minutes_and_seconds_are_a_span_behind_in(text: str, expected: int | None) -> None:
    assert resets_in_ms(text) == expected


def test_halves_of_milliseconds_are_rounded() -> None:
    assert resets_in_ms("try again in 1.4ms") == 1
    assert resets_in_ms("try again in 1.6ms") == 2
    assert resets_in_ms("retry-after: 0.0016") == 2
    assert resets_in_ms("retry-after-ms: 1.6") == 2


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(sorted(UNITS))), min_size=1, max_size=4),
    st.sampled_from([" ", ", ", " and ", ""]),
)
def test_a_span_is_the_sum_of_its_parts(parts: list[tuple[int, str]], between: str) -> None:
    if between == "":
        parts = [(number, unit) for number, unit in parts if len(unit) == 1] or [(1, "s")]
    said = between.join(f"{number} {unit}" for number, unit in parts)
    noted(f"{len(parts)} parts")
    assert resets_in_ms(f"try again in {said}.") == sum(n * UNITS[u] for n, u in parts)


# Points in time.

MONTHS = list(
    enumerate(
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"], 1
    )
)

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ZONES = [
    *(("UTC", 0.0), ("GMT", 0.0), ("Z", 0.0), ("+0000 UTC", 0.0)),
    *(("EST", -5.0), ("EDT", -4.0), ("CST", -6.0), ("CDT", -5.0)),
    *(("MST", -7.0), ("MDT", -6.0), ("PST", -8.0), ("PDT", -7.0)),
    *(("UTC-8", -8.0), ("GMT+5:30", 5.5), ("utc+0530", 5.5), ("+02:00", 2.0), ("-0330", -3.5)),
]
POINT_US = round(datetime(2026, 11, 26, 3, 0, tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("text", "off_us"),
    [
        ("resets_at: 2026-11-26T03:00:00Z", 0),
        ("RESETS_AT: 2026-11-26T03:00:00Z", 0),
        ('"reset": "2026-11-26T03:00:00Z"', 0),
        ("anthropic-ratelimit-requests-reset: 2026-11-26T03:00:00Z", 0),
        ("your quota resets on 2026-11-26 03:00:00", 0),
        ("available at 2026-11-26 03:00", 0),
        ("retry at 2026-11-26T03:00", 0),
        ("reset 2026-11-26T03:00:07Z", 7_000_000),
        ("reset 2026-11-26T03:00:00.5Z", 500_000),
        ("reset 2026-11-26T03:00:00.000250Z", 250),
        ("reset 2026-11-26T03:00:00+01:00", -3_600_000_000),
        ("reset 2026-11-26T03:00:00-0130", 5_400_000_000),
        ("reset 2026-11-26 03:00:00+00:00", 0),
        ("reset" + " " * 40 + "2026-11-26T03:00:00Z", 0),
        ("reset 2026-11-26T03:00Z and reset 2027-01-01T00:00Z", 0),
        ("reset 2026-11-26T03:00:00.000250999Z", 250),
        # in the zones that RFC 5322 names, and in any that is a number
        *((f"Reset: 2026-11-26 03:00:00 {zone}", -hours * 3_600_000_000) for zone, hours in ZONES),
        *((f"reset 2026-11-26 03:00 ({zone.lower()})", -h * 3_600_000_000) for zone, h in ZONES),
        # what stands behind is no zone when it does not look like one
        ("reset 2026-11-26 03:00:00 or later", 0),
        ("reset 2026-11-26 03:00:00 (in 5 hours)", 0),
        ("reset 2026-11-26 03:00:00\nERROR", 0),
    ],
)
def test_a_point_in_time_is_utc_unless_it_says_otherwise(text: str, off_us: int) -> None:
    assert resets_at_us(text) == POINT_US + off_us


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/New_York"])
def test_where_the_machine_stands_does_not_matter(
    zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert resets_at_us("resets at 2026-11-26 03:00:00") == POINT_US
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-26T03:00:00Z",  # nobody says what happens then
        "started at 2026-11-26T03:00:00Z",
        "reset" + " " * 41 + "2026-11-26T03:00:00Z",
        "reset; 2026-11-26T03:00:00Z",
        "reset 2026-11-26",
        "reset 2026-13-26T03:00:00Z",  # there is no such month
        "reset 2026-11-31T03:00:00Z",
        "reset 2026-11-26T25:00:00Z",
        "reset 2026-11-26T03:00:00+99:00",
        "reset in 20s",
        # in a zone that nobody knows, or half a day later
        "reset 2026-11-26 03:00:00 IST",
        "reset 2026-11-26 03:00:00 XYZ",
        "reset 2026-11-26 03:00 (America/New_York)",
        "reset 2026-11-26 03:00 Europe/Berlin",
        "reset 2026-11-26 03:00 UTC+15",
        "reset 2026-11-26 03:00 pm",
        "reset 2026-11-26 03:00 P.M.",
        "",
    ],
)
def test_what_is_no_point_in_time_is_none(text: str) -> None:
    assert resets_at_us(text) is None


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("Retry-After: Wed, 02 Dec 2026 07:28:00 GMT", (2026, 12, 2, 7, 28)),
        ('"retry-after": "Wed, 02 Dec 2026 07:28:00 GMT"', (2026, 12, 2, 7, 28)),
        ("x-ratelimit-reset: Thu, 01 Jan 2026 00:00:59 GMT", (2026, 1, 1, 0, 0, 59)),
        ("available: Wed, 02 Dec 2026 07:28:00 GMT", (2026, 12, 2, 7, 28)),
        *((f"reset: Wed, 05 {m} 2026 07:28:00 GMT", (2026, n, 5, 7, 28)) for n, m in MONTHS),
        *((f"reset: {day}, 05 May 2026 07:28:00 GMT", (2026, 5, 5, 7, 28)) for day in DAYS),
        ("reset: Day, 05 May 2026 07:28:00 GMT", None),
        ("Date: Wed, 02 Dec 2026 07:28:00 GMT", None),
        ("Retry-After: Wed, 31 Nov 2026 07:28:00 GMT", None),
        ("Retry-After: Wed, 02 Dec 2026 24:28:00 GMT", None),
        ("Retry-After: Wed, 02 Dec 2026 07:28:00 PST", None),
        ("Retry-After: Wednesday, 02-Dec-26 07:28:00 GMT", None),  # obsolete, and not sent
    ],
)
def test_the_header_may_hold_an_http_date(text: str, at: tuple[int, ...] | None) -> None:
    expected = None if at is None else calendar.timegm((*at, 0)) * 1_000_000
    assert resets_at_us(text) == expected
    assert resets_in_ms(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Claude AI usage limit reached|1767225600", 1_767_225_600),
        ("usage limit reached|1767225600999", 1_767_225_600),
        ("limit reached|17672256", None),
        ("limit reached 1767225600", None),
        ("x-ratelimit-reset: 1767225600", 1_767_225_600),
        ("X-RateLimit-Reset=1767225600", 1_767_225_600),
        ('"reset_at": "1767225600"', 1_767_225_600),
        ("resets at 1767225600", 1_767_225_600),
        ("reset 1767225600999", 1_767_225_600),  # milliseconds are cut
        ("reset 1500000000", 1_500_000_000),
        ("reset 1999999999", 1_999_999_999),
        ("reset 2000000000", 2_000_000_000),
        ("reset 3999999999", 3_999_999_999),
        ("reset" + " " * 24 + "1767225600", 1_767_225_600),
        ("reset 1499999999", None),  # 2017: no limit of today
        ("reset 4000000000", None),
        ("reset 176722560", None),
        ("reset 17672256001", None),
        ("reset 17672256009999", None),
        ("reset" + " " * 25 + "1767225600", None),
        ("reset; 1767225600", None),
        ("retry 1767225600", None),
        ("request 1767225600 failed", None),
    ],
)
def test_a_unix_time_is_ten_or_thirteen_digits_behind_a_reset(
    text: str, seconds: int | None
) -> None:
    assert resets_at_us(text) == (None if seconds is None else seconds * 1_000_000)


def test_a_written_time_is_better_than_a_unix_time_even_where_it_is_none() -> None:
    assert resets_at_us("reset 1767225600 or reset 2026-11-26T03:00Z") == POINT_US
    assert resets_at_us("reset 2026-13-26T03:00Z or reset 1767225600") is None


@given(
    st.integers(946_684_800_000_000, 4_102_444_800_000_000),
    st.sampled_from([None, 0, 60, -330, 840]),
    st.sampled_from([" ", "T"]),
)
def test_a_point_in_time_is_that_very_microsecond(
    us: int, offset_minutes: int | None, between: str
) -> None:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(
        microseconds=us, minutes=offset_minutes or 0
    )
    said = moment.isoformat(between).removesuffix("+00:00")
    if offset_minutes is not None:
        hours, minutes = divmod(abs(offset_minutes), 60)
        said += f"{'-' if offset_minutes < 0 else '+'}{hours:02}:{minutes:02}"
    noted(f"offset {offset_minutes}")
    assert resets_at_us(f"resets at {said}") == us


# Times of day.


@pytest.mark.parametrize(
    ("text", "hour", "minute", "zone"),
    [
        ("limit reached \u2219 resets 3pm", 15, 0, None),
        ("resets 3:30 pm (America/New_York)", 15, 30, "America/New_York"),
        ("resets at 3pm (UTC)", 15, 0, "UTC"),
        ("RESETS AT 3PM UTC", 15, 0, "UTC"),
        ("resets at 3 p.m. PST", 15, 0, "PST"),
        ("try again at 3:05 PM.", 15, 5, None),
        ("retry at 3pm", 15, 0, None),
        ("resetting at 3pm", 15, 0, None),
        ("reset_at 3pm", 15, 0, None),
        ("available again at 15:05 UTC", 15, 5, "UTC"),
        ("resets_at: 15:05:59 +02:00", 15, 5, "+02:00"),
        ('"reset": "09:05Z"', 9, 5, "Z"),
        ("resets 0:00 utc+2", 0, 0, "utc+2"),
        ("resets 23:59 Europe/Berlin", 23, 59, "Europe/Berlin"),
        ("resets 1am (UTC)", 1, 0, "UTC"),
        ("resets 12am (UTC)", 0, 0, "UTC"),
        ("resets 12:30am", 0, 30, None),
        ("resets 12pm", 12, 0, None),
        ("resets 11pm tonight", 23, 0, None),
    ],
)
def test_a_time_of_day_is_recorded_with_the_zone_that_it_names(
    text: str, hour: int, minute: int, zone: str | None
) -> None:
    assert resets_clock(text) == ClockTime(minute=hour * 60 + minute, zone=zone)
    assert (resets_at_us(text), resets_in_ms(text)) == (None, None)


@pytest.mark.parametrize(
    "text",
    [
        "resets 3",
        "resets 13pm",
        "resets 0am",
        "resets 15:30 pm",
        "resets 24:00",
        "resets 3:60",
        "resets 3pmx",
        "resets in 01:30:00",
        "resets in 3:30",
        "resets Oct 9 at 3pm (UTC)",  # of which day is then said
        "resets on Monday at 3pm",
        "resets_at: 2026-11-26T03:00:00Z",
        "resets 1767225600",
        "started at 3pm",
        "3pm",
        "",
    ],
)
def test_what_is_no_time_of_day_is_none(text: str) -> None:
    assert resets_clock(text) is None


# Bounds.


@pytest.mark.parametrize(
    "piece", ["reset ", "retry after ", "retry-after: 9", "resets 1", "reset 2026-", "(A/", "1s "]
)
def test_reading_takes_time_by_the_length_of_the_text(piece: str) -> None:
    text = piece * (400_000 // len(piece))
    started = time.process_time()
    for read in (resets_in_ms, resets_at_us, resets_clock):
        read(text)
    assert time.process_time() - started < 5
