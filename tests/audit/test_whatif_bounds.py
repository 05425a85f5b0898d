"""What a bound leaves out that the other policy would have come to first, by real drains."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.triage.policy import POLICIES
from tests.audit.whatif_drains import (
    Run,
    drained,
    fails,
    held_against,
    horizons,
    made,
    succeeds,
    times_out,
)
from tests.rules.standings import budget

DEFAULT = POLICIES["default"]


@pytest.mark.parametrize(
    ("batch_size", "change", "bounds", "cut_short"),
    [
        (4, {}, {}, True),
        (5, {}, {}, True),
        (6, {}, {}, True),
        (7, {}, {}, False),
        (200, {}, {}, False),
        (200, {"attempts_per_phase_max": None}, {}, True),
        (200, {}, {"total_ms_max": 36_000_000}, True),
        (200, {}, {"budgets": (budget("session", "tokens", 99),)}, True),
    ],
)
async def test_a_session_that_may_go_on_to_a_bound_leaves_out_what_came_too_early(
    batch_size: int, change: dict[str, Any], bounds: dict[str, Any], *, cut_short: bool
) -> None:
    """Four more attempts of a come before b's second one, which the bound may then exclude."""
    runs = [
        Run("a", "free", [[times_out()], [fails("odd failure", 7)]]),
        Run("b", "free", [[fails("other thing broke"), times_out()]]),
        Run("c", "free", [[succeeds()]]),
    ]
    one = replace(DEFAULT, timeouts_per_run_max=1)
    other = replace(one, timeouts_per_run_max=None, **change)
    recorded = await drained(runs, one, batch_sizes=(batch_size,), bounds=bounds)
    assert made(recorded)["b", "p0"] == 2
    assert ("b" in horizons(held_against(recorded, other))) is cut_short
    if not change and not bounds:
        really = await drained(runs, other, batch_sizes=(batch_size,))
        assert made(really)["b", "p0"] == (1 if cut_short else 2)
