"""Drift: whether the newest ratios of a group still look like those before them.

A tie-corrected rank test of the newest 25 against all older ones, at every fifth sample; an alarm
begins the reference anew.  Source: point 13 of docs/explanation/calibration.md.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.calibration.samples import Ratio

NEWEST = 25
WATCHED_FROM = 45
TESTED_EVERY = 5
ALARM_Z = 3.0
AVERAGE_WEIGHT = 0.1
MERGED_AT = 512

Status = Literal["too_few", "steady", "alarm"]


class Alarm(msgspec.Struct, frozen=True):
    """The sample at which the newest ones no longer looked like those before, and how clearly.

    ``z`` above 0: the newest are larger.
    """

    pos: int
    z: float


class Drift(msgspec.Struct, frozen=True):
    """What was watched of one group.

    ``watched``: ratios since the last alarm, ``needed``: how many more until they can be watched;
    ``z`` of the last look, None before the first.  ``status`` is ``alarm`` as long as the last one
    lies among the newest 25 ratios.
    """

    status: Status
    watched: int
    needed: int
    z: float | None
    alarms: tuple[Alarm, ...]


def drift_of(ratios: Sequence[Ratio]) -> Drift:
    """Watch the clean ratios of a group in their order."""
    watch = Watch()
    for ratio in ratios:
        if not ratio.is_censored:
            watch.take(ratio)
    return watch.drift()


class Watch:
    """The test at work over one group; ``count`` is of the ratios since the last alarm."""

    def __init__(self) -> None:
        self._alarms: list[Alarm] = []
        self._z: float | None = None
        self._begin()

    def _begin(self) -> None:
        self.count = 0
        self._newest: deque[float] = deque()
        self._newest_ordered: list[float] = []
        self._settled: list[float] = []
        self._recent: list[float] = []
        self._ranks_doubled = 0
        self._ties = 0

    def take(self, ratio: Ratio) -> Alarm | None:
        """One more ratio; the alarm that it raised, if it did."""
        self._add(ratio.x)
        if self.count < WATCHED_FROM or self.count % TESTED_EVERY:
            return None
        self._z = self._rank_test()
        if abs(self._z) < ALARM_Z:
            return None
        alarm = Alarm(ratio.pos, self._z)
        self._alarms.append(alarm)
        self._begin()
        return alarm

    def drift(self) -> Drift:
        """What was seen so far."""
        needed = max(0, WATCHED_FROM - self.count)
        is_recent = bool(self._alarms) and self.count < NEWEST
        status: Status = "alarm" if is_recent else "too_few" if needed else "steady"
        return Drift(status, self.count, needed, self._z, tuple(self._alarms))

    def _add(self, x: float) -> None:
        settled, recent = self._settled, self._recent
        left, right = bisect_left(settled, x), bisect_right(settled, x)
        first, last = bisect_left(recent, x), bisect_right(recent, x)
        alike = right - left + last - first
        self._ties += 3 * alike * (alike + 1)
        recent.insert(last, x)
        self.count += 1
        self._move_on(x, left + first + right + last + 2)
        if len(recent) >= MERGED_AT:
            # Two ordered lists, a long and a short one: inserting into a long one costs its length.
            self._settled, self._recent = sorted(settled + recent), []

    def _move_on(self, x: float, rank_doubled: int) -> None:
        """Make ``x`` one of the newest, and keep the sum of their ranks among all.

        Above ``x`` everyone's rank rises by one and beside it by one half; so ranks are counted
        twice, in whole numbers.
        """
        ordered = self._newest_ordered
        left, right = bisect_left(ordered, x), bisect_right(ordered, x)
        self._ranks_doubled += 2 * (len(ordered) - right) + (right - left) + rank_doubled
        ordered.insert(right, x)
        self._newest.append(x)
        if len(ordered) > NEWEST:
            oldest = self._newest.popleft()
            del ordered[bisect_left(ordered, oldest)]
            self._ranks_doubled -= self._rank_doubled(oldest)

    def _rank_doubled(self, x: float) -> int:
        settled, recent = self._settled, self._recent
        below = bisect_left(settled, x) + bisect_left(recent, x)
        return below + bisect_right(settled, x) + bisect_right(recent, x) + 1

    def _rank_test(self) -> float:
        total = self.count
        spread = NEWEST * (total - NEWEST) / 12
        variance = spread * (total + 1 - self._ties / (total * (total - 1)))
        if variance <= 0:
            return 0.0
        return (self._ranks_doubled - NEWEST * (total + 1)) / 2 / math.sqrt(variance)


def moving_average(xs: Sequence[float]) -> list[float]:
    """Exponentially weighted, for the eye only; no alarm is read from it."""
    found: list[float] = []
    for x in xs:
        found.append(x if not found else found[-1] + AVERAGE_WEIGHT * (x - found[-1]))
    return found
