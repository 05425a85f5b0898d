"""Schedule windows: when of a week a daemon may start attempts, in a time zone with its clocks.

Pure: the zone and the time come in as arguments.  A window is an interval between two readings of
the zone's clock; where clocks are put forward or back it is an hour shorter or longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import NamedTuple

from engine.errors import UsageProblem

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
WINDOWS_MAX = 64
_WINDOW = re.compile(
    r"(?:(?P<days>[a-z,-]+)\s+)?(?P<h1>\d\d):(?P<m1>\d\d)-(?P<h2>\d\d):(?P<m2>\d\d)", re.ASCII
)
_HOUR_MINUTES = 60
_DAY_MINUTES = 24 * _HOUR_MINUTES
_BEHIND, _AHEAD = 2, 9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Window(NamedTuple):
    """The days on which it begins (0 = Monday), and minutes of the day; it may end the day after.

    ``end`` is 1 to 1440; at or before ``start`` it is the next day's.
    """

    days: frozenset[int]
    start: int
    end: int


class Opening(NamedTuple):
    """Whether attempts may start, and when that changes (Unix microseconds; None for never)."""

    is_open: bool
    until_us: int | None


def window_from(text: str) -> Window:
    """A window such as ``Mon-Fri 20:00-06:00``, ``Sat,Sun 00:00-24:00`` or ``22:00-04:00``.

    Raises UsageProblem for anything else.
    """
    match = _WINDOW.fullmatch(text.strip().lower())
    days = _days(match["days"]) if match else None
    if match is None or days is None:
        raise _unreadable(text)
    start = _minutes(match["h1"], match["m1"])
    end = _minutes(match["h2"], match["m2"])
    if start is None or end is None or start in (_DAY_MINUTES, end):
        raise _unreadable(text)
    return Window(days, start, end or _DAY_MINUTES)


def _unreadable(text: str) -> UsageProblem:
    return UsageProblem(
        f"the window {text[:80]!a} cannot be read.",
        remedy="write DAYS HH:MM-HH:MM, such as `Mon-Fri 20:00-06:00`, `Sat,Sun 00:00-24:00`, or"
        " `22:00-04:00` for every day.",
    )


def _days(text: str | None) -> frozenset[int] | None:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if first not in DAYS or last not in DAYS:
            return None
        start, count = DAYS.index(first), (DAYS.index(last) - DAYS.index(first)) % 7 + 1
        found.update((start + step) % 7 for step in range(count))
    return frozenset(found)


def _minutes(hours: str, minutes: str) -> int | None:
    found = int(hours) * _HOUR_MINUTES + int(minutes)
    return found if int(minutes) < _HOUR_MINUTES and found <= _DAY_MINUTES else None


def opening(windows: Sequence[Window], zone: tzinfo, now_us: int) -> Opening:
    """Whether one of ``windows`` is open at ``now_us``; without any, all of time is open."""
    if not windows:
        return Opening(True, None)
    today = (_EPOCH + timedelta(microseconds=now_us)).astimezone(zone).date()
    for start_us, end_us in _merged(_intervals(windows, zone, today)):
        if now_us < start_us:
            return Opening(False, start_us)
        if now_us < end_us:
            always = end_us - start_us > (_AHEAD - 1) * _DAY_MINUTES * 60_000_000
            return Opening(True, None if always else end_us)
    return Opening(False, None)


def _intervals(windows: Sequence[Window], zone: tzinfo, today: date) -> Iterator[tuple[int, int]]:
    for ahead in range(-_BEHIND, _AHEAD + 1):
        day = today + timedelta(days=ahead)
        for window in windows:
            if day.weekday() in window.days:
                end = window.end if window.end > window.start else window.end + _DAY_MINUTES
                start_us = _instant(day, window.start, zone, last=False)
                end_us = _instant(day, end, zone, last=True)
                if start_us < end_us:
                    yield start_us, end_us


def _instant(day: date, minutes: int, zone: tzinfo, *, last: bool) -> int:
    """When the clock reads so.  Where it does so twice, the first or the ``last`` time.

    A reading that the clocks skip is as much later as they skip.
    """
    days, rest = divmod(minutes, _DAY_MINUTES)
    naive = datetime(day.year, day.month, day.day, rest // 60, rest % 60) + timedelta(days=days)  # noqa: DTZ001  a reading of the wall
    first = naive.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = naive.replace(tzinfo=zone, fold=1).astimezone(UTC)
    found = max(first, second) if last else first
    return (found - _EPOCH) // timedelta(microseconds=1)


def _merged(intervals: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """In order, and one where several touch."""
    current: tuple[int, int] | None = None
    for start_us, end_us in sorted(intervals):
        if current is not None and start_us <= current[1]:
            current = (current[0], max(current[1], end_us))
            continue
        if current is not None:
            yield current
        current = (start_us, end_us)
    if current is not None:
        yield current
