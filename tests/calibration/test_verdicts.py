"""Verdicts, each at its edge, and what the report says is missing."""

from __future__ import annotations

import json
import math
import random

import msgspec
import pytest
from msgspec.structs import replace

from engine.calibration.budgets import quantile
from engine.calibration.in_words import sentence_of
from engine.calibration.report import verdict_rows
from engine.calibration.result import Calibration, GroupResult
from engine.calibration.samples import Sample
from engine.calibration.survival import hazard, log_sd, median_of
from tests.calibration.conftest import calibrated, sample


def steady(count: int, ratio: float, spread: float = 0.05) -> list[Sample]:
    rng = random.Random(count)
    return [sample(at, ratio * rng.lognormvariate(0, spread)) for at in range(1, count + 1)]


def only(result: Calibration) -> GroupResult:
    (group,) = result.groups
    return group


def test_below_the_minimum_the_report_says_how_many_phases_it_needs() -> None:
    group = only(calibrated(steady(4, 2.0)))
    assert (group.verdict, group.missing) == ("below_min_samples", "needs 1 more clean phase")
    assert only(calibrated(steady(5, 2.0))).verdict == "recommended"
    cut = [*steady(3, 2.0), sample(9, 2.0, truncated=True)]
    assert only(calibrated(cut)).missing == "needs 2 more clean phases; 1 of 4 truncated"


def test_one_phase_has_no_spread_even_where_one_is_enough() -> None:
    group = only(calibrated(steady(1, 2.0), 1))
    assert group.verdict == "not_identifiable"
    assert group.missing == "needs 1 more clean phase to tell its spread"
    assert group.km_log_median is not None


def test_where_most_are_truncated_the_ceiling_hides_the_answer() -> None:
    cut = [sample(at, 1.0, truncated=True) for at in range(10, 16)]
    group = only(calibrated([*steady(5, 2.0), *cut]))
    assert group.km_log_median is not None, "truncated below all others, so they say nothing"
    longer = [replace(each, actual=4000.0) for each in cut]
    low = only(calibrated([*(sample(at, 0.5) for at in range(1, 6)), *longer]))
    assert (low.verdict, low.km_log_median) == ("not_identifiable", None)
    assert low.missing == "ceiling hides the answer: 6 of 11 truncated"
    assert (low.proposed_multiplier, low.budget_p90_multiplier) == (None, None)


def test_the_other_verdicts_come_in_their_order() -> None:
    noisy = only(calibrated(steady(6, 1.3, spread=1.5)))
    assert noisy.verdict == "low_confidence"
    assert noisy.missing == (
        f"the change is not clear of the noise: confidence {noisy.confidence:.2f} of 0.7"
    )
    assert noisy.action == "none"
    near = only(calibrated(steady(40, 1.1, spread=0.01)))
    assert (near.verdict, near.action) == ("within_tolerance", "none")
    assert only(calibrated(steady(9, 2.0))).action == "increase"
    assert only(calibrated(steady(9, 0.4))).action == "decrease"
    moved = [*steady(40, 2.0), *(replace(each, pos=each.pos + 50) for each in steady(40, 4.0))]
    moved = [replace(each, phase_id=f"p{each.pos}") for each in moved]
    group = only(calibrated(moved[:70]))
    assert group.verdict == "drifting"
    assert group.drift.status == "alarm"
    alarm = group.drift.alarms[-1].pos
    assert f"--since {alarm}" in group.missing
    assert f"its ratios changed at {alarm} (the newest are larger)" in group.missing
    later = calibrated(moved)
    assert only(later).verdict == "recommended", "more than 25 phases after it"
    assert any(f"changed at {alarm}" in note for note in later.notes)
    assert only(calibrated(moved, since=alarm)).verdict == "recommended"


def test_the_gates_are_those_that_were_asked_for() -> None:
    assert only(calibrated(steady(3, 2.0), 3)).verdict == "recommended"
    assert only(calibrated(steady(9, 2.0), 10)).verdict == "below_min_samples"


def test_there_are_answers_for_no_samples_none_usable_and_all_truncated() -> None:
    assert "no samples" in calibrated([]).sentence
    failed = [sample(1, success=False), sample(2, estimated=0.0), sample(3, actual=math.nan)]
    assert (
        calibrated(failed).sentence == "No sample can be used: 1 failed, 1 without estimate or"
        " actual, 1 with an estimate of 0 or less."
    )
    cut = calibrated([sample(at, truncated=True) for at in range(3)])
    assert "Everything was truncated (3 samples)" in cut.sentence
    few = calibrated(steady(3, 1.0))
    assert "none has 5 clean phases yet (the largest has 3)" in few.sentence
    stale = calibrated([sample(1, version="1")], coefficient_version="2")
    assert (stale.totals.stale, stale.groups) == (1, ())
    assert "other coefficients" in stale.sentence


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (2.4, 1.5, "cut the typical error from 2.4× to 1.5×"),
        (3.816, 4.585, "raise the typical error from 3.8× to 4.6×"),
        (1.52, 1.48, "leave the typical error at 1.5×"),
        (1.48, 1.52, "leave the typical error at 1.5×"),
    ],
)
def test_the_sentence_says_what_the_proposals_would_do(
    before: float, after: float, said: str
) -> None:
    result = calibrated(steady(9, 2.0))
    sentence = sentence_of(result.groups, result.totals, result.settings, before, after)
    assert sentence == f"1 of 1 group should change; on these samples that would {said}."


def test_absurd_values_are_named() -> None:
    result = calibrated([*steady(9, 2.0), sample(70, 1e15)])
    assert any("absurd values" in note for note in result.notes)


def test_the_patch_names_what_to_set_and_where_it_comes_from() -> None:
    spelled = [
        replace(each, category=("docs", "Documentation")[each.pos % 2], at_us=each.pos * 1_000_000)
        for each in steady(9, 2.0)
    ]
    result = calibrated(spelled, coefficient_version="")
    (change,) = result.patch.proposed_changes
    assert change.coefficient == 'multipliers."docs/low"'
    assert change.new_value == pytest.approx(change.old_value * change.proposed_multiplier)
    assert change.aliases == ("Documentation/low", "docs/low")
    assert (change.first_sample_at, change.last_sample_at) == (
        "1970-01-01T00:00:01Z",
        "1970-01-01T00:00:09Z",
    )
    assert len(result.input_sha256) == 64
    assert change.action.startswith("multiply estimates of docs/low by ")
    other = calibrated(spelled[:-1], coefficient_version="")
    assert other.input_sha256 != result.input_sha256


def test_budgets_are_ranks_and_fall_back_where_truncation_hides_them() -> None:
    assert quantile([1.0] * 8 + [2.0], 90) == 2.0
    assert quantile([1.0] * 8, 90) == math.inf
    assert quantile(sorted(range(99)), 98) == 97
    group = only(calibrated(steady(9, 2.0)))
    assert (group.budget_source, group.budget_p98_source) == ("group", "extrapolated")
    cut = [*steady(8, 2.0), sample(70, 9.0, truncated=True)]
    assert only(calibrated(cut)).budget_source == "extrapolated"
    many = [replace(each, category="x", phase_id=f"x{each.pos}") for each in steady(200, 2.0)]
    other, own = calibrated([*cut, *(replace(each, pos=each.pos + 100) for each in many)]).groups
    assert (other.category, other.budget_source, own.budget_source) == ("docs", "pooled", "group")


def test_medians_at_ties_halves_and_the_end() -> None:
    assert median_of([], []) is None
    assert median_of([1.0, 2.0], []) == 1.5
    assert median_of([1.0, 2.0, 3.0], []) == 2.0
    assert median_of([1.0], [2.0]) == 1.0, "one half, and no event after it"
    assert median_of([1.0, 4.0, 6.0], [2.0]) == 4.0
    assert median_of([2.0], [1.0]) == 2.0
    assert median_of([1.0], [1.0, 1.0]) is None
    assert median_of([1.0, 3.0, 9.0], [3.0]) == 6.0
    assert median_of([2.0, 3.0, 9.0], [1.0, 3.0]) == 6.0, "one half of those still seen"
    assert median_of([1.0, 3.0, 9.0], [3.0, 3.0]) == 9.0


def test_the_spread_stands_outliers_and_far_tails() -> None:
    assert log_sd([1.0], [], 1.0) is None
    assert log_sd([1.0, 1.0], [], 1.0) == 0.0
    wild = log_sd([0.0, 0.01, -0.01, 0.02, -0.02, 50.0], [], 0.0)
    assert wild is not None
    assert wild < 0.1
    assert hazard(36.9) == pytest.approx(hazard(37.1), rel=0.01)
    for z in (37.5, 40.0, 90.0):
        series = z + 1 / z - 2 / z**3 + 10 / z**5 - 74 / z**7
        assert hazard(z) == pytest.approx(series, abs=1e-10)


def test_the_whole_result_is_plain_json() -> None:
    told = json.loads(msgspec.json.encode(calibrated(steady(9, 2.0))))
    assert list(told)[:2] == ["groups", "patch"]
    assert told["groups"][0]["drift"]["needed"] == 36


def test_very_many_groups_are_all_in_the_result_and_the_most_important_in_the_tables() -> None:
    many = [sample(at, 2.0 + at, category=f"c{at:04d}") for at in range(400)]
    result = calibrated(many)
    assert len(result.groups) == 400
    _, rows = verdict_rows(result)
    assert (len(rows), rows[0][0]) == (300, "c0399/low")
    assert any("300 groups with most tokens at stake of 400" in note for note in result.notes)
