"""Cooling down, whole: which runs may be sampled again, from which microsecond on."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from engine.events import RunCooledDown
from engine.triage.cooling import cooled_down, cools_us, is_cool, may_touch
from engine.triage.scope import Scope
from projections.run_triage import Standing
from tests.rules.standings import NOW_US, because, ground, named, policy, run, scope

DAY = policy(cool_down_ms=24 * 3_600_000)


def test_only_a_deprioritized_run_cools_and_only_where_the_policy_says_after_what() -> None:
    for standing, cool_ms in product(get_args(Standing), (None, 0, 1, 5)):
        judged = run(standing=standing, verdict_us=NOW_US, verdict_pos=7)
        expected = None
        if standing == "deprioritized" and cool_ms is not None:
            expected = NOW_US + cool_ms * 1000
        assert cools_us(judged, policy(cool_down_ms=cool_ms)) == expected


@pytest.mark.parametrize(
    ("passed_us", "cool"), [(0, False), (4_999, False), (5_000, True), (5_001, True)]
)
def test_a_run_is_cool_from_the_very_moment_on(passed_us: int, *, cool: bool) -> None:
    judged = run(standing="deprioritized", verdict_us=NOW_US)
    assert is_cool(judged, scope(policy(cool_down_ms=5)), NOW_US + passed_us) == cool


@pytest.mark.parametrize("generation", [1, 2, 3, 9])
@pytest.mark.parametrize("stopped", [None, "timeouts", "fingerprint_repeats"])
def test_a_run_cools_as_often_as_it_is_set_aside_and_whatever_stopped_it(
    generation: int, stopped: str | None
) -> None:
    judged = run(
        standing="deprioritized",
        verdict_us=NOW_US,
        generation=generation,
        session_id="s",
        stopped=stopped,
    )
    of = scope(policy(cool_down_ms=5))
    assert cools_us(judged, of.policy) == NOW_US + 5000
    assert not is_cool(judged, of, NOW_US + 4999)
    assert is_cool(judged, of, NOW_US + 5000)


def test_a_run_that_never_cools_is_never_cool() -> None:
    judged = run(standing="deprioritized", verdict_us=NOW_US)
    assert not is_cool(judged, scope(policy(cool_down_ms=None)), NOW_US * 2)
    assert not is_cool(run(standing="inconclusive"), scope(DAY), NOW_US * 2)


@pytest.mark.parametrize(
    ("of", "touched"),
    [
        (scope(DAY), True),
        (scope(DAY, run_id="r"), True),
        (scope(DAY, run_id="q"), False),
        (scope(DAY, skip_run_prefixes=("r",)), False),
        (scope(DAY, skip_run_prefixes=("q", "r")), False),
        (scope(DAY, skip_run_prefixes=("q", "rr")), True),
        (scope(DAY, run_id="r", skip_run_prefixes=("r",)), False),
        (named(DAY), False),
    ],
)
def test_a_session_cools_only_runs_that_it_may_touch(of: Scope, *, touched: bool) -> None:
    judged = run(standing="deprioritized", verdict_us=0)
    assert may_touch(judged, of) == touched
    assert may_touch(run(run_id="ar"), scope(DAY, skip_run_prefixes=("r",)))
    assert is_cool(judged, of, NOW_US) == touched


@pytest.mark.parametrize(
    ("passed_us", "hours"), [(24 * 3_600_000_000, "24.0"), (5_400_000_000, "1.5"), (0, "0.0")]
)
def test_a_new_generation_says_since_when_the_old_one_stood(passed_us: int, hours: str) -> None:
    judged = run(
        standing="deprioritized", generation=2, verdict_pos=7, verdict_us=NOW_US - passed_us
    )
    assert cooled_down(judged, ground(DAY)) == RunCooledDown(
        session_id="s",
        run_id="r",
        generation=3,
        reason=because(
            "cool_down",
            f"The run was deprioritized {hours} hours ago and may be sampled again.",
            verdict_pos=7,
            verdict_us=NOW_US - passed_us,
            now_us=NOW_US,
        ),
    )
