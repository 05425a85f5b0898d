"""The patch: the proposals as a person may apply them.  Source: point 12 of the explanation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from engine.calibration.result import (
    FORMULA_VERSION,
    Change,
    GroupResult,
    LogHead,
    Metadata,
    Patch,
    Settings,
)
from engine.calibration.samples import Class, Sample
from engine.iso_time import iso

Multiplier = Callable[[str, str], float]
"""The multiplier in force of a category and complexity."""


def patch_of(
    groups: Sequence[GroupResult],
    settings: Settings,
    samples: Sequence[Sample],
    digest: str,
    log: LogHead | None,
    *,
    counts: Mapping[Class, int],
    in_force: Multiplier | None,
) -> Patch:
    """The recommended groups, and where that comes from."""
    changes = tuple(
        _change(group, settings, in_force) for group in groups if group.verdict == "recommended"
    )
    times = [sample.at_us for sample in samples if sample.at_us is not None]
    last = max(times, default=None)
    known_us = log.recorded_us if log is not None else None
    metadata = Metadata(
        generated_at=_iso(last if known_us is None else known_us),
        confidence_threshold=settings.confidence_threshold,
        total_samples=sum(group.sample_count for group in groups),
        high_confidence_groups=len(changes),
        min_samples=settings.min_samples,
        formula_version=FORMULA_VERSION,
        coefficient_version=settings.coefficient_version,
        input_sha256=digest,
        sample_counts=dict(counts),
        first_sample_at=_iso(min(times, default=None)),
        last_sample_at=_iso(last),
        log_position=None if log is None else log.position,
        log_hash=None if log is None else log.hash,
    )
    return Patch(metadata=metadata, proposed_changes=changes)


def _change(group: GroupResult, settings: Settings, in_force: Multiplier | None) -> Change:
    multiplier = _known(group.proposed_multiplier)
    old = 1.0 if in_force is None else in_force(group.category, group.complexity)
    coefficient = f"multipliers.{_quoted(group.name)}"
    new = old * multiplier
    return Change(
        category=group.category,
        complexity=group.complexity,
        sample_count=group.sample_count,
        confidence=_known(group.confidence),
        median_ratio=_known(group.median_ratio),
        proposed_multiplier=multiplier,
        action=(
            f"multiply estimates of {group.name} by {multiplier!r} where they are made"
            if in_force is None
            else f"in the coefficients' file set {_quoted(group.name)} = {new!r} under"
            f" [multipliers] (it is {old!r}) and give the file a new version"
        ),
        reasoning=_reasoning(group),
        direction=group.action,
        coefficient=coefficient,
        old_value=old,
        new_value=new,
        multiplier_low=_known(group.multiplier_low),
        multiplier_high=_known(group.multiplier_high),
        documented_confidence=_known(group.documented_confidence),
        phase_count=group.phase_count,
        counts=group.counts,
        aliases=group.aliases,
        first_sample_at=_iso(group.first_sample_us),
        last_sample_at=_iso(group.last_sample_us),
        coefficient_version=settings.coefficient_version,
        formula_version=FORMULA_VERSION,
    )


def _reasoning(group: GroupResult) -> str:
    cut = group.counts["censored"]
    truncated = f"; {cut} truncated samples count as at least so much" if cut else ""
    return (
        f"Actual tokens are {_known(group.median_ratio):.2f}x estimated (median of"
        f" {group.sample_count} clean samples); {_known(group.proposed_multiplier):.2f}x is"
        f" proposed from {group.phase_count} phases{truncated}, and helps with a probability of"
        f" {_known(group.confidence):.2f}."
    )


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _known(number: float | None) -> float:
    assert number is not None
    return number


def _iso(at_us: int | None) -> str | None:
    return None if at_us is None else iso(at_us)
