"""The documented outputs: what the handoff of build 139 says a calibration prints, and kin.

Over the clean samples of a group, several of one phase included.  The median is the true one: the
original took the upper of the two middles, which at four samples came to 1.74 where 0.97 was due.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from engine.calibration.samples import Group, Sample

SAMPLES_FOR_CERTAINTY = 20


class Documented(NamedTuple):
    """Tokens, and ratios actual / estimated; None where there is no sample to tell from.

    ``smape`` and ``mape`` are percentages, ``waste_*`` ratios estimated / actual.
    """

    sample_count: int = 0
    avg_actual: float | None = None
    avg_estimated: float | None = None
    avg_ratio: float | None = None
    median_ratio: float | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None
    ratio_variance: float | None = None
    documented_confidence: float | None = None
    smape: float | None = None
    mape: float | None = None
    waste_median: float | None = None
    waste_p90: float | None = None
    truncation_rate: float | None = None
    underestimation_rate: float | None = None


def documented(group: Group) -> Documented:
    """The outputs of one group."""
    known, clean = len(group.clean) + len(group.censored), group.clean
    if known == 0:
        return Documented()
    rates = Documented(
        truncation_rate=len(group.censored) / known,
        underestimation_rate=_underestimated(group) / known,
    )
    if not clean:
        return rates
    actual = [each.actual or 0.0 for each in clean]
    estimated = [each.estimated or 0.0 for each in clean]
    return _of_pairs(rates, actual, estimated)


def _underestimated(group: Group) -> int:
    # A truncated sample wanted more than it got, so reaching the estimate is exceeding it.
    return sum(_actual(each) > _estimated(each) for each in group.clean) + sum(
        _actual(each) >= _estimated(each) for each in group.censored
    )


def _actual(sample: Sample) -> float:
    return sample.actual or 0.0


def _estimated(sample: Sample) -> float:
    return sample.estimated or 0.0


def _of_pairs(rates: Documented, actual: Sequence[float], estimated: Sequence[float]) -> Documented:
    n = len(actual)
    pairs = list(zip(actual, estimated, strict=True))
    ratios = [a / e for a, e in pairs]
    waste = sorted(e / a for a, e in pairs)
    mean = math.fsum(ratios) / n
    variance = math.fsum([(ratio - mean) ** 2 for ratio in ratios]) / n
    return rates._replace(
        sample_count=n,
        avg_actual=math.fsum(actual) / n,
        avg_estimated=math.fsum(estimated) / n,
        avg_ratio=mean,
        median_ratio=median(ratios),
        min_ratio=min(ratios),
        max_ratio=max(ratios),
        ratio_variance=variance,
        documented_confidence=confidence(n, math.sqrt(variance)),
        smape=math.fsum([200 * abs(a - e) / (a + e) for a, e in pairs]) / n,
        mape=math.fsum([100 * abs(a - e) / a for a, e in pairs]) / n,
        waste_median=median(waste),
        # Nearest rank, in whole numbers: 0.9 * 10 need not be 9 in floating point.
        waste_p90=waste[-(-9 * n // 10) - 1],
    )


def confidence(count: int, ratio_sd: float) -> float:
    """The documented confidence in [0, 1], from the number of samples and their spread.

    It predicts hardly better than chance whether a multiplier helps; see ``pooling``.
    """
    return 0.5 * min(1.0, count / SAMPLES_FOR_CERTAINTY) + 0.5 * max(0.0, 1.0 - ratio_sd)
