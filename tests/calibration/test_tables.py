"""Statistics and sentences at their edges, as tables with answers that are known beforehand."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from statistics import median
from typing import Any

import pytest
from msgspec.structs import replace

from engine.calibration import drift as drift_module
from engine.calibration.budgets import quantile
from engine.calibration.documented import confidence, documented
from engine.calibration.drift import Alarm, Drift, drift_of
from engine.calibration.in_words import notes_of, sentence_of
from engine.calibration.pooling import Measured, between_groups, shrunk
from engine.calibration.report import verdict_rows
from engine.calibration.result import GroupResult, Settings, Totals
from engine.calibration.samples import CLASSES, Class, GroupKey, Ratio, fold_category, grouped
from tests.calibration import reference
from tests.calibration.conftest import calibrated, sample


def ratios(xs: list[float]) -> list[Ratio]:
    return [Ratio(pos, x, False) for pos, x in enumerate(xs, 1)]


def test_the_first_look_is_at_the_forty_fifth_ratio() -> None:
    xs = [at / 1000 for at in range(20)] + [1 + at / 1000 for at in range(25)]
    assert drift_of(ratios(xs[:44])).status == "too_few"
    found = drift_of(ratios(xs))
    z = reference.rank_z(xs[:20], xs[20:])
    assert [each.pos for each in found.alarms] == [45]
    assert found.alarms[0].z == pytest.approx(z)
    assert (found.status, found.watched, found.needed) == ("alarm", 0, 45)
    assert found.z == found.alarms[0].z, "that of the last look"


@pytest.mark.parametrize("seed", range(4))
def test_however_many_ratios_were_put_in_order_the_ranks_are_the_same(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    xs = [round(rng.gauss(0.9 * (i > 160), 1), 1) for i in range(240)]
    monkeypatch.setattr(drift_module, "MERGED_AT", 16)
    found = drift_of(ratios(xs))
    assert [each.pos for each in found.alarms] == reference.alarms(xs)
    first = found.alarms[0]
    want = reference.rank_z(xs[: first.pos - 25], xs[first.pos - 25 : first.pos])
    assert first.z == pytest.approx(want)


@pytest.mark.parametrize(
    ("medians", "variances", "between"),
    [
        ([], [], 0.05**2),
        ([0.0], [0.1], 0.05**2),
        ([2.0], [4.0], 0.05**2),  # explained by the errors alone
        ([0.04], [0.0001], 0.05**2),  # 0.0015 would solve it, and is too little to believe
        ([1.0], [0.25], 0.75),
        ([1.0, -1.0], [0.25, 0.25], 0.75),
        ([9.0], [0.25], 25.0),  # and never more
    ],
)
def test_the_spread_between_groups_is_what_their_errors_leave_open(
    medians: list[float], variances: list[float], between: float
) -> None:
    assert between_groups(medians, variances) == pytest.approx(between)


def test_groups_without_any_spread_have_a_least_error() -> None:
    key = GroupKey("docs", "low")
    found = shrunk({key: Measured(5, 5, 0.5, 0.0)})[key]
    assert found.log_multiplier_sd == pytest.approx(math.sqrt(1e-9), rel=1e-3)
    assert found.confidence == 1.0


@pytest.mark.parametrize("percent", [90, 98])
def test_a_rank_is_that_of_exact_numbers(percent: int) -> None:
    for count in range(400):
        rank = math.ceil(Fraction(percent * (count + 1), 100))
        want = rank if rank <= count else math.inf
        assert quantile(range(1, count + 1), percent) == want, count


@pytest.mark.parametrize(
    ("count", "sd", "want"),
    [(0, 0.0, 0.5), (19, 0.0, 0.975), (20, 0.0, 1.0), (40, 0.0, 1.0), (20, 0.5, 0.75),
     (20, 1.0, 0.5), (20, 3.0, 0.5)],
)  # fmt: skip
def test_the_documented_confidence_is_half_count_and_half_spread(
    count: int, sd: float, want: float
) -> None:
    assert confidence(count, sd) == pytest.approx(want)


def test_only_what_was_cut_off_exceeds_an_estimate_by_reaching_it() -> None:
    def rate(x: float, *, is_cut: bool) -> float | None:
        (group,) = grouped([sample(1, x, truncated=is_cut)])
        return documented(group).underestimation_rate

    assert [rate(x, is_cut=False) for x in (0.5, 1.0, 1.5)] == [0.0, 0.0, 1.0]
    assert [rate(x, is_cut=True) for x in (0.5, 1.0, 1.5)] == [0.0, 1.0, 1.0]


def test_a_group_that_was_only_cut_off_has_its_rates_and_no_ratio() -> None:
    (group,) = grouped([sample(pos, 2.0, truncated=True) for pos in range(3)])
    found = documented(group)
    assert (found.truncation_rate, found.underestimation_rate) == (1.0, 1.0)
    assert (found.sample_count, found.avg_ratio) == (0, None)


SETTINGS = Settings(min_samples=5, confidence_threshold=0.7, coefficient_version="2")
STEADY = Drift("too_few", 0, 45, None, ())


def group_of(**fields: Any) -> GroupResult:
    (found,) = calibrated([sample(pos) for pos in range(1, 10)]).groups
    return replace(found, drift=STEADY, **fields)


def totals(**fields: Any) -> Totals:
    """With nine clean samples, unless ``fields`` say otherwise."""
    named: dict[Class, int] = {name: fields.pop(name) for name in CLASSES if name in fields}
    counts: dict[Class, int] = {**dict.fromkeys(CLASSES, 0), "clean": 9, **named}
    read = fields.pop("read", sum(counts.values()))
    known = Totals(read=read, counts=counts, stale=0, outside=0, stale_versions={})
    return replace(known, **fields)


def sentence(*groups: GroupResult, of: Totals | None = None, before: float = 2.0) -> str:
    return sentence_of(groups, of or totals(), SETTINGS, before, 1.0)


YES, NO = group_of(verdict="recommended"), group_of(verdict="within_tolerance")


@pytest.mark.parametrize(
    ("groups", "of", "said"),
    [
        ([], totals(read=0), "There are no samples, so there is nothing to calibrate from."),
        (
            [],
            totals(read=7, stale=4),
            "All 4 samples are of other coefficients than the current ones.",
        ),
        (
            [],
            totals(read=7, stale=1),
            "The one sample is of other coefficients than the current ones.",
        ),
        (
            [NO],
            totals(clean=0, failed=1, missing=2, zero_estimate=3, zero_actual=4),
            ("No sample can be used: 1 failed, 2 without estimate or actual, 3 with an estimate of"
            " 0 or less, 4 with an actual of 0 or less."),
        ),
        (
            [NO],
            totals(clean=0, censored=3),
            ("Everything was truncated (3 samples), so nothing says how long the answers wanted to"
            " be."),
        ),
        ([NO], totals(clean=1, censored=3), "None of 1 group should change."),
        ([NO, NO], totals(), "None of 2 groups should change."),
        (
            [YES, NO, YES],
            totals(),
            ("2 of 3 groups should change; on these samples that would cut the typical error from"
            " 2.0× to 1.0×."),
        ),
        ([group_of(verdict="below_min_samples", clean_phase_count=5)], totals(),
         "None of 1 group should change."),
        (
            [group_of(clean_phase_count=4, verdict="drifting")] * 2
            + [group_of(clean_phase_count=3, verdict="drifting")],
            totals(),
            "None of 3 groups should change: none has 5 clean phases yet (the largest has 4).",
        ),
        (
            [group_of(clean_phase_count=6, verdict="low_confidence"),
             group_of(clean_phase_count=1, verdict="below_min_samples")],
            totals(),
            "None of 2 groups should change.",
        ),
    ],
)  # fmt: skip
def test_what_it_comes_to_is_one_sentence(groups: list[GroupResult], of: Totals, said: str) -> None:
    assert sentence(*groups, of=of) == said


def notes(*groups: GroupResult, **fields: Any) -> tuple[str, ...]:
    return notes_of(groups, totals(**fields), SETTINGS)


def test_there_is_nothing_to_note_about_what_is_plain() -> None:
    assert notes(NO, YES, censored=3) == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"stale": 3, "stale_versions": {"1": 2, "": 1}},
            "3 samples of other coefficients than 2 were left out (1: 2, none: 1).",
        ),
        (
            {"stale": 1, "stale_versions": {"1": 1}},
            "1 sample of other coefficients than 2 was left out (1: 1).",
        ),
        ({"outside": 2}, "2 samples were not asked for (run or time) and left out."),
        ({"outside": 1}, "1 sample was not asked for (run or time) and left out."),
        (
            {"censored": 4, "failed": 1, "zero_actual": 2},
            "Samples that say nothing about the estimates: 2 zero_actual, 1 failed.",
        ),
    ],
)
def test_samples_that_were_left_out_are_told(fields: dict[str, Any], said: str) -> None:
    assert notes(NO, **fields) == (said,)


def test_a_group_that_changed_is_told_with_its_last_change_and_so_are_twenty() -> None:
    changed = Drift("steady", 60, 0, 0.1, (Alarm(100, 4.0), Alarm(200, -4.0)))
    moved = replace(NO, drift=changed)
    (said,) = notes(NO, moved)
    assert said == (
        "docs/low changed at 200, so its numbers are over two regimes; --since 200 looks at the"
        " newer one only."
    )
    assert len(notes(*[moved] * 25)) == 20


ABSURD: list[tuple[dict[str, float | None], bool]] = [
    ({}, False),
    ({"max_ratio": 1000.0}, False),
    ({"max_ratio": 1001.0}, True),
    ({"min_ratio": 0.001}, False),
    ({"min_ratio": 0.0009}, True),
    ({"avg_actual": 1e9}, False),
    ({"avg_actual": 1.1e9}, True),
    ({"avg_estimated": 1.1e9}, True),
    ({"min_ratio": None, "max_ratio": None, "avg_actual": 1e12}, False),
]


@pytest.mark.parametrize(("fields", "is_absurd"), ABSURD)
def test_what_cannot_be_so_is_told(fields: dict[str, float | None], *, is_absurd: bool) -> None:
    said = notes(replace(NO, **fields))
    assert [("absurd values" in each) for each in said] == [True] * is_absurd


def test_twenty_absurd_groups_are_enough() -> None:
    assert len(notes(*[replace(NO, max_ratio=5000.0)] * 25)) == 20


@pytest.mark.parametrize(("count", "is_told"), [(300, False), (301, True)])
def test_it_is_told_that_not_every_group_is_shown(count: int, *, is_told: bool) -> None:
    said = f"Tables and pictures show the 300 groups with most tokens at stake of {count}"
    assert any(said in each for each in notes(*[NO] * count)) is is_told


@pytest.mark.parametrize(
    ("raw", "category"),
    [
        *((word, "docs") for word in ("documentation", "doc", "doc_write", "docs", " Docs ")),
        *((word, "tests") for word in ("testing", "test", "tests", "TESTING")),
        *((word, "implementation") for word in ("implement_feature", "implementation")),
        *((word, "bugfix") for word in ("bug_fix", "bugfix", "Bug_Fix")),
        *((word, "unknown") for word in (None, "", "  ", "unknown")),
        *((word, word) for word in ("bug", "feature", "refactor", "bug-fix")),
    ],
)
def test_a_category_means_the_group_of_its_word(raw: str | None, category: str) -> None:
    assert fold_category(raw) == category


@pytest.mark.parametrize(
    ("z", "is_alarm"), [(2.999, False), (3.0, True), (3.1, True), (-3.0, True), (-2.999, False)]
)
def test_an_alarm_is_raised_from_three_on_either_way(
    z: float, monkeypatch: pytest.MonkeyPatch, *, is_alarm: bool
) -> None:
    def tested(_watch: drift_module.Watch) -> float:
        return z

    monkeypatch.setattr(drift_module.Watch, "_rank_test", tested)
    found = drift_of(ratios([0.0] * 45))
    assert found.alarms == ((Alarm(45, z),) if is_alarm else ())


def test_the_effect_that_is_promised_is_that_of_what_is_proposed() -> None:
    """Not that of the group's own median, which nobody would apply."""
    rng = random.Random(3)
    rows = [sample(pos, 2.0 * rng.lognormvariate(0, 0.5)) for pos in range(1, 9)]
    result = calibrated(rows)
    (group,) = result.groups
    assert group.verdict == "recommended"
    assert group.log_multiplier is not None
    xs = [math.log((each.actual or 0) / (each.estimated or 1)) for each in rows]
    assert group.km_log_median != pytest.approx(group.log_multiplier)
    assert result.typical_error_before == pytest.approx(math.exp(median(map(abs, xs))))
    applied = [abs(x - group.log_multiplier) for x in xs]
    assert result.typical_error_after == pytest.approx(math.exp(median(applied)))


def test_a_patch_counts_the_clean_samples_that_it_is_of() -> None:
    rows = [sample(pos, 2.0) for pos in range(1, 10)]
    rows += [sample(pos, 2.0, truncated=True) for pos in range(10, 13)]
    rows += [sample(pos, 2.0, success=False) for pos in range(13, 15)]
    metadata = calibrated(rows).patch.metadata
    assert metadata.total_samples == 9
    assert metadata.sample_counts["censored"] == 3


def test_a_verdict_is_shown_with_its_clean_phases_of_all() -> None:
    rows = [sample(pos, 2.0) for pos in range(1, 10)]
    rows += [sample(pos, 2.0, truncated=True) for pos in range(10, 12)]
    header, (row,) = verdict_rows(calibrated(rows))
    shown = dict(zip(header, row, strict=True))
    assert (shown["phases"], shown["truncated"]) == ("9 of 11", "18%")
