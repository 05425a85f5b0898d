"""The queue against a plain scan: the same choice after every step of any history."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import event as noted, given, settings, strategies as st
from msgspec.structs import replace

from engine.events import (
    AccountPaused,
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    Limits,
    PhaseRegistered,
    PhaseRequeued,
    PhaseState,
    PolicyAdopted,
    Reason,
    RunJudged,
    RunRegistered,
    RunReinstated,
    RunStopped,
    Seen,
    SessionStarted,
)
from engine.triage.cooling import cooled_down, is_cool
from engine.triage.eligible import phase_hindrance
from engine.triage.ordering import waits_for
from engine.triage.picking import pick_reason
from engine.triage.policy import POLICIES, Policy
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import Choice, Queue, pick_by_scan
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.run_triage import RunStanding

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


MOVES = (
    *("pick", "pick", "pick", "end", "end", "judge", "stop", "requeue"),
    *("limit", "open", "probed", "close", "wait", "cool"),
)
backlogs = st.tuples(*[phases(run_id) for run_id in RUNS])
moves = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "pick",
                "pick",
                "pick",
                "end",
                "end",
                "judge",
                "stop",
                "requeue",
                "limit",
                "open",
                "probed",
                "close",
                "wait",
                "cool",
            ]
        ),
        st.integers(0, 5),
        st.sampled_from(["succeeded", "failed", "timed_out", "abandoned", "orphaned"]),
    ),
    max_size=25,
)
policies = st.sampled_from(
    [
        POLICIES["default"],
        POLICIES["classic"],
        replace(
            POLICIES["default"],
            name="quick",
            breaker_cool_down_ms=5,
            cool_down_ms=5,
            samples_at_first=1,
            breaker_probes_max=1,
            provider_pause_ms=3,
        ),
        Policy(name="free", order_phases=False, order_tiers=False, attempts_per_phase_max=1),
    ]
)


REASON = Reason(rule="r", version=1, policy="p", basis=0, sentence="")


def paused(until_us: int) -> AccountPaused:
    return AccountPaused(
        session_id="s",
        account="x",
        kind="quota",
        until_us=until_us,
        stated=False,
        consecutive=1,
        reason=REASON,
    )


def opened(fingerprint: str) -> BreakerOpened:
    return BreakerOpened(
        session_id="s", fingerprint=fingerprint, template="", runs=3, reason=REASON
    )


def probed(fingerprint: str, attempt_id: str) -> BreakerProbed:
    return BreakerProbed(
        session_id="s",
        fingerprint=fingerprint,
        attempt_id=attempt_id,
        outcome="failed_alike",
        reason=REASON,
    )


def closed(fingerprint: str) -> BreakerClosed:
    return BreakerClosed(session_id="s", fingerprint=fingerprint, attempt_id="x", reason=REASON)


class Play:
    """A board and its queue, moved event by event."""

    def __init__(self, backlog: tuple[list[PhaseRegistered], ...], scope: Scope) -> None:
        self.board, self.scope, self.pos = Board(), scope, 0
        self.open: list[AttemptStarted] = []
        self.now_us = 0
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
        self.board.feed(Seen(self.pos, self.now_us, event))
        if self.queue is not None:
            run_id = getattr(event, "run_id", None)
            if run_id is not None:
                self.queue.touch(run_id, getattr(event, "phase_id", None))

    def ground(self) -> Ground:
        return Ground(self.scope, self.pos, self.now_us)

    def move(self, kind: str, number: int, ending: str, choice: Choice | None) -> None:
        run_id = RUNS[number % len(RUNS)]
        if kind == "pick" and choice is not None:
            self.start(choice)
        elif kind == "end" and self.open:
            self.finish(self.open.pop(number % len(self.open)), ending)
        elif kind == "judge":
            self.judge(run_id, number)
        elif kind == "stop":
            self.feed(RunStopped(session_id="s", run_id=run_id, because="timeouts", reason=REASON))
        elif kind == "requeue" and (phase := self.board.backlog.get(f"{run_id}\np{number}")):
            if phase.open_attempt is None:
                self.feed(PhaseRequeued(run_id=run_id, phase_id=phase.phase_id, by="x", why="y"))
            self.feed(RunReinstated(run_id=run_id, generation=2, by="x", why="y"))
        else:
            self.around(kind, number, run_id)

    def around(self, kind: str, number: int, run_id: str) -> None:
        """What happens to the whole session."""
        fingerprint = f"f{number % 2}"
        known = self.board.breakers.get(fingerprint)
        if kind == "wait":
            self.now_us += 1000 * number
        elif kind == "limit":
            until_us = self.now_us + 1000 * number
            self.feed(paused(until_us))
        elif kind == "open" and (known is None or known.opened_pos is None):
            self.feed(opened(fingerprint))
        elif kind == "probed" and known is not None and known.probe is not None:
            self.feed(probed(fingerprint, known.probe))
        elif kind == "close" and known is not None and known.opened_pos is not None:
            self.feed(closed(fingerprint))
        elif kind == "cool":
            run = self.board.runs.states[run_id]
            if is_cool(run, self.scope, self.now_us):
                self.feed(cooled_down(run, self.ground()))

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
            reason=pick_reason(choice, self.ground()),
            probe_of=choice.probe_of,
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
        self.feed(
            RunJudged(
                session_id="s",
                run_id=run_id,
                attempt_id="x",
                generation=1,
                verdict="promising" if number % 3 else "deprioritized",
                because="success",
                reason=REASON,
            )
        )


def could_be_a_sample(phase: PhaseStanding, phases: Sequence[PhaseStanding], scope: Scope) -> bool:
    siblings = [other for other in phases if other.run_id == phase.run_id]
    return phase_hindrance(phase, scope) is None and not waits_for(phase, siblings, scope.policy)


def longest_cool(play: Play) -> RunStanding | None:
    """Of the runs that have anything to attempt: without a phase there is nothing to sample."""
    phases = list(play.board.backlog.values())
    sampled = {p.run_id for p in phases if could_be_a_sample(p, phases, play.scope)}
    runs = [run for run in play.board.runs.values() if run.run_id in sampled]
    found = [run for run in runs if is_cool(run, play.scope, play.now_us)]
    return min(found, key=lambda run: (run.verdict_us, run.run_id), default=None)


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
    picks, seen = 0, set[bool | None]()
    for kind, number, ending in history:
        assert play.queue is not None
        expected = pick_by_scan(play.board, play.scope, play.now_us)
        assert play.queue.pick(play.now_us) == expected
        assert play.queue.cool(play.now_us) == longest_cool(play)
        seen |= {expected.probe_of is not None if expected else None}
        picks += expected is not None and kind == "pick"
        play.move(kind, number, ending, expected)
    noted(f"picks {min(picks, 5)}")
    noted(f"probes {True in seen}")
    assert play.queue is not None
    assert play.queue.pick(play.now_us) == pick_by_scan(play.board, play.scope, play.now_us)


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
    first = play.queue.pick(0)
    assert first is not None
    assert first.phase.phase_id == "p0"
    play.start(first)
    assert play.queue.pick(0) is None
    play.judge("a", 1)
    second = play.queue.pick(0)
    assert second is not None
    assert second.phase.phase_id == "p1"
