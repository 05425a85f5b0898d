"""A calibration in words: the sentence on top, and what else a person should know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.amounts import counted
from engine.calibration.result import GroupResult, Settings, Totals
from engine.calibration.samples import Class

ABSURD_SHOWN = ALARMS_SHOWN = 20
ABSURD_RATIO = 1000.0
ABSURD_TOKENS = 1e9
GROUPS_SHOWN = 300
UNCHANGED = "nothing was changed"


def sentence_of(
    groups: Sequence[GroupResult],
    totals: Totals,
    settings: Settings,
    before: float | None,
    after: float | None,
) -> str:
    """What it comes to, in one plain sentence."""
    if totals.read == 0:
        return "There are no samples, so there is nothing to calibrate from."
    if not groups:
        every = f"All {totals.stale} samples are" if totals.stale > 1 else "The one sample is"
        return f"{every} of other coefficients than the current ones."
    known = totals.counts["clean"] + totals.counts["censored"]
    if known == 0:
        return "No sample can be used: " + _unusable(totals) + "."
    if totals.counts["clean"] == 0:
        return (
            f"Everything was truncated ({counted(known, 'sample')}), so nothing says how long the"
            " answers wanted to be."
        )
    return _of_groups(groups, settings, before, after)


def _of_groups(
    groups: Sequence[GroupResult], settings: Settings, before: float | None, after: float | None
) -> str:
    change = sum(group.verdict == "recommended" for group in groups)
    count, of = len(groups), "group" if len(groups) == 1 else "groups"
    if change and before is not None and after is not None:
        effect = _effect(before, after)
        return f"{change} of {count} {of} should change; on these samples that would {effect}."
    largest = max(group.clean_phase_count for group in groups)
    if largest < settings.min_samples:
        return (
            f"None of {count} {of} should change: none has {settings.min_samples} clean phases yet"
            f" (the largest has {largest})."
        )
    return f"None of {count} {of} should change."


def _effect(before: float, after: float) -> str:
    """What the proposals would do to the typical error, as far as the digits shown tell."""
    old, new = f"{before:.1f}×", f"{after:.1f}×"
    if old == new:
        return f"leave the typical error at {old}"
    return f"{'cut' if after < before else 'raise'} the typical error from {old} to {new}"


def _unusable(totals: Totals) -> str:
    words: dict[Class, str] = {
        "failed": "failed",
        "missing": "without estimate or actual",
        "zero_estimate": "with an estimate of 0 or less",
        "zero_actual": "with an actual of 0 or less",
    }
    counts = {text: totals.counts[name] for name, text in words.items()}
    return ", ".join(f"{count} {text}" for text, count in counts.items() if count)


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def notes_of(groups: Sequence[GroupResult], totals: Totals, settings: Settings) -> tuple[str, ...]:
    """What a person should know beside the verdicts."""
    return tuple(_notes(groups, totals, settings))


def _notes(groups: Sequence[GroupResult], totals: Totals, settings: Settings) -> Iterator[str]:
    if totals.stale:
        versions = ", ".join(f"{name or 'none'}: {n}" for name, n in totals.stale_versions.items())
        yield (
            f"{counted(totals.stale, 'sample')} of other coefficients than"
            f" {settings.coefficient_version} {_were(totals.stale)} left out ({versions})."
        )
    if totals.outside:
        samples = counted(totals.outside, "sample")
        yield f"{samples} {_were(totals.outside)} not asked for (run or time) and left out."
    if len(groups) > GROUPS_SHOWN:
        yield (
            f"Tables and pictures show the {GROUPS_SHOWN} groups with most tokens at stake of"
            f" {len(groups)}; the JSON has them all."
        )
    left = {name: n for name, n in totals.counts.items() if n and name not in ("clean", "censored")}
    if left:
        told = ", ".join(f"{n} {name}" for name, n in left.items())
        yield f"Samples that say nothing about the estimates: {told}."
    for group in [each for each in groups if each.drift.alarms][:ALARMS_SHOWN]:
        pos = group.drift.alarms[-1].pos
        yield (
            f"{group.name} changed at {pos}, so its numbers are over two regimes; --since {pos}"
            " looks at the newer one only."
        )
    for group in [each for each in groups if _is_absurd(each)][:ABSURD_SHOWN]:
        yield (
            f"{group.name} holds absurd values (ratios {group.min_ratio:.3g} to"
            f" {group.max_ratio:.3g}); look at its samples before believing it."
        )


def _is_absurd(group: GroupResult) -> bool:
    if group.max_ratio is None or group.min_ratio is None:
        return False
    tokens = max(group.avg_actual or 0.0, group.avg_estimated or 0.0)
    wide = group.max_ratio > ABSURD_RATIO or group.min_ratio < 1 / ABSURD_RATIO
    return wide or tokens > ABSURD_TOKENS
