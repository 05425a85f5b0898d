"""A run remembers what each session counted of it."""

from __future__ import annotations

from engine.events import AttemptFinished, AttemptStarted, Reason, RunReinstated, RunStopped, Seen
from projections.fold import Keyed
from projections.run_triage import RUN_TRIAGE, SESSIONS_KEPT, RunStanding

REASON = Reason(rule="stops", version=1, policy="p@1", basis=0, sentence="")


class Run:
    def __init__(self) -> None:
        self.rows, self.pos = Keyed(RUN_TRIAGE), 0

    def feed(self, event: AttemptStarted | AttemptFinished | RunStopped | RunReinstated) -> None:
        self.pos += 1
        self.rows.feed(Seen(self.pos, 0, event))

    def times_out_in(self, session_id: str) -> None:
        self.feed(
            AttemptStarted(
                session_id=session_id,
                run_id="r",
                phase_id="p",
                attempt_id="a",
                number=1,
                group="promising",
                category="unknown",
                initial_state="FAILED",
                phase_index=0,
                executor="x",
                timeout_ms=1,
                reason=REASON,
            )
        )
        self.feed(
            AttemptFinished(
                session_id=session_id,
                run_id="r",
                phase_id="p",
                attempt_id="a",
                number=1,
                ending="timed_out",
                final_state="FAILED",
                duration_ms=1,
                timeout_ms=1,
            )
        )

    def stopped_in(self, session_id: str) -> None:
        self.feed(RunStopped(session_id=session_id, run_id="r", because="timeouts", reason=REASON))

    @property
    def standing(self) -> RunStanding:
        return self.rows.states["r"]


def test_a_session_that_goes_on_finds_its_counts_and_its_stop_again() -> None:
    run = Run()
    run.times_out_in("one")
    run.stopped_in("one")
    run.times_out_in("two")
    assert (run.standing.timeouts_in("two"), run.standing.stopped_in("two")) == (1, None)
    assert (run.standing.timeouts_in("one"), run.standing.stopped_in("one")) == (1, "timeouts")
    run.times_out_in("one")
    assert (run.standing.timeouts_in("one"), run.standing.stopped_in("one")) == (2, "timeouts")
    assert (run.standing.timeouts_in("two"), run.standing.in_session("two").attempts) == (1, 1)
    assert run.standing.timeouts_in("three") == 0


def test_a_new_generation_is_stopped_in_no_session() -> None:
    run = Run()
    for session_id in ("one", "two"):
        run.times_out_in(session_id)
        run.stopped_in(session_id)
    run.feed(RunReinstated(run_id="r", generation=2, by="x", why="y"))
    assert [run.standing.stopped_in(name) for name in ("one", "two")] == [None, None]
    assert run.standing.timeouts_in("one") == 1


def test_what_a_run_remembers_is_bounded() -> None:
    run = Run()
    for number in range(SESSIONS_KEPT + 5):
        run.times_out_in(f"s{number}")
    assert len(run.standing.others) == SESSIONS_KEPT
    assert run.standing.timeouts_in("s0") == 0
    assert run.standing.timeouts_in(f"s{SESSIONS_KEPT}") == 1
