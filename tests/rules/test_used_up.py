"""Runs that no sample can say anything of: which they are, and what helps."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.errors import UsageProblem
from engine.triage.operating import ReinstateRun, operated
from engine.triage.used_up import may_be_sampled, used_up, used_up_run
from tests.rules.standings import (
    NOW_US,
    board,
    budget,
    limits,
    phase,
    policy,
    run,
    scope,
    session,
)

OF = scope(
    policy(
        attempts_per_phase_max=2,
        orphans_per_phase_max=3,
        heed_incident_caps=True,
        once_per_session=True,
    ),
    budgets=(budget("phase", "attempts", 9),),
)
SPENT = {"attempts": 2}


def test_what_is_used_up_is_named_with_what_helps() -> None:
    rows = [phase(attempts=2), phase(phase_id="q r", orphans=3), phase(phase_id="x", state="GATE")]
    found = used_up(rows, OF)
    assert found is not None
    assert found.clause == (
        "none of its phases can be attempted (p is exhausted, q r was lost too often)"
    )
    assert found.remedy == "`runoff phase requeue r p --why TEXT` gives it new attempts."
    first = used_up([phase(phase_id=f"q {n}", phase_index=n, **SPENT) for n in range(5)], OF)
    assert first is not None
    assert first.clause.endswith(
        "(q 0 is exhausted, q 1 is exhausted, q 2 is exhausted and 2 more are)"
    )
    assert "requeue r 'q 0'" in first.remedy
    unqueued = used_up(rows, scope(policy(attempts_per_phase_max=2, drains=("FAILED",))))
    assert unqueued is None, "what is QUEUED is not drained, and not used up"
    failed = [phase(attempts=2, state="FAILED")]
    unqueued = used_up(failed, scope(policy(attempts_per_phase_max=2, drains=("FAILED",))))
    assert unqueued is not None
    assert unqueued.remedy.endswith(
        "new attempts; a policy that drains QUEUED, such as default, attempts it then."
    )
    three = used_up([phase(phase_id=f"q{n}", phase_index=n, **SPENT) for n in range(3)], OF)
    assert three is not None
    assert three.clause.endswith("(q0 is exhausted, q1 is exhausted, q2 is exhausted)")


@pytest.mark.parametrize(
    ("other", "may"),
    [
        ({}, True),
        ({"open_attempt": "a"}, False),
        ({"needs": ("gpu",)}, False),
        ({"number": 9}, False),
        ({"last_session": "s", "last_ending": "failed"}, False),
        ({"incident_token_cap": 2, "spent_tokens": 1, "number": 9}, False),
    ],
)
def test_a_run_of_which_a_phase_goes_by_and_by_is_not_used_up(
    other: dict[str, Any], *, may: bool
) -> None:
    rows = [phase(order="free", **SPENT), phase(order="free", phase_id="q", **other)]
    assert used_up(rows, OF) is None
    assert may_be_sampled(rows, OF) == may


def test_a_token_cap_that_a_phase_came_with_is_used_up_like_attempts() -> None:
    """No session can raise it, whatever else holds the phase back; where it is heeded."""
    spent = phase(incident_token_cap=1, spent_tokens=1)
    for rows in ([spent], [spent, phase(phase_id="q", phase_index=1)]):
        found = used_up(rows, OF)
        assert found is not None
        assert found.clause == "none of its phases can be attempted (p has used up its token cap)"
        assert found.remedy == "`runoff phase requeue r p --why TEXT` gives it new attempts."
    assert used_up([replace(spent, number=9)], OF) is not None
    assert used_up([spent], scope(policy(heed_incident_caps=False))) is None
    assert used_up([spent, phase(phase_id="q", order="free")], OF) is None


def test_a_phase_behind_one_that_is_used_up_does_not_go_either() -> None:
    rows = [phase(**SPENT), phase(phase_id="q", phase_index=1)]
    assert used_up(rows, OF) is not None
    assert not may_be_sampled(rows, OF)


def test_a_run_that_is_done_is_not_used_up() -> None:
    assert used_up([phase(state="COMPLETE")], OF) is None
    assert used_up([], OF) is None


def test_a_run_is_looked_at_from_a_session_that_begins_now() -> None:
    rows = board(run(), phase(**SPENT), phase(run_id="other"))
    assert used_up_run(rows, "r") is not None
    assert used_up_run(rows, "other") is None
    assert used_up_run(rows, "unknown") is None
    namesake = board(run(), phase(**SPENT), phase(run_id="r2"))
    assert used_up_run(namesake, "r") is not None


def test_a_session_that_was_for_one_phase_says_nothing_of_the_next() -> None:
    for_it = session(limits=limits(run_id="r", phase_id="p"), policy_json=policy().json)
    assert used_up_run(board(for_it, run(), phase(**SPENT)), "r") is not None


def test_a_run_without_a_verdict_is_not_told_to_be_drained_when_it_cannot() -> None:
    asked = ReinstateRun(run_id="r", by="x", why="y")
    with pytest.raises(UsageProblem) as stuck:
        operated(asked, board(run(), phase(**SPENT)), NOW_US)
    assert "p is exhausted" in stuck.value.problem
    assert "runoff phase requeue r p" in stuck.value.remedy
    with pytest.raises(UsageProblem) as free:
        operated(asked, board(run(), phase()), NOW_US)
    assert free.value.remedy == "drain it; unsampled runs go first."
