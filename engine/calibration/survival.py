"""The median and spread of ratios of which some are only known from below.

A truncated answer says that the phase wanted at least so much.  Leaving it out makes a multiplier
14 to 21 % too low, taking it at face value does so too; both are measured.  Source: points 5 and 6
of docs/explanation/calibration.md.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby
from statistics import median
from typing import NamedTuple

DEVIATION_MIN = 0.05
SD_START_MIN = 0.05
SD_MIN = 0.02
CLIP_DEVIATIONS = 3.0
NORMAL_DEVIATION = 1.4826
"""The standard deviation of a normal over its median absolute deviation."""

ROUNDS_MAX = 200
CHANGE_MIN = 1e-9
_TAIL = 37.0
_ROOT_2 = math.sqrt(2.0)
_ROOT_2_PI = math.sqrt(2.0 / math.pi)


def median_of(events: Sequence[float], limits: Sequence[float]) -> float | None:
    """The Kaplan-Meier median of ``events`` and of what lies beyond ``limits``; None if unreached.

    At ties events come before limits.  Where the curve is exactly one half, the midpoint to the
    next event, if there is one.
    """
    ordered, cut = sorted(events), sorted(limits)
    curve = _Curve(len(ordered) + len(cut))
    half: float | None = None
    passed = 0
    for x, same in groupby(ordered):
        if half is not None:
            return (half + x) / 2
        gone = bisect_left(cut, x)
        curve.leave(gone - passed)
        passed = gone
        curve.fall(sum(1 for _ in same))
        side = curve.against_half()
        if side < 0:
            return x
        half = x if side == 0 else None
    return half


class _Curve:
    """The share that is left, exactly: a product of quotients, one between any two limits."""

    def __init__(self, at_risk: int) -> None:
        self.at_risk = self._entered = at_risk
        self._quotients: list[tuple[int, int]] = []
        self._share = 1.0

    def leave(self, count: int) -> None:
        """So many are lost from sight: the share stays, who is at risk does not."""
        if count:
            self._quotients.append((self.at_risk, self._entered))
            self._share *= self.at_risk / self._entered
            self.at_risk -= count
            self._entered = self.at_risk

    def fall(self, count: int) -> None:
        """So many events."""
        self.at_risk -= count

    def against_half(self) -> int:
        """Whether the share is below (-1), at (0) or above (1) one half."""
        share = self._share * self.at_risk / self._entered
        if abs(share - 0.5) > CHANGE_MIN:
            return 1 if share > 0.5 else -1  # noqa: PLR2004
        above = math.prod(top for top, _ in self._quotients) * self.at_risk * 2
        below = math.prod(bottom for _, bottom in self._quotients) * self._entered
        return (above > below) - (above < below)


def log_sd(events: Sequence[float], limits: Sequence[float], centre: float) -> float | None:
    """The standard deviation of x around ``centre``, robust and corrected; None below 2 events."""
    if len(events) < 2:  # noqa: PLR2004
        return None
    low, high = _bounds(events, len(limits), centre)
    sd = censored_sd(
        [min(max(x, low), high) for x in events], [min(max(x, low), high) for x in limits]
    )
    return sd * math.sqrt(len(events) / (len(events) - 1))


def _bounds(events: Sequence[float], limits: int, centre: float) -> tuple[float, float]:
    """Where outliers are cut off: three deviations, to which a truncated sample is infinite."""
    deviation = median([abs(x - centre) for x in events] + [math.inf] * limits)
    if math.isinf(deviation):
        return -math.inf, math.inf
    reach = CLIP_DEVIATIONS * max(NORMAL_DEVIATION * deviation, DEVIATION_MIN)
    return centre - reach, centre + reach


class _Seen(NamedTuple):
    """The events as the steps of EM need them: how many, their mean, squares around it."""

    n: int
    mean: float
    squares: float


def censored_sd(events: Sequence[float], limits: Sequence[float]) -> float:
    """The sd of a normal of which ``events`` were seen and the rest is beyond ``limits``, by EM."""
    n, mean = len(events), math.fsum(events) / len(events)
    seen = _Seen(n, mean, math.fsum((x - mean) ** 2 for x in events))
    if not limits:
        return math.sqrt(seen.squares / n)
    every = [*events, *limits]
    mu = math.fsum(every) / len(every)
    sd = math.sqrt(math.fsum((x - mu) ** 2 for x in every) / len(every))
    sd = max(sd, SD_START_MIN)
    for _ in range(ROUNDS_MAX):
        before = mu, sd
        mu, sd = _round(seen, limits, mu, sd)
        if abs(mu - before[0]) + abs(sd - before[1]) < CHANGE_MIN:
            break
    return sd


def _round(seen: _Seen, limits: Sequence[float], mu: float, sd: float) -> tuple[float, float]:
    """One step: where the unseen are expected, then the mean and sd of all."""
    zs = [(x - mu) / sd for x in limits]
    hs = [hazard(z) for z in zs]
    total = seen.n + len(limits)
    expected = [mu + sd * h for h in hs]
    new = (seen.n * seen.mean + math.fsum(expected)) / total
    unseen = math.fsum((x - new) ** 2 for x in expected)
    spread = sd * sd * math.fsum(1 + z * h - h * h for z, h in zip(zs, hs, strict=True))
    variance = (seen.squares + seen.n * (seen.mean - new) ** 2 + unseen + spread) / total
    return new, max(SD_MIN, math.sqrt(max(variance, 0.0)))


def hazard(z: float) -> float:
    """The density of the standard normal at ``z`` over what lies beyond it."""
    if z < _TAIL:
        return _ROOT_2_PI * math.exp(-z * z / 2) / math.erfc(z / _ROOT_2)
    # Both underflow out there; Laplace's continued fraction converges at once.
    return z + 1 / (z + 2 / (z + 3 / (z + 4 / z)))
