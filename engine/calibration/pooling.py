"""Groups among others: pooled spread, shrinkage, and the confidence that a multiplier helps.

Source: points 7 to 9 of docs/explanation/calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from engine.calibration.samples import Group, GroupKey
from engine.calibration.survival import log_sd, median_of

PRIOR_WEIGHT = 4
VARIANCE_MIN = 1e-9
BETWEEN_MIN = 0.05**2
BETWEEN_MAX = 25.0
HALVINGS = 60
Z_90 = 1.6449
MEDIAN_COST = math.pi / 2
"""The variance of a normal's median over that of its mean."""

NORMAL = NormalDist()


class Measured(NamedTuple):
    """A group by itself: how many phases, clean ones among them, median and sd of x."""

    n: int
    k: int
    median: float | None
    sd: float | None


class Shrunk(NamedTuple):
    """A group among others.

    ``sd``: pooled with the others; ``shrink``: how much of the group's own median is believed, in
    (0, 1); ``log_multiplier`` and ``log_multiplier_sd``: what is proposed, and its error.
    """

    sd: float
    shrink: float
    log_multiplier: float
    log_multiplier_sd: float

    @property
    def confidence(self) -> float:
        """The probability that applying the multiplier beats leaving things alone."""
        return NORMAL.cdf(abs(self.log_multiplier) / (2 * self.log_multiplier_sd))

    @property
    def interval(self) -> tuple[float, float]:
        """Where the true multiplier lies with 90 %."""
        reach = Z_90 * self.log_multiplier_sd
        return math.exp(self.log_multiplier - reach), math.exp(self.log_multiplier + reach)


def measured(group: Group) -> Measured:
    """What a group says by itself."""
    centre = median_of(group.events, group.limits)
    sd = None if centre is None else log_sd(group.events, group.limits, centre)
    return Measured(group.n, group.k, centre, sd)


def shrunk(groups: Mapping[GroupKey, Measured]) -> dict[GroupKey, Shrunk]:
    """Every group of which median and sd are known, drawn towards no change by their agreement."""
    known = {key: each for key, each in groups.items() if each.sd is not None}
    spread = _pooled_variance(list(known.values()))
    sds = {key: _sd(each, spread) for key, each in known.items()}
    variances = {
        key: max(MEDIAN_COST * sds[key] ** 2 / each.n, VARIANCE_MIN) for key, each in known.items()
    }
    medians = [each.median or 0.0 for each in known.values()]
    between = between_groups(medians, list(variances.values()))
    return {
        key: _drawn(each.median or 0.0, sds[key], variances[key], between)
        for key, each in known.items()
    }


def _pooled_variance(known: Sequence[Measured]) -> float:
    weights = sum(each.k - 1 for each in known)
    if not weights:
        return 0.0
    return math.fsum((each.k - 1) * (each.sd or 0.0) ** 2 for each in known) / weights


def _sd(each: Measured, pooled: float) -> float:
    own = (each.k - 1) * (each.sd or 0.0) ** 2
    return math.sqrt((own + PRIOR_WEIGHT * pooled) / (each.k - 1 + PRIOR_WEIGHT))


def between_groups(medians: Sequence[float], variances: Sequence[float]) -> float:
    """The variance of true medians around 0, by moments (Paule and Mandel); at least 0.05²."""

    def excess(between: float) -> float:
        pairs = zip(medians, variances, strict=True)
        return math.fsum(m * m / (v + between) for m, v in pairs) - len(medians)

    low, high = 0.0, BETWEEN_MAX
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return max((low + high) / 2, BETWEEN_MIN)


def _drawn(median: float, sd: float, variance: float, between: float) -> Shrunk:
    shrink = between / (between + variance)
    return Shrunk(sd, shrink, shrink * median, math.sqrt(shrink * variance))
