"""Select: what to attempt next, in O(log n) per pick.

``Queue`` is an index over the board: per run a heap of its phases, and per group a heap of runs
by their best phase.  Entries are never removed in place; a stale one is recognised when it comes
to the top.  ``pick_by_scan`` says the same by looking at everything, and is what the index is
held against in the tests.  A probe of an open breaker is drawn from the far end of the unsampled
runs: neighbours tend to fail alike, and a probe shall tell whether others would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from heapq import heapify, heappop, heappush, nsmallest
from typing import NamedTuple

from engine.events import (
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    Group,
    PhaseRegistered,
    PhaseRequeued,
    RunCooledDown,
    RunJudged,
    RunReinstated,
    RunStopped,
    SessionEnd,
)
from engine.triage.breaker import Gate, sampling_gate
from engine.triage.cooling import cools_us, is_cool, may_touch
from engine.triage.eligible import SortKey, phase_hindrance, run_hindrance, sort_key
from engine.triage.hosts import host_is_full
from engine.triage.ordering import RunOrder, waits_for
from engine.triage.scope import Scope
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.fold import join
from projections.run_triage import RunStanding, Standing
from projections.sessions import SessionStanding

OF_A_PHASE = (
    PhaseRegistered,
    PhaseRequeued,
    AttemptStarted,
    AttemptFinished,
    AttemptDeferred,
)
"""Events after which a phase stands otherwise."""

_OF_A_RUN = (RunJudged, RunStopped, RunCooledDown, RunReinstated)

COUNTED_RUNS_MAX = 1000
"""Beyond it there is plenty of work, however it is shared out."""

GROUPS: tuple[Group, ...] = ("unsampled", "promising", "others")


class Choice(NamedTuple):
    """The phase to attempt next, and where it stood; ``probe_of``: the breaker it probes."""

    phase: PhaseStanding
    run: RunStanding
    group: Group
    key: SortKey
    probe_of: str | None = None


def group_of(standing: Standing) -> Group:
    """Unsampled runs go first, then promising ones, then the rest."""
    return standing if standing in ("unsampled", "promising") else "others"


def account_of(board: Board, scope: Scope) -> str:
    """Whose provider limits pause the session."""
    return scope.limits.account or board.sessions.states[scope.session_id].executor


def paused_until_us(board: Board, scope: Scope, now_us: int) -> int | None:
    """When the pause of the session's account ends (Unix microseconds), None when there is none."""
    if scope.policy.provider_pause_ms is None or scope.is_named_phase:
        return None
    account = board.accounts.get(account_of(board, scope))
    return account.until_us if account is not None and now_us < account.until_us else None


def gate_of(board: Board, scope: Scope, now_us: int) -> Gate:
    """Whether the session may sample another run now."""
    if scope.is_named_phase:
        return Gate(None)
    session = board.sessions.get(scope.session_id) or SessionStanding(session_id=scope.session_id)
    return sampling_gate(session, board.breakers.values(), scope.policy, now_us)


def pick_by_scan(board: Board, scope: Scope, now_us: int) -> Choice | None:
    """The next choice at ``now_us``, by looking at every phase of the board."""
    if paused_until_us(board, scope, now_us) is not None or host_is_full(board, scope):
        return None
    gate = gate_of(board, scope, now_us)
    by_run: dict[str, list[PhaseStanding]] = {}
    for phase in board.backlog.values():
        by_run.setdefault(phase.run_id, []).append(phase)
    candidates: list[Choice] = []
    for run_id, phases in by_run.items():
        run = board.runs.states[run_id]
        held = gate.hindrance is not None and run.standing == "unsampled"
        if run_hindrance(run, scope) is None and not held:
            candidates += [
                Choice(phase, run, group_of(run.standing), sort_key(phase, scope.policy))
                for phase in phases
                if _ready(phase, phases, scope)
            ]
    unsampled = _best_of_each_run(c for c in candidates if c.group == "unsampled")
    if gate.probe_of is not None and unsampled:
        return max(unsampled, key=lambda c: c.key)._replace(probe_of=gate.probe_of)
    order = {group: number for number, group in enumerate(GROUPS)}
    return min(candidates, key=lambda c: (order[c.group], c.key), default=None)


def _best_of_each_run(choices: Iterable[Choice]) -> list[Choice]:
    best: dict[str, Choice] = {}
    for choice in choices:
        known = best.get(choice.run.run_id)
        if known is None or choice.key < known.key:
            best[choice.run.run_id] = choice
    return list(best.values())


def _reversed(key: SortKey) -> SortKey:
    return SortKey(*(-part for part in key))


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
        self.renew(scope)

    def renew(self, scope: Scope) -> None:
        """Order everything anew, for the same session under another scope."""
        board = self._board
        self._scope = scope
        self._orders: dict[str, RunOrder] = {}
        self._phases: dict[str, list[tuple[SortKey, str]]] = {}
        self._ready: dict[str, dict[str, SortKey]] = {}
        self._runs: dict[Group, list[tuple[SortKey, int, str]]] = {g: [] for g in GROUPS}
        self._stamps: dict[str, int] = {}
        self._cooling: list[tuple[int, str]] = []
        self._last: list[tuple[SortKey, int, str]] = []
        for phase in board.backlog.values():
            self._order_of(phase.run_id).update(phase)
        for run_id, order in self._orders.items():
            self._line_up(run_id, order)
            self._offer(run_id)

    def touch(self, run_id: str, phase_id: str | None) -> None:
        """A run, or one of its phases, has changed on the board."""
        if phase_id is not None:
            phase = self._board.backlog.get(join(run_id, phase_id))
            if phase is not None:
                self._update(phase)
        if run_id in self._orders:
            self._offer(run_id)

    def heed(self, event: AnyEvent) -> None:
        """Take notice of what an event, folded already, may have changed."""
        if isinstance(event, OF_A_PHASE):
            self.touch(event.run_id, event.phase_id)
        elif isinstance(event, _OF_A_RUN):
            self.touch(event.run_id, None)

    def heed_all(self, events: Iterable[AnyEvent]) -> None:
        """Take notice of many at once, which lines every run up once and not for each of them."""
        phases: dict[str, None] = {}  # in order, since sets of texts have another in every process
        runs: dict[str, None] = {}
        for event in events:
            if isinstance(event, OF_A_PHASE):
                phases[join(event.run_id, event.phase_id)] = runs[event.run_id] = None
            elif isinstance(event, _OF_A_RUN):
                runs[event.run_id] = None
        for key in phases:
            phase = self._board.backlog.get(key)
            if phase is not None:
                self._update(phase)
        for run_id in runs:
            self.touch(run_id, None)

    def pick(self, now_us: int) -> Choice | None:
        """The next choice at ``now_us``; the same again until the board changes or time matters."""
        if paused_until_us(self._board, self._scope, now_us) is not None:
            return None
        return None if host_is_full(self._board, self._scope) else self.next_ready(now_us)

    def next_ready(self, now_us: int) -> Choice | None:
        """The next choice, were no account paused and no host full."""
        gate = gate_of(self._board, self._scope, now_us)
        if gate.probe_of is not None:
            probe = self._farthest()
            if probe is not None:
                return probe._replace(probe_of=gate.probe_of)
        return self._best(GROUPS if gate.hindrance is None else GROUPS[1:])

    def first_of(self, run_id: str) -> str | None:
        """The phase of a run that would go first, whatever keeps the run itself back."""
        if run_id not in self._orders or self._first(run_id) is None:
            return None
        return self._phases[run_id][0][1]

    def ready_by_needs(self, now_us: int, most: int) -> Counter[tuple[str, ...]]:
        """How many phases may start now, by the labels that they need, were there room for all.

        Counts on until there are at least ``most`` of each kind that it met, over at most
        ``COUNTED_RUNS_MAX`` runs.
        """
        is_held = gate_of(self._board, self._scope, now_us).hindrance is not None
        found, runs = Counter[tuple[str, ...]](), 0
        for group in GROUPS[is_held:]:
            for _, stamp, run_id in self._runs[group]:
                if runs == COUNTED_RUNS_MAX or (found and min(found.values()) >= most):
                    return found
                if self._stamps[run_id] == stamp:
                    runs += 1
                    found.update(phase.needs for phase in self._startable(run_id, group))
        return found

    def _startable(self, run_id: str, group: Group) -> list[PhaseStanding]:
        """The phases of a run that may start at once, the first ones first."""
        order, ready = self._orders[run_id], self._ready[run_id]
        run, most = self._board.runs.states[run_id], self._scope.limits.per_run_max
        room = 1 if group == "unsampled" else most - run.open
        free = [name for name in ready if self._eligible(order, order.phases[name])]
        return [order.phases[name] for name in nsmallest(room, free, key=ready.__getitem__)]

    def is_held_back(self, now_us: int) -> bool:
        """Whether unsampled runs wait for an open breaker, and for nothing else."""
        gate = gate_of(self._board, self._scope, now_us)
        return gate.hindrance == "breaker_open" and self._best(GROUPS[:1]) is not None

    def out_of_work(self, now_us: int) -> SessionEnd:
        """Why a session ends that finds nothing more to start."""
        return "held_back" if self.is_held_back(now_us) else "nothing_eligible"

    def awaits_a_probe(self, now_us: int) -> bool:
        """Whether unsampled runs wait for a probe that is under way, and for nothing else."""
        probing = any(each.probe for each in self._board.breakers.values())
        return probing and self.is_held_back(now_us)

    def cool(self, now_us: int) -> RunStanding | None:
        """A deprioritized run that may be sampled again, the one that waited longest."""
        run = self._coolest()
        return run if run is not None and is_cool(run, self._scope, now_us) else None

    def cools_next_us(self) -> int | None:
        """When the next deprioritized run may be sampled again (Unix microseconds)."""
        run = self._coolest()
        return None if run is None else cools_us(run, self._scope.policy)

    def _coolest(self) -> RunStanding | None:
        """The run that cools down first of those that have a phase to be sampled by."""
        while self._cooling:
            due_us, run_id = self._cooling[0]
            run = self._board.runs.states[run_id]
            is_due_then = cools_us(run, self._scope.policy) == due_us
            if is_due_then and self._first(run_id) is not None:
                return run
            heappop(self._cooling)
        return None

    def _best(self, groups: tuple[Group, ...]) -> Choice | None:
        for group in groups:
            heap = self._runs[group]
            while heap:
                _, stamp, run_id = heap[0]
                if self._stamps[run_id] == stamp:
                    return self._choice(run_id, group)
                heappop(heap)
        return None

    def _farthest(self) -> Choice | None:
        """The unsampled run that would come last."""
        while self._last:
            _, stamp, run_id = self._last[0]
            if self._stamps[run_id] == stamp:
                return self._choice(run_id, "unsampled")
            heappop(self._last)
        return None

    def _choice(self, run_id: str, group: Group) -> Choice:
        key, phase_id = self._phases[run_id][0]
        phase = self._orders[run_id].phases[phase_id]
        return Choice(phase, self._board.runs.states[run_id], group, key)

    def _order_of(self, run_id: str) -> RunOrder:
        order = self._orders.get(run_id)
        if order is None:
            order = self._orders[run_id] = RunOrder(self._scope.policy)
            self._phases[run_id], self._ready[run_id] = [], {}
        return order

    def _line_up(self, run_id: str, order: RunOrder) -> None:
        """Put all phases of a run that may go into its heap."""
        heap, ready, policy = self._phases[run_id], self._ready[run_id], self._scope.policy
        for phase_id, phase in order.phases.items():
            if self._eligible(order, phase):
                key = ready[phase_id] = sort_key(phase, policy)
                heap.append((key, phase_id))
        heapify(heap)

    def _update(self, phase: PhaseStanding) -> None:
        run_id = phase.run_id
        order = self._order_of(run_id)
        heap, ready, policy = self._phases[run_id], self._ready[run_id], self._scope.policy
        for phase_id in order.update(phase):
            standing = order.phases[phase_id]
            if self._eligible(order, standing):
                key = ready[phase_id] = sort_key(standing, policy)
                heappush(heap, (key, phase_id))
            else:
                ready.pop(phase_id, None)

    def _eligible(self, order: RunOrder, phase: PhaseStanding) -> bool:
        scope = self._scope
        if phase_hindrance(phase, scope) is not None or not _wanted(phase, scope):
            return False
        return scope.is_named_phase or not order.waits(phase.phase_id)

    def _offer(self, run_id: str) -> None:
        """Put the run into its group's heap by its best phase, if it has one and may go."""
        stamp = self._stamps[run_id] = self._stamps.get(run_id, 0) + 1
        run = self._board.runs.states[run_id]
        if run.standing == "deprioritized":
            self._await_cooling(run)
        if run_hindrance(run, self._scope) is not None:
            return
        key = self._first(run_id)
        if key is None:
            return
        heappush(self._runs[group_of(run.standing)], (key, stamp, run_id))
        if run.standing == "unsampled" and self._scope.policy.breaker_runs:
            heappush(self._last, (_reversed(key), stamp, run_id))

    def _first(self, run_id: str) -> SortKey | None:
        """Where the best of a run's phases that may go stands; None when none may."""
        heap, ready, order = self._phases[run_id], self._ready[run_id], self._orders[run_id]
        while heap:
            key, phase_id = heap[0]
            # A phase that came back makes others wait of which nothing was said.
            if ready.get(phase_id) == key and self._eligible(order, order.phases[phase_id]):
                return key
            heappop(heap)
        return None

    def _await_cooling(self, run: RunStanding) -> None:
        """Once none of its phases may go it does not cool; what brings one back offers it again."""
        due_us, may = cools_us(run, self._scope.policy), may_touch(run, self._scope)
        if due_us is not None and may and self._first(run.run_id) is not None:
            heappush(self._cooling, (due_us, run.run_id))
