"""Calibration at its edges: what is exactly at a limit, what comes last, and which of several."""

from __future__ import annotations

import math

import pytest
from msgspec.structs import replace

from engine.calibration.calibrate import calibrate
from engine.calibration.drift import Alarm, Drift
from engine.calibration.estimator import Coefficients, estimate, shipped
from engine.calibration.pooling import NORMAL, Measured, Shrunk
from engine.calibration.result import Settings
from engine.calibration.samples import Group, GroupKey, Sample, classify, grouped, one_per_phase
from engine.calibration.selection import selected
from engine.calibration.track_record import Proposal, Score, reliability, scored
from engine.calibration.verdict import TOLERANCE_HIGH, TOLERANCE_LOW, Gates, judged
from tests.calibration.conftest import sample

KEY = GroupKey("docs", "low")
STEADY = Drift("steady", 60, 0, 0.1, ())


@pytest.mark.parametrize(
    ("base", "multiplier", "reserve", "estimated", "budget"),
    [
        (4.0, 0.5, 3.0, 2, 6),
        (5.0, 0.5, 3.0, 2, 6),  # a half goes to the even number, and the budget starts from there
        (7.0, 0.5, 3.0, 4, 12),
        (5.2, 0.5, 3.0, 3, 9),
        (4.0, 0.5, 1.2, 2, 3),
        (0.0, 0.5, 1.2, 1, 3),  # never less than one, nor than the least budget
        (90.0, 0.5, 3.0, 45, 20),
    ],
)
def test_an_estimate_is_a_whole_number_and_a_budget_is_made_of_that(
    base: float, multiplier: float, reserve: float, estimated: int, budget: int
) -> None:
    own = Coefficients(
        version="own",
        base={"default": base},
        per_deliverable={"default": 0.0},
        reserve={"default": 9.0, "low": reserve},
        budget_min=3,
        budget_max=20,
        multipliers={"docs/low": multiplier},
    )
    found = estimate(own, "docs", "low", 1)
    assert (found.estimated_tokens, found.budget_tokens) == (estimated, budget)


def test_samples_are_read_from_since_to_until_both_included() -> None:
    settings = Settings(min_samples=1, confidence_threshold=0.7, since=3, until=5)
    found = selected([sample(pos) for pos in range(1, 8)], settings)
    assert [each.pos for each in found.samples] == [3, 4, 5]
    assert found.outside == 4


def test_samples_of_other_coefficients_are_counted_by_theirs() -> None:
    settings = Settings(min_samples=1, confidence_threshold=0.7, coefficient_version="2")
    versions = ("2", "1", "1", "")
    rows = [sample(pos, version=version) for pos, version in enumerate(versions, 1)]
    unknown = sample(9, version="", estimated=None)
    without = sample(10, version="1", estimated=None)
    found = selected([*rows, unknown, without], settings)
    assert [each.pos for each in found.samples] == [1, 9]
    assert found.stale == {"1": 3, "": 1}


def test_samples_are_those_of_the_runs_that_were_asked_for() -> None:
    rows = [sample(pos, run_id=run_id) for pos, run_id in enumerate(("a", "b", "", "c"), 1)]
    for asked, read in (((), [1, 2, 3, 4]), (("b",), [2]), (("c", "a"), [1, 4]), (("d",), [])):
        settings = Settings(min_samples=1, confidence_threshold=0.7, include_run_ids=asked)
        found = selected(rows, settings)
        assert ([each.pos for each in found.samples], found.outside) == (read, 4 - len(read))


def cut(pos: int, x: float, **more: object) -> Sample:
    return sample(pos, x, truncated=True, **more)


def test_of_a_phase_that_was_only_cut_off_the_largest_is_known() -> None:
    rows = [cut(1, 2.0, phase_id="p"), cut(2, 3.0, phase_id="p"), cut(3, 2.5, phase_id="p")]
    (ratio,) = one_per_phase([], rows)
    assert (ratio.pos, ratio.x, ratio.is_censored) == (2, math.log(3.0), True)


def test_a_clean_sample_of_a_phase_outweighs_what_was_cut_off() -> None:
    clean = [sample(1, 2.0, phase_id="p"), sample(4, 1.5, phase_id="p")]
    (ratio,) = one_per_phase(clean, [cut(5, 9.0, phase_id="p")])
    assert (ratio.pos, ratio.x, ratio.is_censored) == (4, math.log(1.5), False)


def test_phases_of_one_name_in_two_runs_are_two_and_those_without_a_name_are_their_own() -> None:
    alike = [sample(1, phase_id="p"), sample(2, phase_id="p", run_id="other")]
    assert len(one_per_phase(alike, [])) == 2
    assert len(one_per_phase([sample(1, phase_id=""), sample(2, phase_id="")], [])) == 2
    assert len(one_per_phase([sample(n, phase_id="p", run_id="") for n in (1, 2)], [])) == 1


def test_what_was_cut_off_and_failed_is_cut_off() -> None:
    assert classify(sample(1, truncated=True, success=False)) == "censored"


def verdict(multiplier: float, confidence_at: float | None = None, drift: Drift = STEADY) -> str:
    (group,) = grouped([sample(pos) for pos in range(1, 10)])
    among = Shrunk(0.1, 1.0, math.log(multiplier), 1e-6)
    gates = Gates(5, among.confidence if confidence_at is None else confidence_at)
    return judged(group, Measured(9, 9, 0.0, 0.1), among, drift, gates).verdict


def test_what_is_just_at_a_gate_passes_it() -> None:
    assert verdict(2.0) == "recommended"
    assert verdict(2.0, 1.1) == "low_confidence"
    inside = (TOLERANCE_LOW * 1.0000001, TOLERANCE_HIGH * 0.9999999)
    outside = (TOLERANCE_LOW * 0.9999999, TOLERANCE_HIGH * 1.0000001)
    assert {verdict(each) for each in inside} == {"within_tolerance"}
    assert {verdict(each) for each in outside} == {"recommended"}


def test_a_gate_counts_clean_phases_and_not_those_that_were_cut_off() -> None:
    rows = [sample(pos) for pos in range(1, 5)] + [cut(pos, 2.0) for pos in range(5, 9)]
    (group,) = grouped(rows)
    found = judged(group, Measured(group.n, group.k, 0.0, 0.1), None, STEADY, Gates(5, 0.7))
    assert found.verdict == "below_min_samples"
    assert found.missing == "needs 1 more clean phase; 4 of 8 truncated"


@pytest.mark.parametrize(
    ("clean", "confidence", "said"),
    [
        (4, 1.0, "below_min_samples"),
        (5, 0.6999, "low_confidence"),
        (5, 0.7001, "recommended"),
    ],
)
def test_unless_told_otherwise_five_phases_and_seven_tenths_are_enough(
    clean: int, confidence: float, said: str
) -> None:
    (group,) = grouped([sample(pos) for pos in range(1, clean + 1)])
    own = Measured(group.n, group.k, 0.0, 0.1)
    error = math.log(2.0) / (2 * NORMAL.inv_cdf(min(confidence, 0.9999)))
    among = Shrunk(0.1, 1.0, math.log(2.0), error)
    assert judged(group, own, among, STEADY, Gates()).verdict == said


def test_a_group_that_changed_names_its_last_alarm() -> None:
    (group,) = grouped([sample(pos) for pos in range(1, 10)])
    among = Shrunk(0.1, 1.0, math.log(2.0), 0.01)
    for z, way in ((3.5, "larger"), (-3.5, "smaller")):
        alarms = (Alarm(100, -z), Alarm(200, z))
        changed = Drift("alarm", 5, 40, z, alarms)
        found = judged(group, Measured(9, 9, 0.0, 0.1), among, changed, Gates())
        assert found.verdict == "drifting"
        assert found.missing == (
            f"its ratios changed at 200 (the newest are {way}); look at what came after with"
            " --since 200"
        )


def scores(proposed_at: int, multiplier: float, rows: list[Sample]) -> Score:
    groups: dict[tuple[str | None, GroupKey], Group] = {("1", g.key): g for g in grouped(rows)}
    (found,) = scored([Proposal(proposed_at, KEY, multiplier, 0.9, "1")], groups)
    return found


def test_a_proposal_is_scored_by_clean_phases_behind_it_alone() -> None:
    rows = [sample(pos, 2.0) for pos in range(1, 11)] + [cut(pos, 9.0) for pos in range(11, 20)]
    assert scores(4, 2.0, rows).phases_since == 6
    assert scores(5, 2.0, rows).outcome == "better"
    assert (scores(6, 2.0, rows).phases_since, scores(6, 2.0, rows).outcome) == (4, "too early")


def test_a_proposal_that_changed_nothing_was_no_better() -> None:
    rows = [sample(pos, 2.0) for pos in range(1, 11)]
    found = scores(1, 1.0, rows)
    assert (found.outcome, found.error_applied) == ("worse", found.error_left_alone)


@pytest.mark.parametrize(
    ("confidence", "band"), [(0.0, 0), (0.7, 1), (0.8, 2), (0.9, 3), (0.97, 4), (1.0, 4)]
)
def test_a_band_of_confidence_begins_at_its_lower_end(confidence: float, band: int) -> None:
    one = Score(1, "docs/low", 2.0, confidence, 9, 1.0, 1.0, "better")
    early, worse = one._replace(outcome="too early"), one._replace(outcome="worse")
    found = reliability([one, early, early, one, worse])
    assert [each.judged for each in found] == [3 * (n == band) for n in range(5)]
    assert [each.better for each in found] == [2 * (n == band) for n in range(5)]


def test_a_budget_is_rounded_up_so_that_it_holds_what_it_says() -> None:
    loose = replace(
        shipped(), base={"default": 101.0}, per_deliverable={"default": 0.0}, budget_min=1,
        reserve={"default": 1.25}, multipliers={"docs/low": 2.0},
    )  # fmt: skip
    found = estimate(loose, "tests", "low", 0)
    assert (found.estimated_tokens, found.budget_tokens, found.deliverables) == (101, 127, 1)
    doubled = estimate(replace(loose, per_deliverable={"default": 10.0}), "doc", "LOW", 3)
    assert (doubled.estimated_tokens, doubled.deliverables) == (262, 3)


def test_a_patch_multiplies_the_multiplier_that_is_in_force() -> None:
    rows = [sample(pos, 2.0, version="1") for pos in range(1, 12)]
    settings = Settings(min_samples=5, confidence_threshold=0.7, coefficient_version="1")
    (change,) = calibrate(rows, settings, in_force=lambda _a, _b: 3.0).patch.proposed_changes
    assert (change.old_value, change.new_value) == (3.0, 3.0 * change.proposed_multiplier)
    assert 'set "docs/low" = ' in change.action


def test_what_is_at_stake_counts_what_was_cut_off_too() -> None:
    rows = [sample(1, 2.0), cut(2, 4.0), sample(3, 0.5, success=False)]
    (group,) = calibrate(rows, Settings(min_samples=1, confidence_threshold=0.7)).groups
    assert group.tokens_at_stake == 4000.0


def test_the_effect_that_is_promised_is_of_the_groups_that_should_change_alone() -> None:
    changing = [sample(pos, 3.0) for pos in range(1, 12)]
    right = [sample(pos, 1.0, category="tests") for pos in range(12, 90)]
    few = [sample(pos, 9.0, category="bugfix") for pos in range(90, 94)]
    settings = Settings(min_samples=5, confidence_threshold=0.7)
    alone, among = (calibrate(rows, settings) for rows in (changing, [*changing, *right, *few]))
    verdicts = {group.category: group.verdict for group in among.groups}
    assert verdicts == {
        "bugfix": "below_min_samples", "docs": "recommended", "tests": "low_confidence",
    }  # fmt: skip
    assert among.typical_error_before == alone.typical_error_before == pytest.approx(3.0)
    assert among.typical_error_after == pytest.approx(1.0, abs=0.01)
