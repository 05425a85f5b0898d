"""Budgets: how many times its estimate a phase may need, with 90 and with 98 %.

A budget is another thing than an estimate: an estimate is right in the middle, a budget holds
nearly always.  Conformal: ranks of what was seen, so no shape of the distribution is assumed until
the truncated samples leave no other way.  Source: point 11 of docs/explanation/calibration.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from engine.calibration.pooling import NORMAL, Shrunk
from engine.calibration.samples import Ratio

BudgetSource = Literal["group", "pooled", "extrapolated"]
P90, P98 = 90, 98


class Budget(NamedTuple):
    """A multiplier of the estimate, and where it was read from."""

    multiplier: float
    source: BudgetSource


def scores_of(ratios: Sequence[Ratio], centre: float = 0.0) -> list[float]:
    """How far beyond ``centre`` each phase went; a truncated one infinitely far."""
    return [math.inf if each.is_censored else each.x - centre for each in ratios]


def quantile(ordered: Sequence[float], percent: int) -> float:
    """The score that ``percent`` of further phases stay below; infinite if that is not known."""
    # Whole numbers: (n + 1) * 0.9 need not be what it says in floating point.
    rank = -(-(len(ordered) + 1) * percent // 100)
    return ordered[rank - 1] if rank <= len(ordered) else math.inf


def budget(percent: int, own: Sequence[float], pooled: Sequence[float], group: Shrunk) -> Budget:
    """The budget of one group; ``own`` and ``pooled`` are scores, in order, about 0 and about m."""
    score = quantile(own, percent)
    if math.isfinite(score):
        return Budget(math.exp(score), "group")
    residual = quantile(pooled, percent)
    if math.isfinite(residual):
        return Budget(math.exp(group.log_multiplier + residual), "pooled")
    error = math.hypot(group.sd, group.log_multiplier_sd)
    beyond = NORMAL.inv_cdf(percent / 100) * error
    return Budget(math.exp(group.log_multiplier + beyond), "extrapolated")
