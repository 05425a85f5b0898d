"""What must hold of every set of samples, absurd ones among them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings, strategies as st
from msgspec.structs import replace

from engine.calibration.pooling import between_groups
from engine.calibration.result import Calibration, GroupResult
from engine.calibration.samples import CLASSES, Group, GroupKey, Sample, classify, grouped
from engine.calibration.survival import median_of
from tests.calibration.conftest import by_chance, calibrated, sample

ABSURD = st.sampled_from(
    [None, math.nan, math.inf, -math.inf, -1.0, 0.0, -0.0, 5e-324, 1e18, 1e300, 1.0]
)
TOKENS = st.floats(10, 20_000).map(lambda tokens: float(round(tokens)))
WORDS = st.sampled_from(
    [None, "", " ", "docs", "Documentation", "doc_write", "TEST", "ümläut", "x"]
)
ANY_SAMPLE = st.builds(
    Sample,
    pos=st.just(0),
    run_id=st.sampled_from(["", "r1", "r2"]),
    phase_id=st.sampled_from(["", "p1", "p2", "p3", "p4"]),
    category=WORDS,
    complexity=WORDS,
    estimated=ABSURD | TOKENS,
    actual=ABSURD | TOKENS,
    success=st.booleans(),
    truncated=st.booleans(),
)
SANE = ANY_SAMPLE.map(
    lambda s: replace(s, category="docs", complexity="low", success=True)
).flatmap(
    lambda s: st.tuples(TOKENS, TOKENS).map(lambda t: replace(s, estimated=t[0], actual=t[1]))
)
RATIOS = st.integers(-30, 30).map(lambda tenth: tenth / 10)


def placed(samples: Sequence[Sample]) -> list[Sample]:
    return [replace(each, pos=pos) for pos, each in enumerate(samples, 1)]


def numbers(result: Calibration) -> list[float]:
    return [
        value
        for group in result.groups
        for name in GroupResult.__struct_fields__
        if isinstance(value := getattr(group, name), float)
    ]


@given(st.lists(ANY_SAMPLE, max_size=40))
def test_grouping_is_total_and_every_sample_is_counted_once(drawn: list[Sample]) -> None:
    samples = placed(drawn)
    result = calibrated(samples)
    counted = [count for group in result.groups for count in group.counts.values()]
    assert sum(counted) == result.totals.read == len(samples)
    assert sum(group.sample_count for group in result.groups) == result.totals.counts["clean"]
    assert len({(group.category, group.complexity) for group in result.groups}) == len(
        result.groups
    )
    assert {classify(each) for each in samples} <= set(CLASSES)


@given(st.lists(ANY_SAMPLE, max_size=60))
def test_absurd_values_give_a_result_of_finite_numbers(drawn: list[Sample]) -> None:
    result = calibrated(placed(drawn), 1)
    assert all(math.isfinite(number) for number in numbers(result))
    assert result.sentence


@given(st.lists(ANY_SAMPLE | SANE, max_size=40), st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_matter(drawn: list[Sample], rng: object) -> None:
    samples = placed(drawn)
    shuffled = samples.copy()
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert calibrated(shuffled) == calibrated(samples)


@given(st.lists(SANE, min_size=4, max_size=30), st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_scaling_all_estimates_scales_the_medians_the_other_way(
    drawn: list[Sample], by: float
) -> None:
    samples = placed(drawn)
    scaled = [replace(each, estimated=(each.estimated or 0) * by) for each in samples]
    before, after = calibrated(samples).groups[0], calibrated(scaled).groups[0]
    assert (before.km_log_median is None) == (after.km_log_median is None)
    if before.km_log_median is not None and after.km_log_median is not None:
        assert after.km_log_median == pytest.approx(before.km_log_median - math.log(by), abs=1e-9)
    if before.log_sd is not None:
        assert after.log_sd == pytest.approx(before.log_sd, abs=1e-5)
    if before.median_ratio is not None:
        assert after.median_ratio == pytest.approx(before.median_ratio / by)
    if before.shrink and after.shrink:
        # What is proposed is the scaled median, drawn by the documented share.
        unshrunk = (after.log_multiplier or 0) / after.shrink + math.log(by)
        assert unshrunk == pytest.approx((before.log_multiplier or 0) / before.shrink, abs=1e-7)


@given(st.lists(SANE, min_size=2, max_size=25), RATIOS)
@example([sample(at, 2.0) for at in range(3)], -3.0)
def test_a_truncated_sample_more_never_lowers_the_median_that_is_proposed(
    drawn: list[Sample], x: float
) -> None:
    samples = placed(drawn)
    more = sample(99, math.exp(x), truncated=True)
    before = Group(GroupKey("docs", "low"), samples)
    after = Group(GroupKey("docs", "low"), [*samples, more])
    first = median_of(before.events, before.limits)
    second = median_of(after.events, after.limits)
    assert (math.inf if second is None else second) >= (math.inf if first is None else first)


@settings(deadline=None)
@given(st.integers(0, 200))
def test_a_group_alone_and_among_others_differs_only_by_the_shrinkage(seed: int) -> None:
    samples = by_chance(seed, 120, groups=3)
    among = {group.name: group for group in calibrated(samples).groups}
    shared = ("shrink", "log_multiplier", "log_multiplier_sd", "proposed_multiplier", "confidence")
    judged = ("multiplier_low", "multiplier_high", "verdict", "action", "missing")
    budgets = ("budget_p90_multiplier", "budget_p98_multiplier", "budget_source")
    pooled = {*shared, *judged, *budgets, "budget_p98_source"}
    for name, group in among.items():
        own = [each for each in samples if each.category == group.category]
        (alone,) = calibrated(own).groups
        for field in GroupResult.__struct_fields__:
            if field not in pooled:
                assert getattr(alone, field) == getattr(group, field), (name, field)
        if alone.shrink and group.shrink:
            assert (group.log_multiplier or 0) / group.shrink == pytest.approx(
                (alone.log_multiplier or 0) / alone.shrink
            )


@given(st.lists(st.tuples(RATIOS, st.floats(1e-9, 4)), min_size=1, max_size=8))
def test_the_spread_between_groups_solves_its_equation(pairs: list[tuple[float, float]]) -> None:
    medians, variances = [m for m, _ in pairs], [v for _, v in pairs]
    found = between_groups(medians, variances)
    total = sum(m * m / (v + found) for m, v in pairs)
    assert found >= 0.05**2
    assert total == pytest.approx(len(pairs), abs=1e-6) or (found == 0.05**2 and total < len(pairs))


def test_grouping_folds_spellings_and_keeps_them() -> None:
    spelled = [("Documentation", "LOW"), ("doc_write", "low"), ("docs", None), (None, "")]
    samples = [
        sample(at, category=category, complexity=complexity)
        for at, (category, complexity) in enumerate(spelled)
    ]
    found = {"/".join(group.key): group.aliases for group in grouped(samples)}
    assert found == {
        "docs/low": ("Documentation/LOW", "doc_write/low"),
        "docs/unknown": ("docs/",),
        "unknown/unknown": ("/",),
    }
