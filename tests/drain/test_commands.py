"""What a drain asks the writer to record, decided on a board from what stands there and no more."""

from __future__ import annotations

from typing import Any, cast

import pytest

from engine.calibration.estimator import shipped
from engine.detect.diagnosis import Diagnosis
from engine.drain.commands import PICKER, adopted, begin, drain_now, end, finish, pick, spawned
from engine.drain.diagnose import Diagnosed
from engine.errors import AppendRefused
from engine.events import (
    AnyEvent,
    AttemptAdopted,
    AttemptEstimated,
    AttemptFinished,
    AttemptStarted,
    BudgetReached,
    CoefficientsInForce,
    PolicyAdopted,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionPartLost,
    SessionResumed,
    UsageRecorded,
)
from engine.executors.port import Spawned
from engine.store.command import Command, Moment
from engine.triage.fair_share import Turn
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board
from tests.rules.standings import (
    BASIS,
    NOW_US,
    board,
    budget,
    finished,
    phase,
    policy,
    run,
    scope,
    session,
    started,
)


def told(command: Command, on: Board) -> list[tuple[AnyEvent, int | None]]:
    """The events of a command and their causes, each folded before the next is asked for."""
    found: list[tuple[AnyEvent, int | None]] = []
    for draft in command.decide(on, Moment(NOW_US, BASIS + 1)):
        found.append((draft.event, draft.cause))
        on.fold_next(draft.event, NOW_US)
    return found


def kinds(command: Command, on: Board) -> list[type[AnyEvent]]:
    return [type(event) for event, _ in told(command, on)]


def used() -> UsageRecorded:
    return UsageRecorded(
        session_id="s", run_id="r", phase_id="p", attempt_id="a", line=1, source="file"
    )


def closing(attempt_id: str = "a") -> Command:
    done = finished(attempt_id=attempt_id, ending="succeeded", final_state="COMPLETE", tokens=60)
    of = scope(budgets=(budget("run", "tokens", 50),))
    diagnosed = Diagnosed((used(), used()), done, Diagnosis(None, None, (), None))
    return finish(diagnosed, of, None)


def test_an_attempt_is_closed_by_its_own_end_alone() -> None:
    for open_attempt in (None, "another"):
        there = board(session(), run(), phase(open_attempt=open_attempt))
        with pytest.raises(AppendRefused, match="the attempt a is not open"):
            told(closing(), there)


def test_what_follows_from_an_end_names_the_position_of_the_end() -> None:
    there = board(session(), run(standing="promising", open=1), phase(open_attempt="a"))
    found = told(closing(), there)
    assert [type(event) for event, _ in found] == [
        UsageRecorded,
        UsageRecorded,
        AttemptFinished,
        BudgetReached,
    ]
    assert [cause for _, cause in found] == [None, None, None, BASIS + 3]
    reached = found[-1][0]
    assert isinstance(reached, BudgetReached)
    assert reached.reason.basis == BASIS + 2


@pytest.mark.parametrize(
    ("because", "said"),
    [("nothing_eligible", True), ("held_back", False), ("interrupted", False)],
)
def test_budgets_are_told_at_an_end_for_lack_of_work_and_at_no_other(
    because: SessionEnd, *, said: bool
) -> None:
    of = scope(budgets=(budget("run", "tokens", 50),))
    there = board(session(), run(standing="promising", spent_tokens=50), phase())
    found = told(end("c", of, because), there)
    ended = found[-1][0]
    assert isinstance(ended, SessionEnded)
    assert ended.because == ("run_budgets" if said else because)
    assert [type(event) for event, _ in found[:-1]] == [SessionDraining] * said
    if said:
        draining = found[0][0]
        assert isinstance(draining, SessionDraining)
        assert draining.reason.basis == BASIS


@pytest.mark.parametrize(
    ("status", "stops"), [("running", True), ("draining", False), ("lost", False), ("ended", False)]
)
def test_a_session_is_told_to_stop_once(status: str, *, stops: bool) -> None:
    command = drain_now("c", scope(), "paused", "A person paused the daemon.")
    found = told(command, board(session(status=status)))
    assert len(found) == stops
    if stops:
        (event, _), *_ = found
        assert isinstance(event, SessionDraining)
        assert (event.because, event.reason.basis) == ("paused", BASIS)
        assert event.reason.sentence == "A person paused the daemon."


def test_a_session_that_goes_on_orders_its_queue_by_its_new_scope() -> None:
    there = board(session(), run(standing="promising"), phase(attempts=2, state="FAILED"))
    queue = Queue(there, scope())
    assert queue.pick(NOW_US) is None
    of = scope(policy(attempts_per_phase_max=3))
    kept = begin("c", of, "x", resume=True, queue=queue, coefficients=shipped())
    assert kinds(kept, there) == [PolicyAdopted, SessionResumed, CoefficientsInForce]
    assert queue.pick(NOW_US) is not None


def test_a_session_that_begins_takes_over_from_those_that_died() -> None:
    there = board(session(session_id="old", parts=1), session(session_id="shared", leased_by=3))
    found = told(begin("c", scope(), "x", resume=False), there)
    lost = [event.session_id for event, _ in found if isinstance(event, SessionPartLost)]
    assert lost == ["old"]


def test_every_engine_adopts_an_attempt_by_a_command_of_its_own() -> None:
    assert {adopted(started(), epoch).command_id for epoch in (3, 4)} == {
        "a.adopted-3",
        "a.adopted-4",
    }


def beginning(of: Scope, executor: str = "x", **more: Any) -> Command:
    return begin("c", of, executor, resume=False, **more)


def ended_with(usage: int, **fields: Any) -> Command:
    done = finished(attempt_id="a", **fields)
    return finish(
        Diagnosed((used(),) * usage, done, Diagnosis(None, None, (), None)), scope(), None
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (beginning(scope()), beginning(scope(policy(drains=("FAILED",))))),
        (beginning(scope()), beginning(scope(workers=7))),
        (beginning(scope()), beginning(scope(), "y")),
        (beginning(scope()), beginning(scope(), coefficients=shipped())),
        (drain_now("c", scope(), "paused", ""), drain_now("c", scope(), "storage", "")),
        (end("c", scope(), "paused"), end("c", scope(), "storage")),
        (ended_with(1), ended_with(2)),
        (ended_with(1), ended_with(1, exit_code=3)),
        (adopted(started(), 1), adopted(started(), 2)),
    ],
)
def test_who_asks_for_something_else_under_one_id_is_told_apart(
    one: Command, other: Command
) -> None:
    assert one.request != other.request
    assert one.stream == other.stream == "drain/s"


def test_who_acts_and_whether_anybody_can_have_asked_before() -> None:
    """Only what this engine began itself is fresh; an end may be told by whoever finds it."""
    process = Spawned(host="h", boot_id="b", pid=1, start_ticks=None, directory="/nowhere")
    picking = pick("c", scope(), Queue(board(), scope()), capacity=1, new_attempt_id=str)
    found = [
        (each.actor, each.is_fresh)
        for each in (picking, spawned(started(), process), adopted(started(), 1), closing())
    ]
    assert found == [(PICKER, True), ("worker", True), ("worker", False), ("worker", False)]


def test_who_takes_an_attempt_over_says_as_which_engine() -> None:
    ((event, _),) = told(adopted(started(), 7), board(session(), run(), phase(open_attempt="a")))
    assert isinstance(event, AttemptAdopted)
    assert event.epoch == 7


def test_an_attempt_of_a_phase_that_nobody_knows_is_not_open() -> None:
    with pytest.raises(AppendRefused, match="the attempt a is not open"):
        told(closing(), board(session()))


class FirstOnly:
    """A turn in which the first start is ours, and the next one another engine's."""

    begun = asked = 0

    def begin(self) -> None:
        self.begun += 1

    def leaves(self, _board: Board, _event: AnyEvent, _now_us: int) -> bool:
        self.asked += 1
        return self.asked > 1


def test_a_pick_ends_with_what_is_left_to_others_and_estimates_what_it_starts() -> None:
    runs = [run(run_id=name) for name in "abc"]
    phases = [phase(run_id=name, registered_pos=n) for n, name in enumerate("abc", 1)]
    there, of, turn = board(session(), *runs, *phases), scope(), FirstOnly()
    picking = pick(
        "c",
        of,
        Queue(there, of),
        capacity=3,
        new_attempt_id=lambda: "a1",
        coefficients=shipped(),
        turn=cast("Turn", turn),
    )
    assert kinds(picking, there) == [AttemptStarted, AttemptEstimated]
    assert (turn.begun, turn.asked) == (1, 2)
