"""The sessions of a what-if: where they begin and end, and what their bounds leave unknown."""

from __future__ import annotations

from engine.amounts import counted
from engine.audit.lines import Line
from engine.audit.whatif_order import SessionOrder
from engine.audit.whatif_world import World
from engine.events import SessionDraining, SessionEnded, SessionResumed, SessionStarted
from engine.triage.picking import limit_reached
from engine.triage.scope import Scope

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


class Sessions:
    """What becomes of the recorded sessions in another ``world``."""

    def __init__(self, world: World) -> None:
        self._world, self._board, self._found = world, world.board, world.found
        self._left_behind: dict[str, list[str]] = {}

    def begun(self, line: Line) -> None:
        """It began, or went on, with the recorded limits."""
        event = line.event
        assert isinstance(event, SessionStarted | SessionResumed)
        scope = Scope(event.session_id, self._world.policy, event.limits)
        self._world.scopes[event.session_id] = scope
        self._world.feed(event, line)
        order = self._world.sessions.get(event.session_id)
        if order is not None:
            order.renew(scope)

    def draining(self, line: Line) -> None:
        """What came from outside still came; what the other policy decides is its own."""
        event = line.event
        assert isinstance(event, SessionDraining)
        session = self._board.sessions.states[event.session_id]
        if session.status != "running":
            return
        scope = self._world.scopes[event.session_id]
        if event.because in FROM_OUTSIDE:
            order = self._world.order_of(scope)
            if order is not None and self._world.is_idle(scope, line):
                order.hold(line.pos, line.recorded_us, None)
            self._world.feed(event, line)
            if self._world.is_off_time(scope):
                self._cut_off(scope, line)
        elif not self._has_reached_a_limit(scope, line) and event.because == "batch_size":
            room = counted(scope.limits.batch_size - session.attempts, "attempt")
            self._world.goes_on(scope, line, f"the session would have had {room} more")

    def ended(self, line: Line) -> None:
        """It ended when it did, whatever was left to do."""
        event = line.event
        assert isinstance(event, SessionEnded)
        scope = self._world.scopes[event.session_id]
        order = self._world.order_of(scope)
        if self._world.is_off_time(scope):
            self._world.off_time.add(scope.session_id)
        if order is not None:
            self._settle(order, scope, line, is_bounded=self._may_be_cut_short(scope))
        left_behind = self._left_behind.pop(event.session_id, [])
        self._found.horizons(dict.fromkeys(left_behind, line.pos), BEFORE_THE_STOP)
        if self._world.is_running(scope):
            self._world.cool_down(scope, line)
            self._world.goes_on(scope, line, "its next phase would have been attempted")
        if order is not None and order.goes_side_by_side and self._found.has_horizons:
            self._found.horizons(order.failed, ANOTHER_ORDER)
        self._world.feed(event, line)
        self._world.sessions.pop(event.session_id, None)

    def _cut_off(self, scope: Scope, line: Line) -> None:
        """Keep in mind what more the session may have come to before it was stopped."""
        ready = self._world.ready_runs(scope, line)
        busy = [run_id for run_id in ready if self._board.runs.states[run_id].open]
        self._found.horizons(dict.fromkeys(busy, line.pos), BEFORE_THE_STOP)
        self._left_behind[scope.session_id] = ready

    def _has_reached_a_limit(self, scope: Scope, line: Line) -> bool:
        """Whether the session has stopped by a limit of its own, which is then on the board."""
        limits, session = scope.limits, self._board.sessions.states[scope.session_id]
        if not limits.total_ms_max and not limits.budgets and session.attempts < limits.batch_size:
            return False
        reached = limit_reached(self._board, self._world.ground(scope, line))
        if reached is not None:
            self._world.feed(reached, line)
            if reached.because == "total_time" and self._world.is_off_time(scope):
                self._cut_off(scope, line)
        return reached is not None

    def _may_be_cut_short(self, scope: Scope) -> bool:
        """Whether a bound leaves something undone that the other policy would go on with."""
        if not self._world.is_running(scope):
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
        is_open_ended = order.ahead or self._world.ready_runs(scope, line) or self._is_timed(scope)
        if order.shifted and is_bounded and is_open_ended:
            self._found.horizons(order.shifted, "another one would have come in its place")
            self._world.goes_on(scope, line, BEFORE_THE_STOP)
        elif order.ahead and is_bounded:
            self._world.goes_on(scope, line, BEFORE_THE_STOP)
        if order.shifted and is_bounded and self._is_timed(scope):
            self._found.horizons(order.touched, "it may have come too late")
