"""The world of a what-if: a board under another policy, and where what it holds is unknown."""

from __future__ import annotations

from engine.audit.lines import Line
from engine.audit.whatif_found import Found
from engine.audit.whatif_order import IDLE_US, SessionOrder
from engine.events import AnyEvent
from engine.triage.cooling import cooled_down
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.ordering import RunOrder
from engine.triage.policy import Policy
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import OF_A_PHASE, gate_of
from projections.board import Board
from projections.fold import join


class World:
    """What the other policy has come to so far.

    ``sessions``: the order of those whose attempts come in another one than the record's.
    ``picked_alike``: ids of sessions whose recorded policy picks as the other does.  ``off_time``:
    of those that have come further by now than the record, or less far.
    """

    def __init__(self, policy: Policy, found: Found) -> None:
        self.policy, self.found = policy, found
        self.board = Board(reports=False)
        self.orders: dict[str, RunOrder] = {}
        self.sessions: dict[str, SessionOrder] = {}
        self.scopes: dict[str, Scope] = {}
        self.picked_alike: set[str] = set()
        self.off_time: set[str] = set()
        self.last_us = 0

    def feed(self, event: AnyEvent, line: Line) -> None:
        """Fold what happens in it, recorded or decided anew."""
        board = self.board
        board.fold_next(event, line.recorded_us)
        for session in self.sessions.values():
            session.take(event)
        if isinstance(event, OF_A_PHASE):
            order = self.orders.get(event.run_id)
            if order is None:
                order = self.orders[event.run_id] = RunOrder(self.policy)
            order.update(board.backlog.states[join(event.run_id, event.phase_id)])

    def ground(self, scope: Scope, line: Line) -> Ground:
        """What a decision rests on here."""
        return Ground(scope, self.board.head.pos, line.recorded_us)

    def order_of(self, scope: Scope) -> SessionOrder | None:
        """The order of a session under the other policy; None while it is the recorded one."""
        order = self.sessions.get(scope.session_id)
        if order is not None or scope.is_named_phase:
            return order
        if self.found.has_diverged or scope.session_id not in self.picked_alike:
            order = self.sessions[scope.session_id] = SessionOrder(self.board, scope)
        return order

    def is_running(self, scope: Scope) -> bool:
        """Whether the session may start attempts."""
        return self.board.sessions.states[scope.session_id].status == "running"

    def is_idle(self, scope: Scope, line: Line) -> bool:
        """Whether a worker of the session had nothing to do until now."""
        session = self.board.sessions.states[scope.session_id]
        waited_us = line.recorded_us - self.last_us
        is_free = session.open < scope.limits.workers
        return is_free and session.status == "running" and waited_us >= IDLE_US

    def is_off_time(self, scope: Scope) -> bool:
        """Whether the other policy's session would have come further, or less far, by now."""
        order = self.order_of(scope)
        return scope.session_id in self.off_time or (order is not None and order.has_moved)

    def cool_down(self, scope: Scope, line: Line) -> None:
        """Begin new generations of the runs that the other policy would sample again by now."""
        order = self.order_of(scope)
        while order is not None and (run := order.cool(line.recorded_us)) is not None:
            self.feed(cooled_down(run, self.ground(scope, line)), line)

    def goes_on(self, scope: Scope, line: Line, why: str) -> None:
        """Name the runs that the other policy would have gone on with here."""
        order = self.order_of(scope)
        for run_id in self.ready_runs(scope, line):
            is_misplaced = order is not None and run_id in order.misplaced
            since = order.shifted[run_id] if order is not None and is_misplaced else line.pos
            self.found.horizon(run_id, since, why)

    def ready_runs(self, scope: Scope, line: Line) -> list[str]:
        """The runs of which the other policy would attempt a phase, were the session to go on."""
        if scope.is_named_phase:
            return []
        is_held = gate_of(self.board, scope, line.recorded_us).hindrance == "breaker_open"
        return [
            run.run_id
            for run in self.board.runs.values()
            if run_hindrance(run, scope) is None
            and not (is_held and run.standing == "unsampled")
            and self._has_ready(run.run_id, scope)
        ]

    def _has_ready(self, run_id: str, scope: Scope) -> bool:
        order = self.orders.get(run_id)
        return order is not None and any(
            phase_hindrance(phase, scope) is None and not order.waits(phase_id)
            for phase_id, phase in order.phases.items()
        )
