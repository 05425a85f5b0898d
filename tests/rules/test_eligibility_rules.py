"""Who may be attempted, whole: every hindrance of a phase and of a run, and which one is told."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest
from msgspec.structs import replace

from engine.errors import LogUnreadable
from engine.events import Ending, PhaseState
from engine.triage.eligible import (
    PhaseHindrance,
    RunHindrance,
    SortKey,
    is_unfinished,
    missing_labels,
    phase_hindrance,
    run_hindrance,
    sort_key,
)
from engine.triage.policy import POLICIES
from engine.triage.scope import Scope, scope_of
from projections.backlog import PhaseStanding
from projections.run_triage import RunStanding, Standing
from tests.rules.standings import budget, limits, named, phase, policy, run, scope, session

STATES: tuple[PhaseState, ...] = get_args(PhaseState)
OPEN_STATES = ("QUEUED", "EXECUTING", "FAILED")
FLAGS = (False, True)


def test_later_phases_wait_for_what_is_not_through() -> None:
    assert [state for state in STATES if is_unfinished(phase(state=state))] == list(OPEN_STATES)


# A named phase: asked for once, attempted once.


def test_a_phase_that_was_asked_for_by_name_is_attempted_once_whatever_triage_says() -> None:
    of = named(
        policy(attempts_per_phase_max=1, orphans_per_phase_max=1, drains=("QUEUED",)),
        budgets=(budget("phase", "attempts", 1),),
    )
    for state, flying, ending, last in product(
        STATES, (None, "a"), (None, *get_args(Ending)), (None, "s", "other")
    ):
        standing = phase(
            state=state,
            open_attempt=flying,
            last_ending=ending,
            last_session=last,
            attempts=9,
            orphans=9,
            number=9,
        )
        proved = ending is not None and ending not in ("abandoned", "orphaned")
        expected: PhaseHindrance | None = None
        if flying is not None:
            expected = "open"
        elif state not in OPEN_STATES:
            expected = "done"
        elif last == "s" and proved:
            expected = "tried_this_session"
        assert phase_hindrance(standing, of) == expected, standing


# Any other phase.


@pytest.mark.parametrize("drains", [("QUEUED", "FAILED"), ("FAILED",), ("GATE",), ()])
def test_only_states_that_the_policy_drains_are_backlog(drains: tuple[PhaseState, ...]) -> None:
    for state, flying in product(STATES, (None, "a")):
        found = phase_hindrance(
            phase(state=state, open_attempt=flying), scope(policy(drains=drains))
        )
        if flying:
            assert found == "open"
        elif state in drains:
            assert found is None
        else:
            assert found == ("not_drained" if state in OPEN_STATES else "done")


@pytest.mark.parametrize("bound", [None, 0, 1, 2])
def test_a_phase_is_used_up_at_its_bound_of_attempts_and_lost_at_its_bound_of_orphans(
    bound: int | None,
) -> None:
    for count in range(4):
        over = bound in range(1, count + 1)
        tried = scope(policy(attempts_per_phase_max=bound, orphans_per_phase_max=None))
        assert phase_hindrance(phase(attempts=count, deferrals=9, orphans=9), tried) == (
            "exhausted" if over else None
        )
        lost = scope(policy(attempts_per_phase_max=None, orphans_per_phase_max=bound))
        assert phase_hindrance(phase(attempts=9, deferrals=9, orphans=count), lost) == (
            "lost_too_often" if over else None
        )


def test_once_per_session_means_what_was_proved_in_this_session() -> None:
    for once, ending, last in product(FLAGS, (None, *get_args(Ending)), (None, "s", "other")):
        standing = phase(last_ending=ending, last_session=last)
        tried = once and last == "s" and ending in ("succeeded", "failed", "timed_out", "broke")
        found = phase_hindrance(standing, scope(policy(once_per_session=once)))
        assert found == ("tried_this_session" if tried else None)


def test_a_phase_over_its_budget_is_held_back_by_it() -> None:
    of = scope(budgets=(budget("phase", "tokens", 5),))
    assert phase_hindrance(phase(spent_tokens=5), of) == "over_budget"
    assert phase_hindrance(phase(spent_tokens=4), of) is None


FAULTS: list[tuple[PhaseHindrance, dict[str, object]]] = [
    ("open", {"open_attempt": "a"}),
    ("not_drained", {"state": "EXECUTING"}),
    ("exhausted", {"attempts": 2}),
    ("lost_too_often", {"orphans": 5}),
    ("tried_this_session", {"last_ending": "failed", "last_session": "s"}),
    ("over_budget", {"spent_ms": 10}),
    ("label_missing", {"needs": ("gpu",)}),
]


def test_of_several_hindrances_of_a_phase_the_first_is_told() -> None:
    of = scope(policy(once_per_session=True), budgets=(budget("phase", "ms", 10),))
    for chosen in product(FLAGS, repeat=len(FAULTS)):
        there = [fault for fault, on in zip(FAULTS, chosen, strict=True) if on]
        fields = {name: value for _, changed in there for name, value in changed.items()}
        expected = there[0][0] if there else None
        assert phase_hindrance(phase(**fields), of) == expected


LABELS = ("arm", "gpu", "big")


def test_a_phase_goes_where_all_the_labels_that_it_needs_are_offered_named_or_not() -> None:
    subsets = [
        tuple(label for label, on in zip(LABELS, chosen, strict=True) if on)
        for chosen in product(FLAGS, repeat=len(LABELS))
    ]
    for needs, offered in product(subsets, repeat=2):
        standing = phase(needs=needs)
        missing = tuple(label for label in needs if label not in offered)
        for of in (scope(labels=offered), named(labels=offered)):
            assert missing_labels(standing, of) == missing
            assert phase_hindrance(standing, of) == ("label_missing" if missing else None)


def test_a_phase_that_is_through_needs_no_label_any_more() -> None:
    through = phase(state="COMPLETE", needs=("gpu",))
    assert phase_hindrance(through, scope()) == phase_hindrance(through, named()) == "done"


# Runs.


def run_fault(faults: dict[str, object]) -> tuple[RunStanding, Scope]:
    """A run of standing, open and so on, under limits: whatever ``faults`` names."""
    fields = {"session_id": "s", "open": 0, "standing": "promising", **faults}
    skipped = fields.pop("skipped", ())
    wanted = fields.pop("wanted", None)
    of = scope(
        policy(),
        per_run_max=fields.pop("per_run_max", 9),
        skip_run_prefixes=skipped,
        run_id=wanted,
        budgets=(budget("run", "ms", 10),),
    )
    return run(**fields), of


RUN_FAULTS: list[tuple[RunHindrance, dict[str, object]]] = [
    ("filtered", {"wanted": "q"}),
    ("prefix_skipped", {"skipped": ("q", "r")}),
    ("deprioritized", {"standing": "deprioritized"}),
    ("stopped", {"stopped": "timeouts"}),
    ("over_budget", {"spent_ms": 10}),
    ("run_is_full", {"open": 2, "per_run_max": 2}),
]


def test_of_several_hindrances_of_a_run_the_first_is_told() -> None:
    for chosen in product(FLAGS, repeat=len(RUN_FAULTS)):
        there = [fault for fault, on in zip(RUN_FAULTS, chosen, strict=True) if on]
        fields = {name: value for _, changed in there for name, value in changed.items()}
        assert run_hindrance(*run_fault(fields)) == (there[0][0] if there else None)


def test_a_run_without_a_verdict_has_one_attempt_in_flight_and_others_as_many_as_they_may() -> None:
    for standing, flying, most in product(get_args(Standing), range(4), (1, 2, 3)):
        found = run_hindrance(
            *run_fault({"standing": standing, "open": flying, "per_run_max": most})
        )
        expected: RunHindrance | None = None
        if standing == "deprioritized":
            expected = "deprioritized"
        elif standing == "unsampled" and flying:
            expected = "sample_in_flight"
        elif flying >= most:
            expected = "run_is_full"
        assert found == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, None),
        ({"wanted": "r"}, None),
        ({"wanted": ""}, "filtered"),
        ({"wanted": "R"}, "filtered"),
        ({"skipped": ("rr", "q")}, None),
        ({"skipped": ("r",)}, "prefix_skipped"),
        ({"skipped": ("r",), "run_id": "ar"}, None),
        ({"skipped": ("r",), "run_id": "ra"}, "prefix_skipped"),
        ({"skipped": ("",)}, "prefix_skipped"),
        ({"stopped": "timeouts", "session_id": "other"}, None),
        ({"stopped": None}, None),
        ({"spent_ms": 9}, None),
        ({"spent_ms": 11}, "over_budget"),
        ({"standing": "inconclusive"}, None),
        ({"standing": "unsampled"}, None),
        ({"standing": "unsampled", "open": 1, "spent_ms": 10}, "over_budget"),
        ({"standing": "unsampled", "open": 1, "stopped": "timeouts"}, "stopped"),
        ({"standing": "unsampled", "open": 2, "per_run_max": 2}, "sample_in_flight"),
    ],
)
def test_a_run_is_held_back_by_what_counts_here_and_now(
    changed: dict[str, object], expected: RunHindrance | None
) -> None:
    assert run_hindrance(*run_fault(changed)) == expected


@pytest.mark.parametrize("fault", [fields for _, fields in RUN_FAULTS[1:]])
def test_nothing_but_its_name_keeps_back_the_run_of_a_named_phase(
    fault: dict[str, object],
) -> None:
    standing, of = run_fault({**fault, "standing": "unsampled", "open": 3})
    by_name = Scope(of.session_id, of.policy, replace(of.limits, phase_id="p"))
    assert run_hindrance(standing, by_name) is None


def test_the_run_of_a_named_phase_is_the_one_that_was_named() -> None:
    assert run_hindrance(run(run_id="q"), named()) == "filtered"
    assert run_hindrance(run(run_id="r"), named()) is None


# Where a phase stands in its group.


def test_a_phase_stands_by_reason_then_tier_then_index_then_registration() -> None:
    standing = phase(reason="timed out", tier_index=3, phase_index=4, registered_pos=5)
    key = sort_key(standing, policy())
    assert key == SortKey(reason_class=6, tier_index=3, phase_index=4, registered_pos=5)
    assert tuple(key) == (6, 3, 4, 5)
    unordered = sort_key(standing, policy(order_tiers=False))
    assert tuple(unordered) == (6, 0, 4, 5)
    assert sort_key(standing, POLICIES["classic"]).tier_index == 0


@pytest.mark.parametrize(("newest", "expected"), [(None, 1), ("", 1), ("import", 2), ("x", 5)])
def test_a_phase_stands_by_its_newest_failure_alone(newest: str | None, expected: int) -> None:
    standing = phase(reason=newest, reason_before="timed out", attempts=2)
    assert sort_key(standing, policy()).reason_class == expected


def test_each_part_of_the_key_decides_only_between_what_the_parts_before_leave_equal() -> None:
    reasons = (None, "import", "missing", "patch", "x", "timeout")
    made: list[tuple[tuple[int, ...], PhaseStanding]] = []
    for (number, reason), tier, index, pos in product(enumerate(reasons), (0, 1), (0, 1), (1, 2)):
        standing = phase(reason=reason, tier_index=tier, phase_index=index, registered_pos=pos)
        made.append(((number, tier, index, pos), standing))
    by_key = sorted(made, key=lambda each: sort_key(each[1], policy()))
    assert by_key == sorted(made, key=lambda each: each[0])


def test_a_person_asked_for_a_phase_exactly_when_one_is_named() -> None:
    assert named().is_named_phase
    assert scope(phase_id="").is_named_phase
    assert not scope(run_id="r").is_named_phase
    assert not scope().is_named_phase


def test_the_scope_of_a_session_is_what_its_log_says() -> None:
    of, bound = policy(attempts_per_phase_max=4), limits(run_id="r")
    begun = session(session_id="s9", policy_json=of.json, limits=bound)
    assert scope_of(begun) == Scope("s9", of, bound)
    with pytest.raises(LogUnreadable, match="policy cannot be read"):
        scope_of(session(policy_json="{"))
