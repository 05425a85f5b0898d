"""A preview of the patch: what three real phases would have been estimated at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from engine.calibration.result import Calibration
from engine.calibration.samples import Group, Sample

PHASES = 3


class Preview(NamedTuple):
    """One phase that was: its estimate then, with the patch, and what it really took."""

    phase: str
    group: str
    estimated: float
    patched: float
    actual: float


def _counted(group: Group) -> list[Sample]:
    """The one clean sample of each phase that the ratios were taken from, in their order."""
    counted = {each.pos for each in group.ratios if not each.is_censored}
    return [sample for sample in group.clean if sample.pos in counted]


def previews(result: Calibration, groups: Sequence[Group]) -> list[Preview]:
    """The newest clean phase of each group that should change; more of each where those are few."""
    by_name = {tuple(group.key): _counted(group) for group in groups}
    found: list[Preview] = []
    for back in range(1, PHASES + 1):
        for change in result.patch.proposed_changes:
            samples = by_name.get((change.category, change.complexity), [])
            if back > len(samples) or len(found) == PHASES:
                continue
            sample = samples[-back]
            estimated = sample.estimated or 0.0
            found.append(
                Preview(
                    phase="/".join(part for part in (sample.run_id, sample.phase_id) if part)
                    or f"row {sample.pos}",
                    group="/".join(sample.group),
                    estimated=estimated,
                    patched=estimated * change.proposed_multiplier,
                    actual=sample.actual or 0.0,
                )
            )
    return found
