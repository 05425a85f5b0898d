"""What if: another policy over the recorded outcomes, as far as the record can tell.

The log is walked once, on a board of its own.  An attempt that the other policy would not have
made is left out, with all that followed from it; every other one is taken to end as it did, and the
other policy decides from there.  What it would have attempted beyond the record has no outcome:
there the horizon of that run lies, and it is named instead of guessed.

Two things are assumed and said: an attempt ends the same whenever it is made, and a delay (a slow
start, a pause, a full run) changes only when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from engine.audit.lines import Line
from engine.audit.outputs import Outputs, ReadOutput
from engine.audit.whatif_result import Differing, Horizon, NotMade, WhatIf, said
from engine.detect import DETECTORS
from engine.detect.diagnosis import diagnosis_of
from engine.errors import LogUnreadable
from engine.events import (
    AccountResumed,
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    BreakerReset,
    FailureFingerprinted,
    PhaseRequeued,
    PolicyAdopted,
    RunReinstated,
    SessionDraining,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ZeroYieldExplained,
)
from engine.triage.cooling import cooled_down, is_cool
from engine.triage.decide import Facts, counted, decisions
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.ordering import RunOrder
from engine.triage.policy import Policy, policy_from_json
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import OF_A_PHASE, gate_of, group_of
from projections.board import Board
from projections.fold import join

DELAYS = ("sample_in_flight", "run_is_full")
"""Hindrances that change only when an attempt is made."""

FROM_OUTSIDE = (
    "interrupted",
    "storage",
    "total_time",
    "day_budget",
    "paused",
    "window_closed",
)
"""Stops that come under any policy: a person, the disk, time or a day's money said so."""

_DIAGNOSES = (FailureFingerprinted, BoundaryDetected, ZeroYieldExplained)


class Walk:
    """One walk over a log under another policy."""

    def __init__(self, policy: Policy, read_output: ReadOutput) -> None:
        self._policy = policy
        self._outputs = Outputs(read_output)
        self._board = Board(reports=False)
        self._orders: dict[str, RunOrder] = {}
        self._same_eyes: dict[str, bool] = {}
        self._scopes: dict[str, Scope] = {}
        self._left_out: dict[str, NotMade] = {}
        self._not_made: list[NotMade] = []
        self._differing: list[Differing] = []
        self._horizons: dict[str, Horizon] = {}
        self._notes: set[str] = set()
        self._attempts = 0
        self._by_kind: dict[type[Any], Callable[[Line], None]] = {
            AttemptStarted: self._started,
            SessionStarted: self._begun,
            SessionResumed: self._begun,
            PolicyAdopted: self._adopted,
            SessionDraining: self._draining,
            SessionEnded: self._ended,
            RunReinstated: self._reinstated,
            BreakerReset: self._reset,
            AccountResumed: self._feed_line,
            PhaseRequeued: self._requeued,
        }

    def take(self, lines: Sequence[Line]) -> None:
        """One command's events; decisions among them are taken anew, not believed."""
        for number, line in enumerate(lines):
            kind = type(line.event)
            if kind is AttemptFinished:
                self._finished(line, lines[number + 1 :])
                return
            if kind in self._by_kind:
                self._by_kind[kind](line)
            elif getattr(line.event, "reason", None) is None:
                self._feed(line.event, line)

    def result(self) -> WhatIf:
        """What it came to."""
        not_made = [*self._not_made, *self._left_out.values()]
        saved = [each for each in not_made if not self._is_beyond(each)]
        return WhatIf(
            policy=self._policy.label,
            policy_sha256=self._policy.sha256,
            attempts=self._attempts,
            attempts_made=self._attempts - len(not_made),
            attempts_saved=len(saved),
            attempts_unknown=len(not_made) - len(saved),
            tokens_saved=sum(each.tokens for each in saved),
            minutes_saved=sum(each.duration_ms for each in saved) / 60_000,
            successes_lost=sum(each.ending == "succeeded" for each in saved),
            usage_lost=sum(each.yield_events for each in saved),
            differing=tuple(self._differing),
            not_made=tuple(not_made),
            horizons=tuple(sorted(self._horizons.values(), key=lambda h: (h.pos, h.run_id))),
            notes=tuple(sorted(self._notes)),
        )

    def _is_beyond(self, each: NotMade) -> bool:
        horizon = self._horizons.get(each.run_id)
        return horizon is not None and horizon.pos <= each.pos

    def _feed(self, event: AnyEvent, line: Line) -> None:
        board = self._board
        board.fold_next(event, line.recorded_us)
        if isinstance(event, OF_A_PHASE):
            order = self._orders.get(event.run_id)
            if order is None:
                order = self._orders[event.run_id] = RunOrder(self._policy)
            order.update(board.backlog.states[join(event.run_id, event.phase_id)])

    def _feed_line(self, line: Line) -> None:
        self._feed(line.event, line)

    def _ground(self, scope: Scope, line: Line) -> Ground:
        return Ground(scope, self._board.head.pos, line.recorded_us)

    def _adopted(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, PolicyAdopted)
        try:
            recorded = policy_from_json(event.policy_json)
            self._same_eyes[event.session_id] = _same_eyes(recorded, self._policy)
        except LogUnreadable:
            self._notes.add(f"the policy of {event.session_id} cannot be read here")
        policy = self._policy
        other = replace(
            event,
            policy=policy.label,
            policy_sha256=policy.sha256,
            policy_json=policy.json,
        )
        self._feed(other, line)

    def _begun(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, SessionStarted | SessionResumed)
        self._scopes[event.session_id] = Scope(event.session_id, self._policy, event.limits)
        self._feed(event, line)

    def _draining(self, line: Line) -> None:
        """What came from outside still came; what the other policy decides is its own."""
        event = line.event
        assert isinstance(event, SessionDraining)
        session = self._board.sessions.states[event.session_id]
        if session.status != "running":
            return
        scope = self._scopes[event.session_id]
        if event.because in FROM_OUTSIDE:
            self._feed(event, line)
        elif event.because == "batch_size":
            if session.attempts >= scope.limits.batch_size:
                self._feed(event, line)
            else:
                room = scope.limits.batch_size - session.attempts
                self._goes_on(scope, line, f"the session would have had {room} attempts more")

    def _ended(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, SessionEnded)
        scope = self._scopes[event.session_id]
        if self._board.sessions.states[event.session_id].status == "running":
            self._goes_on(scope, line, "its next phase would have been attempted")
        self._feed(event, line)

    def _goes_on(self, scope: Scope, line: Line, why: str) -> None:
        """Name the runs that the other policy would have gone on with here."""
        if scope.is_named_phase:
            return
        gate = gate_of(self._board, scope, line.recorded_us)
        for run in self._board.runs.values():
            if run.run_id in self._horizons or run_hindrance(run, scope) is not None:
                continue
            if run.standing == "unsampled" and gate.hindrance == "breaker_open":
                continue
            if self._has_ready(run.run_id, scope):
                self._horizon(run.run_id, line.pos, why)

    def _has_ready(self, run_id: str, scope: Scope) -> bool:
        order = self._orders.get(run_id)
        return order is not None and any(
            phase_hindrance(phase, scope) is None and not order.waits(phase_id)
            for phase_id, phase in order.phases.items()
        )

    def _horizon(self, run_id: str, pos: int, unknown: str) -> None:
        self._horizons.setdefault(run_id, Horizon(run_id=run_id, pos=pos, unknown=unknown))

    def _reinstated(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, RunReinstated)
        run = self._board.runs.states[event.run_id]
        if run.standing != "unsampled":
            self._feed(replace(event, generation=run.generation + 1), line)

    def _reset(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, BreakerReset)
        breaker = self._board.breakers.get(event.fingerprint)
        if breaker is not None and breaker.opened_pos is not None:
            self._feed(replace(event, session_id=breaker.session_id), line)

    def _requeued(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, PhaseRequeued)
        if self._board.backlog.states[join(event.run_id, event.phase_id)].open_attempt is None:
            self._feed(event, line)

    def _started(self, line: Line) -> None:
        started = line.event
        assert isinstance(started, AttemptStarted)
        self._attempts += 1
        scope = self._scopes[started.session_id]
        run = self._board.runs.states[started.run_id]
        if is_cool(run, scope, line.recorded_us) and self._has_ready(run.run_id, scope):
            self._feed(cooled_down(run, self._ground(scope, line)), line)
        because = self._hindrance(started, scope, line)
        if because is not None:
            self._leave_out(line, started, because)
            return
        run = self._board.runs.states[started.run_id]
        phase = self._board.backlog.states[join(started.run_id, started.phase_id)]
        group = started.group
        probe_of = None
        if group != "named":
            sampling = run.standing == "unsampled"
            group = "unsampled" if sampling else group_of(run.standing)
            probe_of = gate_of(self._board, scope, line.recorded_us).probe_of if sampling else None
            if probe_of != started.probe_of and probe_of is not None:
                self._notes.add("probes: the next recorded sample is taken for each of them")
        made = replace(
            started,
            number=phase.number + 1,
            initial_state=phase.state,
            group=group,
            probe_of=probe_of,
        )
        self._feed(made, line)

    def _hindrance(self, started: AttemptStarted, scope: Scope, line: Line) -> str | None:
        """What would have kept the other policy from this attempt, None for nothing."""
        board = self._board
        session = board.sessions.states[started.session_id]
        if session.status != "running":
            return f"the session had stopped ({session.because})"
        if session.attempts >= scope.limits.batch_size:
            return "the session had made its attempts"
        phase = board.backlog.states[join(started.run_id, started.phase_id)]
        hindrance = phase_hindrance(phase, scope)
        if hindrance is not None:
            return hindrance
        if scope.is_named_phase:
            return None
        run = board.runs.states[started.run_id]
        of_run = run_hindrance(run, scope)
        if of_run is not None and of_run not in DELAYS:
            return of_run
        if self._orders[started.run_id].waits(started.phase_id):
            return "waits for an earlier phase"
        if run.standing == "unsampled":
            gate = gate_of(board, scope, line.recorded_us)
            return gate.hindrance if gate.hindrance == "breaker_open" else None
        return None

    def _leave_out(self, line: Line, started: AttemptStarted, because: str) -> None:
        self._left_out[started.attempt_id] = NotMade(
            pos=line.pos,
            attempt_id=started.attempt_id,
            run_id=started.run_id,
            phase_id=started.phase_id,
            because=because,
            ending=None,
            yield_events=0,
            tokens=0,
            duration_ms=0,
        )
        if because == "breaker_open":
            self._horizon(started.run_id, line.pos, "when its sample would have been made")

    def _finished(self, line: Line, rest: Sequence[Line]) -> None:
        finished = line.event
        assert isinstance(finished, AttemptFinished)
        left_out = self._left_out.pop(finished.attempt_id, None)
        recorded = [said(each.event) for each in rest if _is_decision(each.event)] if rest else []
        if left_out is not None:
            self._not_made.append(
                replace(
                    left_out,
                    ending=finished.ending,
                    yield_events=finished.yield_events,
                    tokens=finished.tokens,
                    duration_ms=finished.duration_ms,
                )
            )
            return
        scope = self._scopes[finished.session_id]
        facts = self._facts(finished, [each.event for each in rest], scope)
        decided = list(decisions(self._board, facts, self._ground(scope, line)))
        instead = [said(event) for event in decided]
        if recorded != instead:
            self._differing.append(
                Differing(
                    pos=line.pos,
                    attempt_id=finished.attempt_id,
                    run_id=finished.run_id,
                    recorded=tuple(recorded),
                    instead=tuple(instead),
                )
            )
        self._feed(facts.finished, line)
        if facts.fingerprinted is not None:
            self._feed(facts.fingerprinted, line)
        for event in [
            *facts.boundaries,
            *([facts.zero_yield] if facts.zero_yield else []),
            *decided,
        ]:
            self._feed(event, line)

    def _facts(self, finished: AttemptFinished, events: list[AnyEvent], scope: Scope) -> Facts:
        """What the other policy would have read of an end: the recorded diagnosis, or its own."""
        finished = self._as_ended(finished)
        if self._same_eyes.get(finished.session_id, False):
            facts = Facts.recorded(finished, events)
        else:
            facts = self._seen_anew(finished, events, scope)
        if facts.fingerprinted is None:
            return facts
        return facts._replace(fingerprinted=counted(self._board, facts, facts.fingerprinted))

    def _as_ended(self, finished: AttemptFinished) -> AttemptFinished:
        """The end as the other policy names it: exit codes may count as timeouts or not."""
        told = finished.told
        if told is None or told.ended != "exited" or finished.ending not in ("failed", "timed_out"):
            return finished
        code = finished.exit_code if finished.signal is None else -finished.signal
        ending = "timed_out" if code in self._policy.timeout_exit_codes else "failed"
        return finished if ending == finished.ending else replace(finished, ending=ending)

    def _seen_anew(self, finished: AttemptFinished, events: list[AnyEvent], scope: Scope) -> Facts:
        streams = self._outputs.of(finished)
        if finished.told is None or streams is None:
            self._notes.add("some output is gone: there the recorded diagnosis was taken")
            return Facts.recorded(finished, events)
        detectors = DETECTORS[scope.policy.detectors]
        timeouts = scope.policy.timeout_fingerprints
        found = diagnosis_of(finished, streams, detectors, timeouts)
        return Facts(finished, found.fingerprinted, found.boundaries, found.zero_yield)


def walked(
    commands: Iterable[Sequence[Line]],
    policy: Policy,
    read_output: ReadOutput,
) -> WhatIf:
    """What ``policy`` would have come to over a recorded log."""
    walk = Walk(policy, read_output)
    for lines in commands:
        walk.take(lines)
    return walk.result()


def _same_eyes(one: Policy, other: Policy) -> bool:
    names = ("detectors", "timeout_fingerprints", "timeout_exit_codes")
    return all(getattr(one, name) == getattr(other, name) for name in names)


def _is_decision(event: AnyEvent) -> bool:
    return getattr(event, "reason", None) is not None and not isinstance(event, _DIAGNOSES)
