"""The pictures of a report.  Pure: the same samples give the same text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from engine.calibration.drift import moving_average
from engine.calibration.result import GroupResult
from engine.calibration.samples import Group, Sample
from engine.calibration.svg import (
    LogAxis,
    clipped,
    line,
    log_axis,
    mark,
    number,
    polygon,
    polyline,
    rect,
    short,
    svg,
    text,
    times,
)
from engine.calibration.verdict import TOLERANCE_HIGH, TOLERANCE_LOW

POINTS_MAX = 240
PANEL = 250.0
STRIP_WIDTH, STRIP_ROW = 860.0, 30.0
STRIP_LEFT, STRIP_RIGHT = 190.0, 700.0
RATIO_LOW, RATIO_HIGH = 1 / 20, 20.0
DRIFT_WIDTH, DRIFT_HEIGHT = 420.0, 150.0
DRAWN_FROM = 5
GOLDEN = (math.sqrt(5) - 1) / 2
RESERVES = (0.0, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, math.inf)


class Shown(NamedTuple):
    """A group as the pictures need it."""

    group: Group
    result: GroupResult


def thinned(group: Group) -> list[Sample]:
    """Clean and truncated samples, at most so many that a picture stays readable; every so many.

    Taken from both in their order, so that the share of truncated ones looks as it is.
    """
    samples = sorted([*group.clean, *group.censored], key=lambda each: each.pos)
    return samples[:: -(-len(samples) // POINTS_MAX) or 1]


def scatter(shown: Shown) -> str:
    """Estimate against actual on log axes, with y = x, the proposal, and its band."""
    points = thinned(shown.group)
    pairs = [(each.estimated or 1.0, each.actual or 1.0) for each in points]
    along = log_axis([e for e, _ in pairs], 46, PANEL - 8)
    up = log_axis([value for pair in pairs for value in pair], PANEL - 34, 24)
    count = f"{len(shown.group.clean)} clean"
    parts = [text(4, 14, f"{short(shown.result.name)} · {count}", "head")]
    parts += _grid(along, up)
    lines = [*_proposal(shown.result, along, up), _diagonal(1.0, along, up, "equal")]
    parts.append(clipped(along, up, lines))
    parts += [
        mark(along.at(e), up.at(a), is_cut=each.truncated)
        for each, (e, a) in zip(points, pairs, strict=True)
    ]
    parts.append(text(PANEL / 2, PANEL - 4, "estimated tokens", anchor="middle"))
    return svg(PANEL, PANEL, f"{shown.result.name}: actual against estimated tokens", parts)


def _grid(along: LogAxis, up: LogAxis) -> list[str]:
    parts: list[str] = []
    for value in along.ticks():
        x = along.at(value)
        parts += [line(x, up.start, x, up.end, "grid")]
        parts += [text(x, up.start + 13, number(value), "tick", "middle")]
    for value in up.ticks():
        y = up.at(value)
        parts += [line(along.start, y, along.end, y, "grid")]
        parts += [text(along.start - 4, y + 3, number(value), "tick", "end")]
    return parts


def _ends(multiplier: float, along: LogAxis, up: LogAxis) -> list[tuple[float, float]]:
    """Where the line actual = estimate * multiplier is at both sides, inside the picture or not."""
    return [(along.at(e), up.beyond(e * multiplier)) for e in (along.low, along.high)]


def _diagonal(multiplier: float, along: LogAxis, up: LogAxis, kind: str) -> str:
    return polyline(_ends(multiplier, along, up), kind)


def _proposal(result: GroupResult, along: LogAxis, up: LogAxis) -> list[str]:
    low, high = result.multiplier_low, result.multiplier_high
    if result.proposed_multiplier is None or low is None or high is None:
        return []
    bottom, top = _ends(low, along, up), _ends(high, along, up)
    return [
        polygon([*bottom, *reversed(top)], "band"),
        _diagonal(result.proposed_multiplier, along, up, "proposal"),
    ]


def ratio_strip(shown: Sequence[Shown]) -> str:
    """A row of ratios per group, with the band of ±20 % and the proposal with its interval."""
    axis = LogAxis(RATIO_LOW, RATIO_HIGH, STRIP_LEFT, STRIP_RIGHT)
    bottom = 24 + STRIP_ROW * len(shown)
    low, high = axis.at(TOLERANCE_LOW), axis.at(TOLERANCE_HIGH)
    parts = [rect(low, 20, high - low, bottom - 20, "tolerance")]
    for value in (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0):
        x = axis.at(value)
        parts.append(line(x, 20, x, bottom, "equal" if value == 1.0 else "grid"))
        parts.append(text(x, 14, f"{value:g}×", "tick", "middle"))
    for row, each in enumerate(shown):
        parts += _strip_row(each, axis, 24 + STRIP_ROW * row)
    label = "ratios of actual to estimated tokens, a row per group"
    return svg(STRIP_WIDTH, bottom + 4, label, parts)


def _strip_row(shown: Shown, axis: LogAxis, top: float) -> list[str]:
    middle = top + STRIP_ROW / 2
    result = shown.result
    parts = [text(STRIP_LEFT - 10, middle + 4, short(result.name), "label", "end")]
    for index, each in enumerate(thinned(shown.group)):
        ratio = (each.actual or 1.0) / (each.estimated or 1.0)
        # Spread over the row by the golden ratio: even, and the same every time.
        offset = (index * GOLDEN % 1 - 0.5) * (STRIP_ROW - 14)
        parts.append(mark(axis.at(ratio), middle + offset, is_cut=each.truncated))
    if result.proposed_multiplier is not None:
        low, high = result.multiplier_low or 1.0, result.multiplier_high or 1.0
        parts.append(line(axis.at(low), middle, axis.at(high), middle, "interval"))
        x = axis.at(result.proposed_multiplier)
        parts.append(line(x, top + 4, x, top + STRIP_ROW - 4, "proposal"))
    words = f"{times(result.proposed_multiplier)} {result.verdict.replace('_', ' ')}"
    parts.append(text(STRIP_RIGHT + 12, middle + 4, words, "label"))
    return parts


def drift_chart(shown: Shown) -> str | None:
    """Ratios in their order, their moving average, and a line at every alarm; None for too few."""
    ratios = [each for each in shown.group.ratios if not each.is_censored]
    if len(ratios) < DRAWN_FROM:
        return None
    up = log_axis([math.exp(each.x) for each in ratios], DRIFT_HEIGHT - 20, 24)
    along = _linear(len(ratios), 44, DRIFT_WIDTH - 8)
    parts = [text(4, 14, f"{short(shown.result.name)} · {_watched(shown.result)}", "head")]
    for value in up.ticks():
        y = up.at(value)
        parts += [line(44, y, DRIFT_WIDTH - 8, y, "equal" if value == 1 else "grid")]
        parts += [text(40, y + 3, f"{value:g}×", "tick", "end")]
    step = -(-len(ratios) // POINTS_MAX) or 1
    parts += [
        mark(along(at), up.at(math.exp(each.x)), is_cut=False)
        for at, each in list(enumerate(ratios))[::step]
    ]
    average = list(enumerate(moving_average([each.x for each in ratios])))[::step]
    parts.append(polyline([(along(at), up.at(math.exp(x))) for at, x in average], "average"))
    alarms = {alarm.pos for alarm in shown.result.drift.alarms}
    for at, each in enumerate(ratios):
        if each.pos in alarms:
            parts.append(line(along(at), 20, along(at), DRIFT_HEIGHT - 20, "alarm"))
    parts.append(text(DRIFT_WIDTH / 2, DRIFT_HEIGHT - 4, "phases in their order", anchor="middle"))
    return svg(DRIFT_WIDTH, DRIFT_HEIGHT, f"{shown.result.name}: ratios in their order", parts)


def _linear(count: int, start: float, end: float) -> Callable[[int], float]:
    width = (end - start) / max(count - 1, 1)
    return lambda at: start + at * width


def _watched(result: GroupResult) -> str:
    drift = result.drift
    count = len(drift.alarms)
    alarms = f", {count} alarm{'s' if count > 1 else ''}" if count else ""
    if drift.status == "too_few":
        return f"too few to watch ({drift.needed} more needed){alarms}"
    if drift.status == "steady":
        return f"steady (z {abs(drift.z or 0.0):.1f}){alarms}"
    return f"drifting{alarms}"


def reserve_chart(samples: Sequence[Sample]) -> str | None:
    """How often answers were truncated, by budget over estimate; None where no budget is known."""
    found = [
        (each.budget / each.estimated, each.truncated)
        for each in samples
        if each.budget and each.budget > 0 and each.estimated
    ]
    if not found:
        return None
    bins = list(pairwise(RESERVES))
    parts: list[str] = [line(40, 130, 560, 130, "grid"), line(40, 30, 560, 30, "grid")]
    parts += [text(36, 133, "0 %", "tick", "end"), text(36, 33, "100 %", "tick", "end")]
    for index, (low, high) in enumerate(bins):
        cut = [is_cut for reserve, is_cut in found if low <= reserve < high]
        x = 50 + index * 73.0
        name = f"over {low:g}×" if math.isinf(high) else f"{low:g}–{high:g}×"
        parts.append(text(x + 28, 146, name, "tick", "middle"))
        if cut:
            share = sum(cut) / len(cut)
            parts.append(rect(x, 130 - 100 * share, 56, 100 * share, "bar"))
            words = f"{share:.0%} of {len(cut)}"
            parts.append(text(x + 28, 124 - 100 * share, words, "tick", "middle"))
    parts.append(text(300, 164, "budget as a multiple of the estimate", anchor="middle"))
    return svg(580, 170, "share of truncated answers by budget over estimate", parts)
