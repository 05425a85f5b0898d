"""What waits for what inside one run: tiers, phases in order, and what they read.

``RunOrder`` is an index kept up to date phase by phase; ``waits_for`` says the same of one phase
by looking at all, and is what the index is tested against.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush

from engine.triage.eligible import is_unfinished
from engine.triage.policy import Policy
from projections.backlog import PhaseStanding

_NO_TIER = 2**62


def place(phase: PhaseStanding) -> tuple[int, int, int]:
    """Where a phase stands in its run."""
    return (phase.tier_index, phase.phase_index, phase.registered_pos)


def waits_for(
    phase: PhaseStanding, siblings: Iterable[PhaseStanding], policy: Policy
) -> list[PhaseStanding]:
    """The unfinished phases of the same run that ``phase`` must wait for, in order."""
    found = [
        other
        for other in siblings
        if other.phase_id != phase.phase_id
        and is_unfinished(other)
        and _comes_first(other, phase, policy)
    ]
    return sorted(found, key=place)


def _comes_first(other: PhaseStanding, phase: PhaseStanding, policy: Policy) -> bool:
    if policy.order_deliverables and other.phase_id in phase.after:
        return True
    if policy.order_tiers and other.tier_index < phase.tier_index:
        return True
    strict = policy.order_phases and phase.order == "strict"
    return strict and other.tier_index == phase.tier_index and place(other) < place(phase)


class RunOrder:
    """Which phases of one run wait for nothing, in O(log n) per change.

    Keeps the unfinished phases of every tier in heaps, and the tiers that have some in another;
    what comes to the top of a heap is always unfinished, what lies below may be long done.  Counts
    for each phase how many of those it names in ``after`` are unfinished.  Phases that are drained
    though nothing waits for them (``drains`` may name GATE) are few, and told of every change.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._phases: dict[str, PhaseStanding] = {}
        self._tiers: list[int] = []
        self._in_tier: dict[int, list[tuple[tuple[int, int, int], str]]] = {}
        self._blocked_by: dict[str, int] = {}
        self._dependents: dict[str, set[str]] = {}
        self._beside: set[str] = set()

    @property
    def phases(self) -> Mapping[str, PhaseStanding]:
        """Every phase of the run as last told."""
        return self._phases

    def update(self, phase: PhaseStanding) -> set[str]:
        """Take a phase's new standing; the ids whose waiting may have changed with it."""
        before = self._phases.get(phase.phase_id)
        self._phases[phase.phase_id] = phase
        if before is None:
            self._register(phase)
        was, now = before is not None and is_unfinished(before), is_unfinished(phase)
        if self._beside:
            self._beside.discard(phase.phase_id)
        if not now and phase.state in self._policy.drains:
            self._beside.add(phase.phase_id)
        if was == now:
            return {phase.phase_id}
        if now:
            self._enter(phase)
        else:
            self._leave(phase.tier_index)
        touched = {phase.phase_id, *self._first_unfinished(phase.tier_index), *self._beside}
        for dependent in self._dependents.get(phase.phase_id, ()):
            self._blocked_by[dependent] += 1 if now else -1
            touched.add(dependent)
        if not now:
            touched |= self._tier_opened(phase.tier_index)
        return touched

    def waits(self, phase_id: str) -> bool:
        """Whether a phase must wait for another one."""
        phase, policy = self._phases[phase_id], self._policy
        if policy.order_deliverables and self._blocked_by.get(phase_id, 0) > 0:
            return True
        if policy.order_tiers and self._lowest_tier() < phase.tier_index:
            return True
        if not (policy.order_phases and phase.order == "strict"):
            return False
        first = self._first_unfinished(phase.tier_index)
        return bool(first) and place(self._phases[first[0]]) < place(phase)

    def _register(self, phase: PhaseStanding) -> None:
        self._blocked_by.setdefault(phase.phase_id, 0)
        for needed in {*phase.after} - {phase.phase_id}:
            self._dependents.setdefault(needed, set()).add(phase.phase_id)
            other = self._phases.get(needed)
            if other is not None and is_unfinished(other):
                self._blocked_by[phase.phase_id] += 1

    def _enter(self, phase: PhaseStanding) -> None:
        if phase.tier_index not in self._in_tier:
            self._in_tier[phase.tier_index] = []
        if not self._in_tier[phase.tier_index]:
            heappush(self._tiers, phase.tier_index)
        heappush(self._in_tier[phase.tier_index], (place(phase), phase.phase_id))

    def _leave(self, tier_index: int) -> None:
        """Bring what is unfinished to the tops again, when a phase of the tier is through."""
        heap = self._in_tier[tier_index]
        while heap and not is_unfinished(self._phases[heap[0][1]]):
            heappop(heap)
        while self._tiers and not self._in_tier[self._tiers[0]]:
            heappop(self._tiers)

    def _first_unfinished(self, tier_index: int) -> tuple[str, ...]:
        """The id of a tier's first unfinished phase, as a tuple of one or none."""
        heap = self._in_tier.get(tier_index)
        return (heap[0][1],) if heap else ()

    def _lowest_tier(self) -> int:
        return self._tiers[0] if self._tiers else _NO_TIER

    def _tier_opened(self, finished_tier: int) -> set[str]:
        """All phases of the tier that opens when ``finished_tier`` is through."""
        lowest = self._lowest_tier()
        if lowest <= finished_tier or not self._policy.order_tiers:
            return set()
        return {phase_id for _, phase_id in self._in_tier.get(lowest, ())}
