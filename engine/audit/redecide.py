"""Re-decide: every decision of a log taken again from its prefix, and held against the record.

Pure but for what it is given to read output with.  The board is built from nothing, event by event,
exactly as the writer built it; at each decision the rules of its recorded version are asked again,
and what they say is compared with the stored bytes.  A decision is judged by the record before it,
not by what should have stood there, so one wrong decision is one difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from engine.audit.compared import Difference, Expected, Recorded, compared, out_of_place, without
from engine.audit.diagnoses import NOTHING_TO_SAY, Diagnoses, TakeAhead
from engine.audit.known_rules import unknown_in
from engine.audit.lines import Line
from engine.audit.outputs import ReadOutput
from engine.audit.session_ends import Between, causes
from engine.detect import DETECTORS, RULE_SETS
from engine.detect.reclassification import Asked, last_said, reclassified
from engine.errors import LogUnreadable
from engine.events import (
    GENESIS,
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    BudgetReached,
    FailureFingerprinted,
    Head,
    PolicyAdopted,
    Reclassified,
    RunCooledDown,
    Seen,
    SessionDraining,
    SessionEnded,
    SessionPartLost,
    SessionResumed,
    SessionStarted,
    ZeroYieldExplained,
    event_type,
)
from engine.triage.beginning import taken_over
from engine.triage.decide import Facts, counted, decisions
from engine.triage.ending import ended, held_by_budgets
from engine.triage.picking import Picker, draining, picks
from engine.triage.reasons import Ground
from engine.triage.scope import Scope, scope_of
from engine.triage.select import Queue
from projections.board import Board

ReadAttempt = Callable[[str, int], list[AnyEvent]]
"""Reads the end of an attempt and what was said of it before a position, in order."""

OPERATOR_STOPS = ("interrupted", "storage", "paused", "window_closed")
"""Stops that no rule decides: a person, the disk, or the clock on the wall said so."""
AT_THE_END = "run_budgets"
"""The stop that is decided when a session has found nothing more to start."""

_DIAGNOSES = (FailureFingerprinted, BoundaryDetected, ZeroYieldExplained)
_FOLLOWING = (*_DIAGNOSES, SessionPartLost)
"""What follows from facts without a rule's reason."""


class Unverifiable(NamedTuple):
    """A decision that cannot be taken again here, and why."""

    pos: int
    what: str
    why: str


class Redecision:
    """Feed it a log, command by command; then read what it found.

    ``decided`` counts what was taken again, by kind.  ``board`` stands at the last command.
    """

    def __init__(
        self,
        read_output: ReadOutput,
        read_attempt: ReadAttempt | None = None,
        ahead: TakeAhead | None = None,
    ) -> None:
        self.board = Board()
        self.differences: list[Difference] = []
        self.unverifiable: list[Unverifiable] = []
        self.decided: dict[str, int] = {}
        self._diagnoses = Diagnoses(read_output, ahead)
        self._read_attempt = read_attempt
        self._scopes: dict[str, Scope | None] = {}
        self._queues: dict[str, Queue] = {}
        self._unheeded: list[AnyEvent] = []
        self._fed_us = 0

    def take(self, lines: Sequence[Line]) -> None:
        """One command's events, or those of them that folds and rules can see."""
        kinds: set[type[AnyEvent]] = {type(line.event) for line in lines}
        if AttemptFinished in kinds:
            self._end_of_attempt(lines)
        elif SessionStarted in kinds or SessionResumed in kinds:
            self._begin(lines)
        elif kinds & {AttemptStarted, RunCooledDown} or self._is_limit(lines):
            self._picks(lines)
        elif Reclassified in kinds:
            self._reclassifications(lines)
        elif SessionEnded in kinds or SessionDraining in kinds:
            self._session_stops(lines)
        else:
            self._facts(lines)

    def _facts(self, lines: Sequence[Line]) -> None:
        """What nobody decides; a decision among it follows from nothing."""
        for line in lines:
            is_reasoned = getattr(line.event, "reason", None) is not None
            if is_reasoned or isinstance(line.event, _FOLLOWING):
                self._differs(Expected(None, None), line)
            self._feed(line)

    def _is_limit(self, lines: Sequence[Line]) -> bool:
        event = lines[0].event
        not_picked = (*OPERATOR_STOPS, AT_THE_END)
        return isinstance(event, SessionDraining) and event.because not in not_picked

    def _feed(self, line: Line) -> None:
        self.board.head = Head(line.pos, GENESIS)
        self.board.feed(Seen(line.pos, line.recorded_us, line.event))
        self._fed_us = line.recorded_us
        if self._queues:
            self._unheeded.append(line.event)

    def _heed(self) -> None:
        """Tell the queues what has changed since they were last asked: most ends come in rows."""
        for queue in self._queues.values():
            queue.heed_all(self._unheeded)
        self._unheeded.clear()

    def _scope(self, session_id: str) -> Scope | None:
        """The scope of a session as last begun; None when its policy cannot be read here."""
        if session_id not in self._scopes:
            session = self.board.sessions.get(session_id)
            found: Scope | None = None
            if session is not None and session.limits is not None:
                with suppress(LogUnreadable):
                    read = scope_of(session)
                    if read.policy.detectors in DETECTORS:
                        found = read
            self._scopes[session_id] = found
        return self._scopes[session_id]

    def _queue_of(self, scope: Scope) -> Queue:
        queue = self._queues.get(scope.session_id)
        if queue is None:
            queue = self._queues[scope.session_id] = Queue(self.board, scope)
        return queue

    def _begin(self, lines: Sequence[Line]) -> None:
        facts = [e for e in lines if isinstance(e.event, PolicyAdopted | SessionStarted)]
        facts += [line for line in lines if isinstance(line.event, SessionResumed)]
        for line in facts:
            self._feed(line)
        begun = facts[-1].event
        assert isinstance(begun, SessionStarted | SessionResumed | PolicyAdopted)
        self._scopes.pop(begun.session_id, None)
        # In a shared log several sessions go on side by side; elsewhere a new one is alone.
        self._queues = {
            name: queue
            for name, queue in self._queues.items()
            if name != begun.session_id and self.board.sessions.states[name].leased_by is not None
        }
        scope = self._scope(begun.session_id)
        rest = [line for line in lines if line not in facts]
        if scope is None:
            self._skip(rest, "its policy or rules are unknown here")
            return
        ground = Ground(scope, facts[-1].pos, facts[-1].recorded_us)
        expected = [Expected(event, None) for event in taken_over(self.board, ground)]
        self._compare(expected, rest, facts[-1].pos)
        for line in rest:
            self._feed(line)

    def _picks(self, lines: Sequence[Line]) -> None:
        """Starts in turn, each compared before it is folded, as the writer chose them."""
        session_id = str(getattr(lines[0].event, "session_id", ""))
        scope = self._scope(session_id)
        if scope is None:
            self._skip(lines, "its session, policy or rules are unknown here")
            return
        recorded: list[Line] = []
        picker = Picker(
            self.board,
            self._queue_of(scope),
            scope,
            lines[0].recorded_us,
            lambda: str(getattr(recorded[-1].event, "attempt_id", "")),
        )
        following = picks(picker, len(lines))
        for line in lines:
            recorded.append(line)
            # Rows that no rule reads may stand between what was folded last and this one.
            self.board.head = Head(line.pos - 1, GENESIS)
            self._heed()
            event = next(following, None)
            self._compare([Expected(event, None)] if event else [], [line], line.pos)
            self._feed(line)
        self._heed()
        due = next(following, None)
        if isinstance(due, BudgetReached):
            self._compare([Expected(due, None)], [], lines[-1].pos)

    def _session_stops(self, lines: Sequence[Line]) -> None:
        """The end of a session, or a person's word that it start nothing more."""
        for line in lines:
            event = line.event
            expected: AnyEvent | None = None
            scope = self._scope(str(getattr(event, "session_id", "")))
            if scope is None:
                self._skip([line], "its session, policy or rules are unknown here")
                continue
            ground = Ground(scope, line.pos - 1, line.recorded_us)
            if isinstance(event, SessionEnded):
                due = held_by_budgets(self.board, ground)
                if due is not None and event.because in ("nothing_eligible", AT_THE_END):
                    self._compare([Expected(due, None)], [], line.pos)
                expected = self._end_of_session(event, line, scope)
            elif isinstance(event, SessionDraining) and event.because == AT_THE_END:
                expected = held_by_budgets(self.board, ground)
            elif isinstance(event, SessionDraining):
                expected = draining(event.because, event.reason.sentence, {}, ground)
            self._compare([Expected(expected, None)] if expected else [], [line], line.pos)
            self._feed(line)

    def _end_of_session(self, event: SessionEnded, line: Line, scope: Scope) -> AnyEvent | None:
        """What is due instead of ``event``: itself, if all of it is right."""
        self._heed()
        when = Between(self._fed_us, line.recorded_us)
        possible = causes(self.board, self._queue_of(scope), scope, when)
        if not possible:
            return None
        because = event.because if event.because in possible else min(possible)
        return ended(self.board, scope, because, line.recorded_us)

    def _end_of_attempt(self, lines: Sequence[Line]) -> None:
        at = next(n for n, line in enumerate(lines) if isinstance(line.event, AttemptFinished))
        end, rest = lines[at], lines[at + 1 :]
        self._facts(lines[:at])
        finished = end.event
        assert isinstance(finished, AttemptFinished)
        scope = self._scope(finished.session_id)
        if scope is None:
            self._skip([end, *rest], "its session, policy or rules are unknown here")
            return
        known = len(self.differences)
        diagnoses = [line for line in rest if isinstance(line.event, _DIAGNOSES)]
        self._diagnosis(end, finished, diagnoses, scope)
        ground = Ground(scope, end.pos - 1, end.recorded_us)
        found = [line.event for line in diagnoses]
        facts = Facts.recorded(finished, found) if found else Facts(finished)
        expected = [Expected(event, end.pos) for event in decisions(self.board, facts, ground)]
        others = [line for line in rest if not isinstance(line.event, _DIAGNOSES)]
        self._compare(expected, others, end.pos)
        if len(self.differences) == known:
            self.differences += out_of_place(_recorded([*diagnoses, *others]), _recorded(rest))
        self._feed(end)
        for line in rest:
            self._feed(line)

    def _diagnosis(
        self, end: Line, finished: AttemptFinished, lines: Sequence[Line], scope: Scope
    ) -> None:
        found = self._diagnoses.of(end.pos, finished, scope.policy)
        if isinstance(found, str):
            for line in lines or [end]:
                self.unverifiable.append(Unverifiable(line.pos, _kind(line.event), found))
            return
        if found.error != finished.error:
            told = msgspec.structs.replace(finished, error=found.error)
            self._differs(Expected(told, end.cause), end)
        if found is NOTHING_TO_SAY and not lines:
            return
        events: list[AnyEvent] = []
        if found.fingerprinted is not None:
            facts = Facts(finished, found.fingerprinted)
            events.append(counted(self.board, facts, found.fingerprinted))
        events += [*found.boundaries, *([found.zero_yield] if found.zero_yield else [])]
        self._compare([Expected(event, end.pos) for event in events], lines, end.pos)

    def _reclassifications(self, lines: Sequence[Line]) -> None:
        """What a rule set said of one attempt after the fact, asked again."""
        first = lines[0]
        assert isinstance(first.event, Reclassified)
        expected = self._said_again(first.event, first.pos)
        if isinstance(expected, str):
            self._skip(lines, expected)
            return
        self._compare([Expected(e, first.cause) for e in expected], lines, first.pos)
        for line in lines:
            self._feed(line)

    def _said_again(self, event: Reclassified, pos: int) -> list[Reclassified] | str:
        rules = RULE_SETS.get(event.detector)
        if rules is None:
            return f"the rule set {event.detector} is unknown here"
        events = self._read_attempt(event.attempt_id, pos) if self._read_attempt else []
        finished = next((e for e in events if isinstance(e, AttemptFinished)), None)
        streams = None if finished is None else self._diagnoses.outputs.of(finished)
        if finished is None or finished.told is None or streams is None:
            return "what the rule set read is gone"
        asked = Asked(rules, event.timeouts, event.by, event.why)
        return list(reclassified(finished, streams, last_said(events), asked))

    def _compare(self, expected: Sequence[Expected], lines: Sequence[Line], pos: int) -> None:
        if not expected and not lines:
            return
        known = [line for line in lines if self._can_be_taken_again(line)]
        if len(known) < len(lines):
            odd = [line for line in lines if line not in known]
            expected = without(expected, [Expected(line.event, line.cause) for line in odd])
        otherwise: set[int] = set()
        for number, line in enumerate(known):
            due = expected[number] if number < len(expected) else None
            if due is None or not due.is_stored_as(line.event, line.data, line.cause):
                otherwise.add(line.pos)
            kind = _kind(line.event)
            self.decided[kind] = self.decided.get(kind, 0) + 1
        if otherwise or len(expected) > len(known):
            self.differences += compared(expected, _recorded(known), pos, otherwise)

    def _can_be_taken_again(self, line: Line) -> bool:
        what = unknown_in(line.event)
        if what is None:
            return True
        self.unverifiable.append(Unverifiable(line.pos, _kind(line.event), what))
        return False

    def _differs(self, expected: Expected, line: Line) -> None:
        wanted = [] if expected.event is None else [expected]
        self.differences += compared(wanted, _recorded([line]), line.pos, {line.pos})

    def _skip(self, lines: Sequence[Line], why: str) -> None:
        for line in lines:
            self.unverifiable.append(Unverifiable(line.pos, _kind(line.event), why))
            self._feed(line)


def _recorded(lines: Sequence[Line]) -> list[Recorded]:
    return [(line.pos, Expected(line.event, line.cause)) for line in lines]


def _kind(event: AnyEvent) -> str:
    return event_type(type(event))
