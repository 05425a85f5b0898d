"""The queue against a plain scan: the same choice after every step of any history."""

from __future__ import annotations

from hypothesis import event as noted, given, settings, strategies as st

from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    Limits,
    PhaseRegistered,
    PhaseRequeued,
    PhaseState,
    PolicyAdopted,
    RunJudged,
    RunRegistered,
    RunReinstated,
    RunStopped,
    Seen,
    SessionStarted,
)
from engine.triage.decide import pick_reason
from engine.triage.eligible import Scope
from engine.triage.policy import POLICIES, Policy
from engine.triage.select import Choice, Queue, pick_by_scan
from projections.board import Board

LIMITS = Limits(batch_size=99, workers=4, per_run_max=2, phase_timeout_ms=1000, grace_ms=10)
RUNS = ("a", "b", "c-skipped")
STATES: tuple[PhaseState, ...] = ("QUEUED", "FAILED", "COMPLETE", "GATE", "EXECUTING", "SKIPPED")


@st.composite
def phases(draw: st.DrawFn, run_id: str) -> list[PhaseRegistered]:
    found: list[PhaseRegistered] = []
    for number in range(draw(st.integers(0, 5))):
        tier = draw(st.integers(0, 1))
        after = draw(st.sets(st.integers(0, 4), max_size=1)) - {number}
        found.append(
            PhaseRegistered(
                run_id=run_id,
                phase_id=f"p{number}",
                tier_id=f"T{tier}",
                tier_index=tier,
                phase_index=draw(st.integers(0, 2)),
                name="",
                state=draw(st.sampled_from(STATES)),
                order="strict" if draw(st.booleans()) else "free",
                last_failure_reason=draw(st.sampled_from([None, "PATCH_FAILED", "timeout"])),
                after=tuple(f"p{n}" for n in after),
            )
        )
    return found


backlogs = st.tuples(*[phases(run_id) for run_id in RUNS])
moves = st.lists(
    st.tuples(
        st.sampled_from(["pick", "pick", "pick", "end", "end", "judge", "stop", "requeue"]),
        st.integers(0, 5),
        st.sampled_from(["succeeded", "failed", "timed_out", "abandoned", "orphaned"]),
    ),
    max_size=25,
)
policies = st.sampled_from(
    [
        POLICIES["default"],
        POLICIES["classic"],
        Policy(name="free", order_phases=False, order_tiers=False, attempts_per_phase_max=1),
    ]
)


class Play:
    """A board and its queue, moved event by event."""

    def __init__(self, backlog: tuple[list[PhaseRegistered], ...], scope: Scope) -> None:
        self.board, self.scope, self.pos = Board(), scope, 0
        self.open: list[AttemptStarted] = []
        self.queue: Queue | None = None
        for run_id in RUNS:
            self.feed(RunRegistered(run_id=run_id, origin="test", state="X"))
        for group in backlog:
            for registered in group:
                self.feed(registered)
        policy = scope.policy
        self.feed(
            PolicyAdopted(session_id="s", policy="p", policy_sha256="", policy_json=policy.json)
        )
        self.feed(SessionStarted(session_id="s", executor="x", limits=scope.limits))
        self.queue = Queue(self.board, scope)

    def feed(self, event: AnyEvent) -> None:
        self.pos += 1
        self.board.feed(Seen(self.pos, 0, event))
        if self.queue is not None:
            run_id = getattr(event, "run_id", None)
            assert run_id is not None
            self.queue.touch(run_id, getattr(event, "phase_id", None))

    def move(self, kind: str, number: int, ending: str, choice: Choice | None) -> None:
        run_id = RUNS[number % len(RUNS)]
        if kind == "pick" and choice is not None:
            self.start(choice)
        elif kind == "end" and self.open:
            self.finish(self.open.pop(number % len(self.open)), ending)
        elif kind == "judge":
            self.judge(run_id, number)
        elif kind == "stop":
            reason = pick_reason(choice, self.scope, 0) if choice else None
            if reason is not None:
                self.feed(
                    RunStopped(session_id="s", run_id=run_id, because="timeouts", reason=reason)
                )
        elif kind == "requeue" and (phase := self.board.backlog.get(f"{run_id}\np{number}")):
            if phase.open_attempt is None:
                self.feed(PhaseRequeued(run_id=run_id, phase_id=phase.phase_id, by="x", why="y"))
            self.feed(RunReinstated(run_id=run_id, generation=2, by="x", why="y"))

    def start(self, choice: Choice) -> None:
        started = AttemptStarted(
            session_id="s",
            run_id=choice.phase.run_id,
            phase_id=choice.phase.phase_id,
            attempt_id=f"att-{self.pos}",
            number=choice.phase.number + 1,
            group=choice.group,
            category="unknown",
            initial_state=choice.phase.state,
            phase_index=0,
            executor="x",
            timeout_ms=1000,
            reason=pick_reason(choice, self.scope, self.pos),
        )
        self.open.append(started)
        self.feed(started)

    def finish(self, started: AttemptStarted, ending: str) -> None:
        unproved = ending in ("abandoned", "orphaned")
        done: PhaseState = "COMPLETE" if ending == "succeeded" else "FAILED"
        self.feed(
            AttemptFinished(
                session_id="s",
                run_id=started.run_id,
                phase_id=started.phase_id,
                attempt_id=started.attempt_id,
                number=started.number,
                ending=ending,  # type: ignore[arg-type]
                final_state=started.initial_state if unproved else done,
                duration_ms=1,
                timeout_ms=1000,
                error=None if ending == "succeeded" else "PATCH_FAILED",
            )
        )

    def judge(self, run_id: str, number: int) -> None:
        from engine.events import Reason  # noqa: PLC0415

        reason = Reason(rule="r", version=1, policy="p", basis=self.pos, sentence="")
        self.feed(
            RunJudged(
                session_id="s",
                run_id=run_id,
                attempt_id="x",
                generation=1,
                verdict="promising" if number % 3 else "deprioritized",
                because="success",
                reason=reason,
            )
        )


@settings(max_examples=300, deadline=None)
@given(backlogs, moves, policies)
def test_the_queue_picks_what_a_scan_of_everything_would_pick(
    backlog: tuple[list[PhaseRegistered], ...],
    history: list[tuple[str, int, str]],
    policy: Policy,
) -> None:
    limits = LIMITS.__class__(
        batch_size=99,
        workers=4,
        per_run_max=2,
        phase_timeout_ms=1000,
        grace_ms=10,
        skip_run_prefixes=("c-",),
    )
    play = Play(backlog, Scope("s", policy, limits))
    picks = 0
    for kind, number, ending in history:
        assert play.queue is not None
        expected = pick_by_scan(play.board, play.scope)
        assert play.queue.pick() == expected
        picks += expected is not None and kind == "pick"
        play.move(kind, number, ending, expected)
    noted(f"picks {min(picks, 5)}")
    assert play.queue is not None
    assert play.queue.pick() == pick_by_scan(play.board, play.scope)


def test_an_unsampled_run_never_has_two_attempts_in_flight() -> None:
    group = [
        PhaseRegistered(
            run_id="a",
            phase_id=f"p{n}",
            tier_id="T",
            tier_index=0,
            phase_index=n,
            name="",
            state="QUEUED",
            order="free",
        )
        for n in range(3)
    ]
    play = Play((group, [], []), Scope("s", POLICIES["default"], LIMITS))
    assert play.queue is not None
    first = play.queue.pick()
    assert first is not None
    assert first.phase.phase_id == "p0"
    play.start(first)
    assert play.queue.pick() is None
    play.judge("a", 1)
    second = play.queue.pick()
    assert second is not None
    assert second.phase.phase_id == "p1"
