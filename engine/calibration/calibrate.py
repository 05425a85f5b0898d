"""Calibrate: from samples to the whole result.  Pure; it reads nothing and changes nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import NamedTuple

from engine.calibration.budgets import P90, P98, Budget, budget, scores_of
from engine.calibration.documented import documented
from engine.calibration.drift import drift_of
from engine.calibration.in_words import notes_of, sentence_of
from engine.calibration.patch import Multiplier, patch_of
from engine.calibration.pooling import Measured, Shrunk, measured, shrunk
from engine.calibration.result import (
    FORMULA_VERSION,
    Calibration,
    GroupResult,
    LogHead,
    Settings,
    Totals,
)
from engine.calibration.samples import CLASSES, Class, Group, GroupKey, Sample, grouped
from engine.calibration.selection import Selected, input_sha256, selected
from engine.calibration.verdict import Gates, judged


class _Case(NamedTuple):
    """A group with all that is known of it."""

    group: Group
    own: Measured
    among: Shrunk | None


class Calibrated(NamedTuple):
    """The result, and the groups that it is of, for pictures."""

    result: Calibration
    groups: list[Group]


def calibrate(
    samples: Iterable[Sample],
    settings: Settings,
    *,
    log: LogHead | None = None,
    in_force: Multiplier | None = None,
) -> Calibration:
    """The result of ``calibrated``."""
    return calibrated(samples, settings, log=log, in_force=in_force).result


def calibrated(
    samples: Iterable[Sample],
    settings: Settings,
    *,
    log: LogHead | None = None,
    in_force: Multiplier | None = None,
) -> Calibrated:
    """What ``samples`` say about the estimates, under ``settings``.

    ``in_force`` gives the multiplier of a group in the coefficients that a patch would change; None
    where the samples were estimated by something else.
    The order of ``samples`` does not matter: they carry their positions.
    """
    chosen = selected(samples, settings)
    cases = _cases(chosen.samples)
    pooled = sorted(
        score
        for case in cases
        if case.among is not None
        for score in scores_of(case.group.ratios, case.among.log_multiplier)
    )
    gates = Gates(settings.min_samples, settings.confidence_threshold)
    groups = tuple(_result(case, pooled, gates) for case in cases)
    totals = _totals(chosen, groups)
    digest = input_sha256(chosen.samples)
    before, after = _typical_errors(cases, groups)
    result = Calibration(
        groups=groups,
        patch=patch_of(
            groups,
            settings,
            chosen.samples,
            digest,
            log,
            counts=totals.counts,
            in_force=in_force,
        ),
        sentence=sentence_of(groups, totals, settings, before, after),
        notes=notes_of(groups, totals, settings),
        settings=settings,
        totals=totals,
        input_sha256=digest,
        formula_version=FORMULA_VERSION,
        log=log,
        typical_error_before=before,
        typical_error_after=after,
    )
    return Calibrated(result, [case.group for case in cases])


def _cases(samples: Sequence[Sample]) -> list[_Case]:
    groups = grouped(samples)
    own: dict[GroupKey, Measured] = {group.key: measured(group) for group in groups}
    among = shrunk(own)
    return [_Case(group, own[group.key], among.get(group.key)) for group in groups]


def _result(case: _Case, pooled: Sequence[float], gates: Gates) -> GroupResult:
    group, among = case.group, case.among
    drift = drift_of(group.ratios)
    verdict = judged(group, case.own, among, drift, gates)
    p90, p98 = _budgets(case, pooled)
    low, high = (None, None) if among is None else among.interval
    times = [at for each in group.everything() if (at := each.at_us) is not None]
    return GroupResult(
        category=group.key.category,
        complexity=group.key.complexity,
        counts=_counts(group),
        phase_count=group.n,
        **documented(group)._asdict(),
        km_log_median=case.own.median,
        log_sd=case.own.sd,
        shrink=among and among.shrink,
        log_multiplier=among and among.log_multiplier,
        log_multiplier_sd=among and among.log_multiplier_sd,
        proposed_multiplier=among and math.exp(among.log_multiplier),
        multiplier_low=low,
        multiplier_high=high,
        confidence=among and among.confidence,
        verdict=verdict.verdict,
        action=verdict.action,
        budget_p90_multiplier=p90 and p90.multiplier,
        budget_p98_multiplier=p98 and p98.multiplier,
        budget_source=p90 and p90.source,
        drift=drift,
        budget_p98_source=p98 and p98.source,
        clean_phase_count=group.k,
        missing=verdict.missing,
        tokens_at_stake=_at_stake(group),
        aliases=group.aliases,
        first_sample_us=min(times, default=None),
        last_sample_us=max(times, default=None),
    )


def _budgets(case: _Case, pooled: Sequence[float]) -> tuple[Budget | None, Budget | None]:
    if case.among is None:
        return None, None
    own = sorted(scores_of(case.group.ratios))
    return budget(P90, own, pooled, case.among), budget(P98, own, pooled, case.among)


def _counts(group: Group) -> dict[Class, int]:
    return {name: len(group.by_class[name]) for name in CLASSES}


def _at_stake(group: Group) -> float:
    known = (*group.clean, *group.censored)
    return math.fsum([abs((each.actual or 0.0) - (each.estimated or 0.0)) for each in known])


def _totals(chosen: Selected, groups: Sequence[GroupResult]) -> Totals:
    counts: Counter[Class] = Counter()
    for group in groups:
        counts.update(group.counts)
    stale = chosen.stale.total()
    return Totals(
        read=counts.total() + stale,
        counts={name: counts[name] for name in CLASSES},
        stale=stale,
        outside=chosen.outside,
        stale_versions=dict(sorted(chosen.stale.items())),
    )


def _typical_errors(
    cases: Sequence[_Case], groups: Sequence[GroupResult]
) -> tuple[float | None, float | None]:
    """By what factor estimates of the groups to change are off, in the middle; and would be."""
    before: list[float] = []
    after: list[float] = []
    for case, group in zip(cases, groups, strict=True):
        if group.verdict == "recommended" and case.among is not None:
            before += [abs(x) for x in case.group.events]
            after += [abs(x - case.among.log_multiplier) for x in case.group.events]
    if not before:
        return None, None
    return math.exp(median(before)), math.exp(median(after))
