"""What if: another policy over the recorded outcomes, as far as the record can tell.

The log is walked once, on a board of its own.  An attempt that the other policy would not have
made is left out, with all that followed from it; every other one is taken to end as it did, and the
other policy decides from there.  What it would have attempted beyond the record has no outcome:
there the horizon of that run lies, and it is named instead of guessed.

Two things are assumed and said: an attempt ends the same whenever it is made, and a delay (a slow
start, a pause, a full run) changes only when, but for what rests on other runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from engine.amounts import counted
from engine.audit.lines import Line
from engine.audit.outputs import ReadOutput
from engine.audit.whatif_eyes import Eyes
from engine.audit.whatif_found import Found
from engine.audit.whatif_order import (
    IDLE_US,
    SessionOrder,
    carriers,
    is_out_of_turn,
    is_over_runs,
    rests_on_order,
)
from engine.audit.whatif_result import WhatIf, said
from engine.errors import LogUnreadable
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    BreakerReset,
    FailureFingerprinted,
    PhaseRegistered,
    PhaseRequeued,
    PolicyAdopted,
    RunReinstated,
    RunStopped,
    SessionDraining,
    SessionEnded,
    SessionResumed,
    SessionStarted,
    ZeroYieldExplained,
)
from engine.triage.cooling import cooled_down, is_cool
from engine.triage.decide import Facts, decisions
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.ordering import RunOrder
from engine.triage.picking import limit_reached
from engine.triage.policy import Policy
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
    "paused",
    "window_closed",
)
"""Stops that come under any policy: a person, the disk or time said so."""

ANOTHER_ORDER = "what came before had another order"
BEFORE_THE_STOP = "it may have come before the session stopped"
_DIAGNOSES = (FailureFingerprinted, BoundaryDetected, ZeroYieldExplained)


class Walk:
    """One walk over a log under another policy."""

    def __init__(self, policy: Policy, read_output: ReadOutput) -> None:
        self._policy = policy
        self._found = Found()
        self._eyes = Eyes(policy, read_output, self._found.notes)
        self._board = Board(reports=False)
        self._orders: dict[str, RunOrder] = {}
        self._picked_alike: set[str] = set()
        self._sessions: dict[str, SessionOrder] = {}
        self._scopes: dict[str, Scope] = {}
        self._off_time: set[str] = set()
        self._left_behind: dict[str, list[str]] = {}
        self._last_us = 0
        self._by_kind: dict[type[Any], Callable[[Line], None]] = {
            AttemptStarted: self._started,
            SessionStarted: self._begun,
            SessionResumed: self._begun,
            PolicyAdopted: self._adopted,
            SessionDraining: self._draining,
            SessionEnded: self._ended,
            RunReinstated: self._reinstated,
            BreakerReset: self._reset,
            PhaseRegistered: self._registered,
            PhaseRequeued: self._requeued,
        }

    def take(self, lines: Sequence[Line]) -> None:
        """One command's events; decisions among them are taken anew, not believed."""
        self._take(lines)
        self._last_us = lines[-1].recorded_us

    def _take(self, lines: Sequence[Line]) -> None:
        for number, line in enumerate(lines):
            kind = type(line.event)
            if kind is AttemptFinished:
                rest = lines[number + 1 :]
                self._finished(line, rest)
                self._eyes.recorded(line.event, [each.event for each in rest])
                return
            if kind in self._by_kind:
                self._by_kind[kind](line)
            elif getattr(line.event, "reason", None) is None:
                self._feed(line.event, line)

    def result(self) -> WhatIf:
        """What it came to."""
        return self._found.result(self._policy)

    def _feed(self, event: AnyEvent, line: Line) -> None:
        board = self._board
        board.fold_next(event, line.recorded_us)
        for session in self._sessions.values():
            session.take(event)
        if isinstance(event, OF_A_PHASE):
            order = self._orders.get(event.run_id)
            if order is None:
                order = self._orders[event.run_id] = RunOrder(self._policy)
            order.update(board.backlog.states[join(event.run_id, event.phase_id)])

    def _ground(self, scope: Scope, line: Line) -> Ground:
        return Ground(scope, self._board.head.pos, line.recorded_us)

    def _adopted(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, PolicyAdopted)
        if self._eyes.adopted(event):
            self._picked_alike.add(event.session_id)
        else:
            self._picked_alike.discard(event.session_id)
        self._feed(event, line)

    def _begun(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, SessionStarted | SessionResumed)
        scope = Scope(event.session_id, self._policy, event.limits)
        self._scopes[event.session_id] = scope
        self._feed(event, line)
        order = self._sessions.get(event.session_id)
        if order is not None:
            order.renew(scope)

    def _order_of(self, scope: Scope) -> SessionOrder | None:
        """The order of a session under the other policy; None while it is the recorded one."""
        order = self._sessions.get(scope.session_id)
        if order is not None or scope.is_named_phase:
            return order
        if self._found.has_diverged or scope.session_id not in self._picked_alike:
            order = self._sessions[scope.session_id] = SessionOrder(self._board, scope)
        return order

    def _draining(self, line: Line) -> None:
        """What came from outside still came; what the other policy decides is its own."""
        event = line.event
        assert isinstance(event, SessionDraining)
        session = self._board.sessions.states[event.session_id]
        if session.status != "running":
            return
        scope = self._scopes[event.session_id]
        if event.because in FROM_OUTSIDE:
            order = self._order_of(scope)
            if order is not None and self._is_idle(scope, line):
                order.hold(line.pos, line.recorded_us, None)
            self._feed(event, line)
            if self._is_off_time(scope):
                self._cut_off(scope, line)
        elif not self._has_reached_a_limit(scope, line) and event.because == "batch_size":
            room = counted(scope.limits.batch_size - session.attempts, "attempt")
            self._goes_on(scope, line, f"the session would have had {room} more")

    def _cut_off(self, scope: Scope, line: Line) -> None:
        """Keep in mind what more the session may have come to before it was stopped."""
        ready = self._ready_runs(scope, line)
        busy = [run_id for run_id in ready if self._board.runs.states[run_id].open]
        self._found.horizons(dict.fromkeys(busy, line.pos), BEFORE_THE_STOP)
        self._left_behind[scope.session_id] = ready

    def _has_reached_a_limit(self, scope: Scope, line: Line) -> bool:
        """Whether the session has stopped by a limit of its own, which is then on the board."""
        limits, session = scope.limits, self._board.sessions.states[scope.session_id]
        if not limits.total_ms_max and not limits.budgets and session.attempts < limits.batch_size:
            return False
        reached = limit_reached(self._board, self._ground(scope, line))
        if reached is not None:
            self._feed(reached, line)
            if reached.because == "total_time" and self._is_off_time(scope):
                self._cut_off(scope, line)
        return reached is not None

    def _ended(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, SessionEnded)
        scope = self._scopes[event.session_id]
        order = self._order_of(scope)
        if self._is_off_time(scope):
            self._off_time.add(scope.session_id)
        if order is not None:
            self._settle(order, scope, line, is_bounded=self._may_be_cut_short(scope))
        left_behind = self._left_behind.pop(event.session_id, [])
        self._found.horizons(dict.fromkeys(left_behind, line.pos), BEFORE_THE_STOP)
        if self._is_running(scope):
            self._cool_down(scope, line)
            self._goes_on(scope, line, "its next phase would have been attempted")
        if order is not None and order.goes_side_by_side and self._found.has_horizons:
            self._found.horizons(order.failed, ANOTHER_ORDER)
        self._feed(event, line)
        self._sessions.pop(event.session_id, None)

    def _may_be_cut_short(self, scope: Scope) -> bool:
        """Whether a bound leaves something undone that the other policy would go on with."""
        if not self._is_running(scope):
            return True
        limits, most = scope.limits, scope.policy.attempts_per_phase_max
        if most is None or limits.total_ms_max or limits.budgets:
            return True
        left = sum(
            max(0, most - phase.attempts)
            for phase in self._board.backlog.values()
            if phase.state in scope.policy.drains
        )
        return self._board.sessions.states[scope.session_id].attempts + left > limits.batch_size

    def _is_off_time(self, scope: Scope) -> bool:
        """Whether the other policy's session would have come further, or less far, by now."""
        order = self._order_of(scope)
        return scope.session_id in self._off_time or (order is not None and order.has_moved)

    def _is_timed(self, scope: Scope) -> bool:
        """Whether it is up to time what a session still comes to."""
        session = self._board.sessions.states[scope.session_id]
        return scope.limits.total_ms_max is not None or session.because in FROM_OUTSIDE

    def _settle(self, order: SessionOrder, scope: Scope, line: Line, *, is_bounded: bool) -> None:
        """Name what another order leaves unknown at the end of its session.

        When the same attempts were made in the end, and nothing is left, only the order differs.
        """
        for run_id, pos in order.ahead.values():
            self._found.horizon(run_id, pos, "another phase would have been attempted first")
        is_open_ended = order.ahead or self._ready_runs(scope, line) or self._is_timed(scope)
        if order.shifted and is_bounded and is_open_ended:
            self._found.horizons(order.shifted, "another one would have come in its place")
            self._goes_on(scope, line, BEFORE_THE_STOP)
        elif order.ahead and is_bounded:
            self._goes_on(scope, line, BEFORE_THE_STOP)
        if order.shifted and is_bounded and self._is_timed(scope):
            self._found.horizons(order.touched, "it may have come too late")

    def _cool_down(self, scope: Scope, line: Line) -> None:
        """Begin new generations of the runs that the other policy would sample again by now."""
        order = self._order_of(scope)
        while order is not None and (run := order.cool(line.recorded_us)) is not None:
            self._feed(cooled_down(run, self._ground(scope, line)), line)

    def _goes_on(self, scope: Scope, line: Line, why: str) -> None:
        """Name the runs that the other policy would have gone on with here."""
        order = self._order_of(scope)
        for run_id in self._ready_runs(scope, line):
            is_misplaced = order is not None and run_id in order.misplaced
            since = order.shifted[run_id] if order is not None and is_misplaced else line.pos
            self._found.horizon(run_id, since, why)

    def _ready_runs(self, scope: Scope, line: Line) -> list[str]:
        """The runs of which the other policy would attempt a phase, were the session to go on."""
        if scope.is_named_phase:
            return []
        is_held = gate_of(self._board, scope, line.recorded_us).hindrance == "breaker_open"
        return [
            run.run_id
            for run in self._board.runs.values()
            if run_hindrance(run, scope) is None
            and not (is_held and run.standing == "unsampled")
            and self._has_ready(run.run_id, scope)
        ]

    def _has_ready(self, run_id: str, scope: Scope) -> bool:
        order = self._orders.get(run_id)
        return order is not None and any(
            phase_hindrance(phase, scope) is None and not order.waits(phase_id)
            for phase_id, phase in order.phases.items()
        )

    def _reinstated(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, RunReinstated)
        if self._board.runs.states[event.run_id].standing != "unsampled":
            self._feed(event, line)

    def _reset(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, BreakerReset)
        breaker = self._board.breakers.get(event.fingerprint)
        if breaker is not None and breaker.opened_pos is not None:
            self._feed(event, line)

    def _registered(self, line: Line) -> None:
        self._eyes.recorded(line.event)
        self._feed(line.event, line)

    def _requeued(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, PhaseRequeued)
        self._eyes.recorded(event)
        if self._board.backlog.states[join(event.run_id, event.phase_id)].open_attempt is None:
            self._feed(event, line)

    def _started(self, line: Line) -> None:
        started = line.event
        assert isinstance(started, AttemptStarted)
        self._found.attempts += 1
        scope = self._scopes[started.session_id]
        session, order = self._board.sessions.states[started.session_id], self._order_of(scope)
        self._hasten(order, started, line)
        # No limit stood in the way of a recorded start, and the other policy spends no more.
        if session.status == "running":
            self._cool_down(scope, line)
        run = self._board.runs.states[started.run_id]
        if order is None and is_cool(run, scope, line.recorded_us):
            self._feed(cooled_down(run, self._ground(scope, line)), line)
        because = self._hindrance(started, scope, line)
        if order is not None and self._is_running(scope):
            order.hold(line.pos, line.recorded_us, None if because is not None else started)
        if because is not None:
            self._found.leave_out(line.pos, started, because)
            self._off_time.add(started.session_id)
            if because == "breaker_open":
                unknown = "when its sample would have been made"
                self._found.horizon(started.run_id, line.pos, unknown)
            return
        if order is not None:
            order.made(started)
            order.touch(started.run_id, line.pos)
        self._made(started, scope, line)

    def _made(self, started: AttemptStarted, scope: Scope, line: Line) -> None:
        """Start what the other policy starts too, as it would."""
        run = self._board.runs.states[started.run_id]
        phase = self._board.backlog.states[join(started.run_id, started.phase_id)]
        group = started.group if scope.is_named_phase else group_of(run.standing)
        probe_of = None
        if group == "unsampled":
            probe_of = gate_of(self._board, scope, line.recorded_us).probe_of
        if probe_of is not None and probe_of != started.probe_of:
            self._found.notes.add("probes: the next recorded sample is taken for each of them")
        made = replace(
            started,
            number=phase.number + 1,
            initial_state=phase.state,
            group=group,
            probe_of=probe_of,
        )
        if made.number != started.number:
            self._found.renumbered(line.pos, started, made.number)
        self._feed(made, line)

    def _rests(
        self, order: SessionOrder, line: Line, facts: Facts, decided: Sequence[AnyEvent]
    ) -> None:
        """Name what is unknown where a decision rests on what other runs did before it.

        What was attempted of a run before it was stopped may have come too late in another order,
        and what failed alike before may have come behind.
        """
        run_id = facts.finished.run_id
        is_stopped = any(isinstance(event, RunStopped) for event in decided)
        is_late = is_stopped or is_out_of_turn(order, decided)
        beside = order.beside
        moved_pos = order.shifted.get(run_id, beside.get(run_id, line.pos))
        self._found.horizon(run_id, moved_pos if is_late else line.pos, ANOTHER_ORDER)
        moved = order.untold_of(lambda: carriers(self._board, facts))
        self._found.horizons(moved, ANOTHER_ORDER)
        if is_over_runs(decided):
            self._found.horizons(order.untold_beside(), ANOTHER_ORDER)
        for other in order.shifted_since():
            self._found.horizon(other, line.pos, ANOTHER_ORDER)
        for ahead, pos in order.ahead.values() if is_over_runs(decided) else ():
            self._found.horizon(ahead, pos, "another phase would have been attempted first")

    def _is_running(self, scope: Scope) -> bool:
        return self._board.sessions.states[scope.session_id].status == "running"

    def _is_idle(self, scope: Scope, line: Line) -> bool:
        """Whether a worker of the session had nothing to do until now."""
        session = self._board.sessions.states[scope.session_id]
        waited_us = line.recorded_us - self._last_us
        is_free = session.open < scope.limits.workers
        return is_free and session.status == "running" and waited_us >= IDLE_US

    def _hasten(self, order: SessionOrder | None, started: AttemptStarted, line: Line) -> None:
        """Take notice of a start that waited for time alone, and would not have for so long."""
        if order is None or not self._is_idle(self._scopes[started.session_id], line):
            return
        if order.was_due(line.recorded_us):
            order.hasten(started.run_id, line.pos)
            self._off_time.add(started.session_id)

    def _hindrance(self, started: AttemptStarted, scope: Scope, line: Line) -> str | None:
        """What would have kept the other policy from this attempt, None for nothing."""
        board = self._board
        session = board.sessions.states[started.session_id]
        if session.status != "running":
            return f"the session had stopped ({session.because})"
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

    def _finished(self, line: Line, rest: Sequence[Line]) -> None:
        finished = line.event
        assert isinstance(finished, AttemptFinished)
        scope = self._scopes[finished.session_id]
        order = self._order_of(scope)
        if order is not None and self._is_idle(scope, line):
            self._cool_down(scope, line)
            order.hold(line.pos, line.recorded_us, None)
        if self._found.is_left_out(finished):
            return
        demotes = self._eyes.stops_otherwise(finished.session_id)
        decided_then = [each.event for each in rest if _is_decision(each.event)]
        recorded = [said(event, tells_demotion=demotes) for event in decided_then]
        facts = self._eyes.facts(self._board, finished, [each.event for each in rest])
        decided = list(decisions(self._board, facts, self._ground(scope, line)))
        instead = [said(event, tells_demotion=demotes) for event in decided]
        if recorded != instead:
            self._found.differs(line.pos, finished, recorded, instead)
        if order is not None and order.shifted:
            order.touch(finished.run_id, line.pos)
            rests = rests_on_order(self._board, facts, decided, scope)
            if rests or is_out_of_turn(order, decided):
                self._rests(order, line, facts, decided)
            elif facts.fingerprinted is not None:
                order.failed.setdefault(finished.run_id, line.pos)
        self._feed(facts.finished, line)
        if facts.fingerprinted is not None:
            self._feed(facts.fingerprinted, line)
        # No rule reads the limits and the silences themselves, only what was decided from them.
        for event in decided:
            self._feed(event, line)


def walked(
    commands: Iterable[Sequence[Line]],
    policy: Policy,
    read_output: ReadOutput,
) -> WhatIf:
    """What ``policy`` would have come to over a recorded log.

    Raises LogUnreadable where an event names what none before it has made known.
    """
    walk = Walk(policy, read_output)
    for lines in commands:
        try:
            walk.take(lines)
        except (KeyError, AssertionError) as error:
            raise LogUnreadable(
                f"the log contradicts itself at position {lines[0].pos}: {error!a:.200} is unknown"
                " there.",
                remedy="`runoff verify` and `runoff audit` say what is wrong with it.",
            ) from error
    return walk.result()


def _is_decision(event: AnyEvent) -> bool:
    return getattr(event, "reason", None) is not None and not isinstance(event, _DIAGNOSES)
