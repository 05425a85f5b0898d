"""Select: what to attempt next, in O(log n) per pick.

``Queue`` is an index over the board: per run a heap of its phases, and per group a heap of runs
by their best phase.  Entries are never removed in place; a stale one is recognised when it comes
to the top.  ``pick_by_scan`` says the same by looking at everything, and is what the index is
held against in the tests.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush
from typing import NamedTuple

from engine.events import Group
from engine.triage.eligible import (
    Scope,
    SortKey,
    phase_hindrance,
    run_hindrance,
    sort_key,
)
from engine.triage.ordering import RunOrder, waits_for
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.fold import join
from projections.run_triage import RunStanding, Standing

GROUPS: tuple[Group, ...] = ("unsampled", "promising", "others")


class Choice(NamedTuple):
    """The phase to attempt next, and where it stood."""

    phase: PhaseStanding
    run: RunStanding
    group: Group
    key: SortKey


def group_of(standing: Standing) -> Group:
    """Unsampled runs go first, then promising ones, then the rest."""
    return standing if standing in ("unsampled", "promising") else "others"


def pick_by_scan(board: Board, scope: Scope) -> Choice | None:
    """The next choice, by looking at every phase of the board."""
    by_run: dict[str, list[PhaseStanding]] = {}
    for phase in board.backlog.values():
        by_run.setdefault(phase.run_id, []).append(phase)
    candidates: list[Choice] = []
    for run_id, phases in by_run.items():
        run = board.runs.states[run_id]
        if run_hindrance(run, scope) is None:
            candidates += [
                Choice(phase, run, group_of(run.standing), sort_key(phase, scope.policy))
                for phase in phases
                if _ready(phase, phases, scope)
            ]
    order = {group: number for number, group in enumerate(GROUPS)}
    return min(candidates, key=lambda c: (order[c.group], c.key), default=None)


def _ready(phase: PhaseStanding, siblings: list[PhaseStanding], scope: Scope) -> bool:
    if not _wanted(phase, scope) or phase_hindrance(phase, scope) is not None:
        return False
    return scope.is_named_phase or not waits_for(phase, siblings, scope.policy)


def _wanted(phase: PhaseStanding, scope: Scope) -> bool:
    return scope.limits.phase_id is None or phase.phase_id == scope.limits.phase_id


class Queue:
    """The order of picks for one session, kept current by ``touch``."""

    def __init__(self, board: Board, scope: Scope) -> None:
        self._board = board
        self._scope = scope
        self._orders: dict[str, RunOrder] = {}
        self._phases: dict[str, list[tuple[SortKey, str]]] = {}
        self._runs: dict[Group, list[tuple[SortKey, int, str]]] = {g: [] for g in GROUPS}
        self._stamps: dict[str, int] = {}
        for phase in board.backlog.values():
            self._update(phase)
        for run_id in self._orders:
            self._offer(run_id)

    def touch(self, run_id: str, phase_id: str | None) -> None:
        """A run, or one of its phases, has changed on the board."""
        if phase_id is not None:
            phase = self._board.backlog.get(join(run_id, phase_id))
            if phase is not None:
                self._update(phase)
        if run_id in self._orders:
            self._offer(run_id)

    def pick(self) -> Choice | None:
        """The next choice; the same one again until the board changes and ``touch`` says so."""
        for group in GROUPS:
            heap = self._runs[group]
            while heap:
                _, stamp, run_id = heap[0]
                if self._stamps[run_id] == stamp:
                    return self._choice(run_id, group)
                heappop(heap)
        return None

    def _choice(self, run_id: str, group: Group) -> Choice:
        key, phase_id = self._phases[run_id][0]
        phase = self._orders[run_id].phases[phase_id]
        return Choice(phase, self._board.runs.states[run_id], group, key)

    def _update(self, phase: PhaseStanding) -> None:
        run_id = phase.run_id
        if run_id not in self._orders:
            self._orders[run_id] = RunOrder(self._scope.policy)
            self._phases[run_id] = []
        self._push(run_id, self._orders[run_id].update(phase))

    def _push(self, run_id: str, phase_ids: Iterable[str]) -> None:
        order = self._orders[run_id]
        for phase_id in phase_ids:
            if self._eligible(order, phase_id):
                key = sort_key(order.phases[phase_id], self._scope.policy)
                heappush(self._phases[run_id], (key, phase_id))

    def _eligible(self, order: RunOrder, phase_id: str) -> bool:
        phase = order.phases[phase_id]
        if not _wanted(phase, self._scope) or phase_hindrance(phase, self._scope) is not None:
            return False
        return self._scope.is_named_phase or not order.waits(phase_id)

    def _offer(self, run_id: str) -> None:
        """Put the run into its group's heap by its best phase, if it has one and may go."""
        stamp = self._stamps[run_id] = self._stamps.get(run_id, 0) + 1
        run = self._board.runs.states[run_id]
        if run_hindrance(run, self._scope) is not None:
            return
        heap, order = self._phases[run_id], self._orders[run_id]
        while heap:
            key, phase_id = heap[0]
            current = sort_key(order.phases[phase_id], self._scope.policy)
            if current == key and self._eligible(order, phase_id):
                heappush(self._runs[group_of(run.standing)], (key, stamp, run_id))
                return
            heappop(heap)
