"""The statistics once more, from their definitions, slowly and by other means.

Nothing here comes from ``engine.calibration``: curves are exact fractions, the censored normal is
fitted by climbing its likelihood rather than by EM, ranks are counted one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from statistics import NormalDist, fmean, median, pstdev
from typing import Any, NamedTuple

NORMAL = NormalDist()


class Row(NamedTuple):
    """A sample as a table has it; ``at`` orders rows."""

    at: int
    phase: tuple[str, str]
    estimated: float
    actual: float
    is_cut: bool

    @property
    def x(self) -> float:
        return math.log(self.actual) - math.log(self.estimated)


def documented(rows: Sequence[Row]) -> dict[str, float]:
    """Point 3, over clean rows and with the rates over all."""
    clean = [row for row in rows if not row.is_cut]
    ratios = [row.actual / row.estimated for row in clean]
    waste = sorted(row.estimated / row.actual for row in clean)
    over = [
        row.actual >= row.estimated if row.is_cut else row.actual > row.estimated for row in rows
    ]
    sd = pstdev(ratios)
    return {
        "sample_count": len(clean),
        "avg_actual": fmean(row.actual for row in clean),
        "avg_estimated": fmean(row.estimated for row in clean),
        "avg_ratio": fmean(ratios),
        "median_ratio": median(ratios),
        "min_ratio": min(ratios),
        "max_ratio": max(ratios),
        "ratio_variance": sd**2,
        "documented_confidence": min(1, len(clean) / 20) / 2 + max(0, 1 - sd) / 2,
        "smape": fmean(200 * abs(r.actual - r.estimated) / (r.actual + r.estimated) for r in clean),
        "mape": fmean(100 * abs(r.actual - r.estimated) / r.actual for r in clean),
        "waste_median": median(waste),
        "waste_p90": next(
            w for i, w in enumerate(waste, 1) if Fraction(i, len(waste)) >= Fraction(9, 10)
        ),
        "truncation_rate": 1 - len(clean) / len(rows),
        "underestimation_rate": sum(over) / len(rows),
    }


def phases(rows: Sequence[Row]) -> list[Row]:
    """Point 4."""
    found: dict[tuple[str, str], Row] = {}
    for row in sorted(rows):
        known = found.get(row.phase)
        if known is None or not row.is_cut or (known.is_cut and row.x > known.x):
            found[row.phase] = row
    return sorted(found.values())


def km_median(rows: Sequence[Row]) -> float | None:
    """Point 5, with an exact curve that is asked at every event."""
    times = sorted({row.x for row in rows if not row.is_cut})
    left, curve = Fraction(1), list[tuple[float, Fraction]]()
    for time in times:
        at_risk = sum(row.x >= time for row in rows)
        events = sum(row.x == time and not row.is_cut for row in rows)
        left *= Fraction(at_risk - events, at_risk)
        curve.append((time, left))
    for index, (time, share) in enumerate(curve):
        if share < Fraction(1, 2):
            return time
        if share == Fraction(1, 2):
            return (time + curve[index + 1][0]) / 2 if index + 1 < len(curve) else time
    return None


def log_sd(rows: Sequence[Row], centre: float) -> float | None:
    """Point 6, by climbing the likelihood."""
    k = sum(not row.is_cut for row in rows)
    if k < 2:
        return None
    mad = 1.4826 * median(math.inf if row.is_cut else abs(row.x - centre) for row in rows)
    reach = 3 * max(mad, 0.05)
    xs = [(max(centre - reach, min(centre + reach, row.x)), row.is_cut) for row in rows]
    sd = pstdev([x for x, _ in xs]) if k == len(xs) else _climbed(xs)
    return sd * math.sqrt(k / (k - 1))


def _climbed(xs: Sequence[tuple[float, bool]]) -> float:
    """The sd at the top of the likelihood, one coordinate inside the other."""

    def loss(mu: float, sd: float) -> float:
        return sum(_surprise((x - mu) / sd, sd, is_cut=is_cut) for x, is_cut in xs)

    low, high = min(x for x, _ in xs), max(x for x, _ in xs)
    width = high - low + 1

    def best_for(log_of_sd: float) -> float:
        sd = math.exp(log_of_sd)
        mu = _lowest(lambda at: loss(at, sd), low - width, high + 3 * width)
        return loss(mu, sd)

    return max(0.02, math.exp(_lowest(best_for, math.log(0.005), math.log(30))))


def _surprise(z: float, sd: float, *, is_cut: bool) -> float:
    if not is_cut:
        return z * z / 2 + math.log(sd)
    beyond = math.erfc(z / math.sqrt(2)) / 2
    return -math.log(beyond) if beyond > 1e-290 else z * z / 2 + math.log(z * math.sqrt(math.tau))


def _lowest(of: Callable[[float], float], low: float, high: float) -> float:
    """Golden section."""
    share = (math.sqrt(5) - 1) / 2
    a, b = high - share * (high - low), low + share * (high - low)
    at_a, at_b = of(a), of(b)
    while high - low > 1e-8:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - share * (high - low)
            at_a = of(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + share * (high - low)
            at_b = of(b)
    return (low + high) / 2


def extended(groups: dict[str, list[Row]]) -> dict[str, dict[str, Any]]:
    """Points 5 to 9 and 11, for every group of which a spread is known."""
    found: dict[str, dict[str, Any]] = {}
    for name, rows in groups.items():
        theta = km_median(rows)
        sd = None if theta is None else log_sd(rows, theta)
        if theta is not None and sd is not None:
            k = sum(not row.is_cut for row in rows)
            found[name] = {"theta": theta, "sd": sd, "k": k, "rows": rows}
    weights = sum(each["k"] - 1 for each in found.values())
    pooled = sum((each["k"] - 1) * each["sd"] ** 2 for each in found.values()) / max(weights, 1)
    for each in found.values():
        s2 = ((each["k"] - 1) * each["sd"] ** 2 + 4 * pooled) / (each["k"] + 3)
        each["s2"], each["v"] = s2, max(math.pi / 2 * s2 / len(each["rows"]), 1e-9)
    tau2 = _between(list(found.values()))
    for each in found.values():
        each["shrink"] = tau2 / (tau2 + each["v"])
        each["m"] = each["shrink"] * each["theta"]
        each["se"] = math.sqrt(each["shrink"] * each["v"])
        each["confidence"] = NORMAL.cdf(abs(each["m"]) / 2 / each["se"])
    residuals = [
        math.inf if row.is_cut else row.x - each["m"]
        for each in found.values()
        for row in each["rows"]
    ]
    for each in found.values():
        own = [math.inf if row.is_cut else row.x for row in each["rows"]]
        error = math.sqrt(each["s2"] + each["se"] ** 2)
        for percent in (90, 98):
            beyond = each["m"] + NORMAL.inv_cdf(percent / 100) * error
            rest = [each["m"] + score for score in residuals]
            each[f"p{percent}"] = next(
                score
                for score in (_ranked(own, percent), _ranked(rest, percent), beyond)
                if score < math.inf
            )
    return found


def _between(each: Sequence[dict[str, Any]]) -> float:
    """The root, by false position between powers of two rather than by halving an interval."""

    def excess(tau2: float) -> float:
        return float(sum(g["theta"] ** 2 / (g["v"] + tau2) for g in each)) - len(each)

    if excess(0) <= 0:
        return 0.0025
    high = 1e-12
    while excess(high) > 0 and high < 25:
        high *= 2
    low, high = high / 2, min(high, 25)
    for _ in range(300):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return max(high, 0.0025)


def _ranked(scores: Sequence[float], percent: int) -> float:
    rank = math.ceil(Fraction(percent, 100) * (len(scores) + 1))
    below = sorted(scores)
    return below[rank - 1] if rank <= len(below) else math.inf


def rank_z(old: Sequence[float], new: Sequence[float]) -> float:
    """Point 13's z, pair by pair."""
    n, m = len(new), len(old)
    wins = sum((a > b) + (a == b) / 2 for a in new for b in old)
    every = [*old, *new]
    ties = sum(t**3 - t for t in (every.count(value) for value in set(every)))
    total = n + m
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    return (wins - n * m / 2) / math.sqrt(variance) if variance > 0 else 0.0


def alarms(xs: Sequence[float]) -> list[int]:
    """After how many ratios the watch of point 13 rings."""
    found: list[int] = []
    start = 0
    for count in range(1, len(xs) + 1):
        since = count - start
        if since >= 45 and since % 5 == 0:
            z = rank_z(xs[start : count - 25], xs[count - 25 : count])
            if abs(z) >= 3:
                found.append(count)
                start = count
    return found
