"""The track record: what became of earlier proposals in the phases that came after them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Literal, NamedTuple

from engine.calibration.samples import Group, GroupKey

Outcome = Literal["better", "worse", "too early"]
PHASES_MIN = 5


class Proposal(NamedTuple):
    """One multiplier as once proposed: at which position, for which coefficients."""

    proposed_at: int
    key: GroupKey
    multiplier: float
    confidence: float
    version: str | None


class Score(NamedTuple):
    """A proposal against the clean phases after it that were estimated with the same coefficients.

    ``error_*``: by what factor estimates were off in the middle, left alone and with the proposal
    applied; None below five phases.
    """

    proposed_at: int
    group: str
    multiplier: float
    confidence: float
    phases_since: int
    error_left_alone: float | None
    error_applied: float | None
    outcome: Outcome


def scored(
    proposals: Sequence[Proposal], groups: Mapping[tuple[str | None, GroupKey], Group]
) -> list[Score]:
    """Every proposal, oldest first.  ``groups`` by coefficients and key."""
    return [_scored(each, groups.get((each.version, each.key))) for each in proposals]


def _scored(proposal: Proposal, group: Group | None) -> Score:
    ratios = [] if group is None else group.ratios
    xs = [each.x for each in ratios if each.pos > proposal.proposed_at and not each.is_censored]
    alone = applied = None
    outcome: Outcome = "too early"
    if len(xs) >= PHASES_MIN:
        alone = median(abs(x) for x in xs)
        applied = median(abs(x - math.log(proposal.multiplier)) for x in xs)
        outcome = "better" if applied < alone else "worse"
    return Score(
        proposal.proposed_at,
        "/".join(proposal.key),
        proposal.multiplier,
        proposal.confidence,
        len(xs),
        None if alone is None else math.exp(alone),
        None if applied is None else math.exp(applied),
        outcome,
    )


class Reliability(NamedTuple):
    """Proposals of one band of confidence: how many were judged, how many were better."""

    low: float
    high: float
    judged: int
    better: int


BANDS = ((0.0, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 0.97), (0.97, 1.0))


def reliability(scores: Sequence[Score]) -> list[Reliability]:
    """Whether a confidence of so much came true about so often."""
    found: list[Reliability] = []
    for low, high in BANDS:
        within = [
            each
            for each in scores
            if each.outcome != "too early"
            and (low <= each.confidence < high or each.confidence == high == 1.0)
        ]
        found.append(
            Reliability(low, high, len(within), sum(each.outcome == "better" for each in within))
        )
    return found
