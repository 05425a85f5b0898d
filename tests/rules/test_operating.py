"""Operating: the event that comes of what is asked, and what makes no sense and is refused."""

from __future__ import annotations

from itertools import product

import pytest
from msgspec.structs import replace

from engine.calibration.estimator import shipped
from engine.errors import UsageProblem
from engine.events import (
    AccountResumed,
    BreakerReset,
    CalibrationProposed,
    CoefficientsAdopted,
    PhaseRequeued,
    RunReinstated,
)
from engine.triage.operating import (
    AdoptCoefficients,
    Operation,
    ProposeCalibration,
    ReinstateRun,
    RequeuePhase,
    ResetBreaker,
    ResumeAccount,
    operated,
    subject_of,
    words_of,
)
from projections.board import Board
from tests.rules.standings import BASIS, NOW_US, account, board, breaker, phase, run

REINSTATE = ReinstateRun(run_id="r", by="ann", why="a new key")
REQUEUE = RequeuePhase(run_id="r", phase_id="p", by="ann", why="a new key")
RESET = ResetBreaker(fingerprint="f", by="ann", why="a new key")
RESUME = ResumeAccount(account="x", by="ann", why="a new key")
NUMBERS = replace(shipped(), version="2")
ADOPT = AdoptCoefficients(
    coefficient_version="2",
    coefficients_sha256=NUMBERS.sha256,
    coefficients_json=NUMBERS.json,
    replaces="1",
    by="ann",
    why="a new key",
)


def proposed(position: int) -> ProposeCalibration:
    return ProposeCalibration(
        proposal=CalibrationProposed(
            position=position,
            hash="h",
            input_sha256="h",
            formula_version="1",
            coefficient_version="1",
            min_samples=5,
            confidence_threshold=0.7,
            samples=40,
            groups=3,
            sentence="2 of 3 groups should change.",
        )
    )


def refused(asked: Operation, on: Board) -> str:
    with pytest.raises(UsageProblem) as found:
        operated(asked, on, NOW_US)
    return found.value.problem


def test_what_is_asked_makes_its_event_with_who_asked_and_why() -> None:
    stopped = run(standing="deprioritized", generation=4)
    free = phase(state="FAILED", attempts=9)
    open_one = breaker(opened_pos=5, closed_pos=2, session_id="old")
    rests = account(until_us=NOW_US + 1)
    on = board(stopped, free, open_one, rests)
    said = {"by": "ann", "why": "a new key"}
    assert operated(REINSTATE, on, NOW_US) == RunReinstated(run_id="r", generation=5, **said)
    assert operated(REQUEUE, on, NOW_US) == PhaseRequeued(run_id="r", phase_id="p", **said)
    reset = BreakerReset(session_id="old", fingerprint="f", **said)
    assert operated(RESET, on, NOW_US) == reset
    assert operated(RESUME, on, NOW_US) == AccountResumed(account="x", **said)
    assert operated(ADOPT, on, NOW_US) == CoefficientsAdopted(
        coefficient_version="2",
        coefficients_sha256=NUMBERS.sha256,
        coefficients_json=NUMBERS.json,
        replaces="1",
        **said,
    )


def test_a_run_has_a_verdict_to_set_aside_whatever_it_is() -> None:
    for standing, flying in product(("promising", "inconclusive", "deprioritized"), (0, 2)):
        asked = operated(REINSTATE, board(run(standing=standing, open=flying)), NOW_US)
        assert asked == RunReinstated(run_id="r", generation=2, by="ann", why="a new key")
    assert refused(REINSTATE, board(run(), phase())) == "the run r has no verdict to set aside."


def test_what_the_log_does_not_hold_is_refused_by_its_name() -> None:
    empty = board(run(run_id="p"), phase(run_id="p", phase_id="r"))
    assert refused(REINSTATE, empty) == "there is no run 'r'."
    assert refused(REQUEUE, empty) == "there is no phase 'p'."
    assert refused(RESET, empty) == "no breaker was ever opened by 'f'."
    assert refused(RESUME, empty) == "the account 'x' never met a limit."


@pytest.mark.parametrize("state", ["QUEUED", "EXECUTING"])
def test_a_phase_whose_attempt_is_open_stays_as_it_is(state: str) -> None:
    there = board(run(), phase(open_attempt="a9", state=state))
    assert refused(REQUEUE, there) == "the attempt a9 of the phase is open."


def test_a_breaker_that_is_closed_says_where_it_closed() -> None:
    shut = board(breaker(closed_pos=17))
    assert refused(RESET, shut) == "the breaker of 'f' is not open; it closed at position 17."


def test_an_account_is_paused_until_the_very_moment_that_its_pause_ends() -> None:
    for until_us in (0, NOW_US - 1, NOW_US):
        over = board(account(until_us=until_us, consecutive=2))
        assert refused(RESUME, over) == "the account 'x' is not paused."
    rests = board(account(until_us=NOW_US + 1))
    assert isinstance(operated(RESUME, rests, NOW_US), AccountResumed)


@pytest.mark.parametrize("position", [0, 1, BASIS])
def test_a_report_is_kept_of_any_position_that_the_log_has(position: int) -> None:
    asked = proposed(position)
    assert operated(asked, board(run()), NOW_US) == asked.proposal


@pytest.mark.parametrize("position", [-1, BASIS + 1])
def test_a_report_of_another_log_is_refused(position: int) -> None:
    told = f"the report is of position {position}; the log ends at {BASIS}."
    assert refused(proposed(position), board(run())) == told


def test_an_operation_stands_in_the_stream_of_what_it_is_about() -> None:
    about = {
        "r": (REINSTATE, REQUEUE),
        "f": (RESET,),
        "x": (RESUME,),
        "coefficients": (ADOPT,),
        "calibration": (proposed(1),),
    }
    for name, operations in about.items():
        assert {subject_of(each) for each in operations} == {name}
    assert words_of(REQUEUE) == "Asked for by ann: a new key"
    assert words_of(proposed(1)) == "Keeps a calibration: 2 of 3 groups should change."


@pytest.mark.parametrize(
    ("told", "problem"),
    [
        ({"coefficients_json": "{}"}, "the coefficients to adopt: Object missing"),
        ({"coefficients_json": "nonsense"}, "the coefficients to adopt: JSON is malformed"),
        ({"coefficients_sha256": "h"}, "are not what their version and sha256 name"),
        ({"coefficient_version": "3"}, "are not what their version and sha256 name"),
        ({"coefficients_json": NUMBERS.json + " "}, "are not what their version and sha256 name"),
    ],
)
def test_coefficients_that_no_engine_could_go_by_are_refused(
    told: dict[str, str], problem: str
) -> None:
    assert problem in refused(replace(ADOPT, **told), board())
