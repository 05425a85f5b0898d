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

from engine.audit.lines import Line
from engine.audit.outputs import ReadOutput
from engine.audit.whatif_eyes import Eyes
from engine.audit.whatif_found import Found
from engine.audit.whatif_order import (
    SessionOrder,
    carriers,
    is_out_of_turn,
    is_over_runs,
    rests_on_order,
)
from engine.audit.whatif_result import WhatIf, said
from engine.audit.whatif_sessions import ANOTHER_ORDER, Sessions
from engine.audit.whatif_world import World
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
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from engine.triage.select import gate_of, group_of
from projections.fold import join

DELAYS = ("sample_in_flight", "run_is_full")
"""Hindrances that change only when an attempt is made."""

_DIAGNOSES = (FailureFingerprinted, BoundaryDetected, ZeroYieldExplained)


class Walk:
    """One walk over a log under another policy."""

    def __init__(self, policy: Policy, read_output: ReadOutput) -> None:
        self._found = Found()
        self._eyes = Eyes(policy, read_output, self._found.notes)
        self._world = World(policy, self._found)
        self._board = self._world.board
        sessions = Sessions(self._world)
        self._by_kind: dict[type[Any], Callable[[Line], None]] = {
            AttemptStarted: self._started,
            SessionStarted: sessions.begun,
            SessionResumed: sessions.begun,
            PolicyAdopted: self._adopted,
            SessionDraining: sessions.draining,
            SessionEnded: sessions.ended,
            RunReinstated: self._reinstated,
            BreakerReset: self._reset,
            PhaseRegistered: self._registered,
            PhaseRequeued: self._requeued,
        }

    def take(self, lines: Sequence[Line]) -> None:
        """One command's events; decisions among them are taken anew, not believed."""
        self._take(lines)
        self._world.last_us = lines[-1].recorded_us

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
                self._world.feed(line.event, line)

    def result(self) -> WhatIf:
        """What it came to."""
        return self._found.result(self._world.policy)

    def _adopted(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, PolicyAdopted)
        if self._eyes.adopted(event):
            self._world.picked_alike.add(event.session_id)
        else:
            self._world.picked_alike.discard(event.session_id)
        self._world.feed(event, line)

    def _reinstated(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, RunReinstated)
        if self._board.runs.states[event.run_id].standing != "unsampled":
            self._world.feed(event, line)

    def _reset(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, BreakerReset)
        breaker = self._board.breakers.get(event.fingerprint)
        if breaker is not None and breaker.opened_pos is not None:
            self._world.feed(event, line)

    def _registered(self, line: Line) -> None:
        self._eyes.recorded(line.event)
        self._world.feed(line.event, line)

    def _requeued(self, line: Line) -> None:
        event = line.event
        assert isinstance(event, PhaseRequeued)
        self._eyes.recorded(event)
        if self._board.backlog.states[join(event.run_id, event.phase_id)].open_attempt is None:
            self._world.feed(event, line)

    def _started(self, line: Line) -> None:
        started = line.event
        assert isinstance(started, AttemptStarted)
        self._found.attempts += 1
        scope = self._world.scopes[started.session_id]
        session = self._board.sessions.states[started.session_id]
        order = self._world.order_of(scope)
        self._hasten(order, started, line)
        # No limit stood in the way of a recorded start, and the other policy spends no more.
        if session.status == "running":
            self._world.cool_down(scope, line)
        run = self._board.runs.states[started.run_id]
        if order is None and is_cool(run, scope, line.recorded_us):
            self._world.feed(cooled_down(run, self._world.ground(scope, line)), line)
        because = self._hindrance(started, scope, line)
        if order is not None and self._world.is_running(scope):
            order.hold(line.pos, line.recorded_us, None if because is not None else started)
        if because is not None:
            self._found.leave_out(line.pos, started, because)
            self._world.off_time.add(started.session_id)
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
        self._world.feed(made, line)

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

    def _hasten(self, order: SessionOrder | None, started: AttemptStarted, line: Line) -> None:
        """Take notice of a start that waited for time alone, and would not have for so long."""
        if order is None or not self._world.is_idle(self._world.scopes[started.session_id], line):
            return
        if order.was_due(line.recorded_us):
            order.hasten(started.run_id, line.pos)
            self._world.off_time.add(started.session_id)

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
        if self._world.orders[started.run_id].waits(started.phase_id):
            return "waits for an earlier phase"
        if run.standing == "unsampled":
            gate = gate_of(board, scope, line.recorded_us)
            return gate.hindrance if gate.hindrance == "breaker_open" else None
        return None

    def _finished(self, line: Line, rest: Sequence[Line]) -> None:
        finished = line.event
        assert isinstance(finished, AttemptFinished)
        scope = self._world.scopes[finished.session_id]
        order = self._world.order_of(scope)
        if order is not None and self._world.is_idle(scope, line):
            self._world.cool_down(scope, line)
            order.hold(line.pos, line.recorded_us, None)
        if self._found.is_left_out(finished):
            return
        demotes = self._eyes.stops_otherwise(finished.session_id)
        decided_then = [each.event for each in rest if _is_decision(each.event)]
        recorded = [said(event, tells_demotion=demotes) for event in decided_then]
        facts = self._eyes.facts(self._board, finished, [each.event for each in rest])
        decided = list(decisions(self._board, facts, self._world.ground(scope, line)))
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
        self._world.feed(facts.finished, line)
        if facts.fingerprinted is not None:
            self._world.feed(facts.fingerprinted, line)
        # No rule reads the limits and the silences themselves, only what was decided from them.
        for event in decided:
            self._world.feed(event, line)


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
