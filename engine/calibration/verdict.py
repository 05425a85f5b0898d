"""Verdicts: whether a group's estimates should change, and what is missing if not.

Source: point 10 of docs/explanation/calibration.md.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from engine.calibration.drift import Drift
from engine.calibration.pooling import Measured, Shrunk
from engine.calibration.samples import Group

MIN_SAMPLES = 5
CONFIDENCE_THRESHOLD = 0.7
TOLERANCE_LOW, TOLERANCE_HIGH = 0.8, 1.2

Verdict = Literal[
    "below_min_samples",
    "not_identifiable",
    "low_confidence",
    "within_tolerance",
    "drifting",
    "recommended",
]
Action = Literal["increase", "decrease", "none"]


class Gates(NamedTuple):
    """What a group must pass: clean phases, and confidence in [0, 1]."""

    min_samples: int = MIN_SAMPLES
    confidence_threshold: float = CONFIDENCE_THRESHOLD


class Judged(NamedTuple):
    """The verdict, what to do, and what is missing, in words; empty when nothing is."""

    verdict: Verdict
    action: Action
    missing: str


def judged(group: Group, own: Measured, among: Shrunk | None, drift: Drift, gates: Gates) -> Judged:
    """The first that fits."""
    if own.k < gates.min_samples:
        return Judged("below_min_samples", "none", _needs(group, gates))
    if among is None:
        return Judged("not_identifiable", "none", _hidden(group))
    if among.confidence < gates.confidence_threshold:
        missing = (
            f"the change is not clear of the noise: confidence"
            f" {among.confidence:.2f} of {gates.confidence_threshold:g}"
        )
        return Judged("low_confidence", "none", missing)
    multiplier = math.exp(among.log_multiplier)
    if TOLERANCE_LOW <= multiplier <= TOLERANCE_HIGH:
        missing = f"nothing: {multiplier:.2f}× is within ±20 %"
        return Judged("within_tolerance", "none", missing)
    if drift.status == "alarm":
        return Judged("drifting", "none", _changed(drift))
    return Judged("recommended", "increase" if multiplier > 1 else "decrease", "")


def _needs(group: Group, gates: Gates) -> str:
    more = gates.min_samples - group.k
    missing = f"needs {more} more clean {_phases(more)}"
    cut = len(group.limits)
    return f"{missing}; {cut} of {group.n} truncated" if cut else missing


def _hidden(group: Group) -> str:
    if not group.limits:
        return "needs 1 more clean phase to tell its spread"
    return f"ceiling hides the answer: {len(group.limits)} of {group.n} truncated"


def _changed(drift: Drift) -> str:
    last = drift.alarms[-1]
    way = "larger" if last.z > 0 else "smaller"
    return (
        f"its ratios changed at {last.pos} (the newest are {way});"
        f" look at what came after with --since {last.pos}"
    )


def _phases(count: int) -> str:
    return "phase" if count == 1 else "phases"
