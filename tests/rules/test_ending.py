"""The end of a session, whole: why it ended, how long it took, and what is left."""

from __future__ import annotations

from itertools import product
from typing import get_args

import pytest

from engine.events import Ending, PhaseState, SessionEnd, SessionEnded
from engine.triage.ending import ended, work_left
from engine.triage.picking import active_ms
from tests.rules.standings import NOW_US, board, budget, named, phase, policy, scope, session


@pytest.mark.parametrize(
    ("status", "before_ms", "passed_us", "expected"),
    [
        ("running", 0, 0, 0),
        ("running", 0, 999, 0),
        ("running", 0, 1000, 1),
        ("running", 500, 1999, 501),
        ("running", 500, -5000, 500),  # a clock that went back adds nothing
        ("draining", 500, 2000, 502),
        ("ended", 500, 2000, 500),
        ("lost", 500, 2000, 500),
    ],
)
def test_a_session_is_active_while_a_part_of_it_runs(
    status: str, before_ms: int, passed_us: int, expected: int
) -> None:
    standing = session(
        status=status,
        active_ms=before_ms,
        part_started_us=NOW_US,
        started_us=NOW_US - 70_000,
        last_us=NOW_US + 90_000,
    )
    assert active_ms(standing, NOW_US + passed_us) == expected


@pytest.mark.parametrize("said", [None, "batch_size", "zero_yield_streak"])
@pytest.mark.parametrize("because", ["nothing_eligible", "held_back"])
def test_the_end_says_what_stopped_the_session_if_anything_did(
    said: SessionEnd | None, because: SessionEnd
) -> None:
    standing = session(
        status="draining",
        because=said,
        attempts=7,
        active_ms=3,
        part_started_us=NOW_US - 4000,
        open=2,
        succeeded=5,
    )
    rows = board(standing, phase(), phase(phase_id="q"), phase(phase_id="x", state="COMPLETE"))
    assert ended(rows, scope(), because, NOW_US) == SessionEnded(
        session_id="s",
        because=said or because,
        active_ms=7,
        attempts=7,
        work_left=2,
    )


def test_what_is_left_is_whatever_could_still_be_attempted() -> None:
    of = scope(
        policy(attempts_per_phase_max=2, orphans_per_phase_max=3),
        budgets=(budget("phase", "ms", 10),),
    )
    for state, attempts, orphans, spent_ms, flying, ending in product(
        get_args(PhaseState), (1, 2), (2, 3), (9, 10), (None, "a"), (None, *get_args(Ending))
    ):
        standing = phase(
            state=state,
            attempts=attempts,
            orphans=orphans,
            spent_ms=spent_ms,
            open_attempt=flying,
            last_ending=ending,
            last_session="s",
        )
        left = state in ("QUEUED", "FAILED") and attempts < 2 and orphans < 3 and flying is None
        assert work_left(board(standing), of) == int(left)


def test_what_waits_or_belongs_to_a_run_that_is_set_aside_is_left_all_the_same() -> None:
    rows = [phase(phase_id=f"p{n}", phase_index=n, after=("p0",)) for n in range(3)]
    assert work_left(board(*rows), scope()) == 3


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("ending", [None, *get_args(Ending)])
def test_what_a_session_that_tries_once_has_tried_is_not_left(
    ending: Ending | None, *, once: bool
) -> None:
    of = scope(policy(once_per_session=once))
    tried = once and ending in ("succeeded", "failed", "timed_out", "broke")
    for tried_in, left in (("s", not tried), ("another", True)):
        standing = phase(state="FAILED", last_session=tried_in, last_ending=ending)
        assert work_left(board(standing), of) == left


def test_only_the_sessions_own_filter_counts() -> None:
    rows = board(
        *[
            phase(run_id=run_id, phase_id=phase_id)
            for run_id, phase_id in product(("r", "rx", "q"), ("p", "o"))
        ]
    )
    assert work_left(rows, scope()) == 6
    assert work_left(rows, scope(run_id="r")) == 2
    assert work_left(rows, scope(run_id="none")) == 0
    assert work_left(rows, scope(skip_run_prefixes=("r",))) == 2
    assert work_left(rows, scope(skip_run_prefixes=("rx", "none"))) == 4
    assert work_left(rows, scope(skip_run_prefixes=("x",))) == 6
    assert work_left(rows, named()) == 1
    assert work_left(board(), scope()) == 0


def test_what_needs_a_label_of_another_machine_is_left_like_any_other() -> None:
    rows = board(phase(needs=("gpu",)), phase(phase_id="q", needs=("gpu",), attempts=9))
    of = policy(attempts_per_phase_max=9)
    assert work_left(rows, scope(of)) == work_left(rows, scope(of, labels=("gpu",))) == 1
