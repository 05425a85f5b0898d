"""The part of verify that counts the backlog anew: where every phase stands, and what is left."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_UNFINISHED = ("QUEUED", "EXECUTING", "FAILED")
_DRAINED = ("QUEUED", "FAILED")
_PROVED = ("succeeded", "failed", "timed_out", "broke")


@dataclass(slots=True)
class Phase:
    """A phase; ``number``, ``proved`` and ``orphans`` count attempts of its current ``life``.

    A life begins when the phase is registered and whenever it is requeued.
    """

    run: str
    name: str
    state: str
    succeeded: bool
    life: int = 1
    number: int = 0
    proved: int = 0
    orphans: int = 0
    open: int = 0
    tokens_cap: int | None = None
    spent: dict[str, int] = field(default_factory=dict[str, int])
    last_session: str | None = None
    last_ending: str | None = None

    def begin_again(self) -> None:
        """An operator put it back."""
        self.life += 1
        self.state, self.succeeded = "QUEUED", False
        self.number = self.proved = self.orphans = 0
        self.spent.clear()

    def start(self, number: int, session: str) -> None:
        """An attempt of it began."""
        self.state, self.number, self.last_session = "EXECUTING", number, session
        self.open += 1

    def finish(self, ending: str, state: str, *, counts: bool) -> None:
        """An attempt of it ended; ``counts`` unless it was started in an earlier life."""
        self.state, self.last_ending = state, ending
        self.succeeded = ending == "succeeded"
        self.open -= 1
        if counts:
            self.orphans += ending == "orphaned"
            self.proved += ending not in ("orphaned", "abandoned")

    def defer(self, state: str, *, counts: bool) -> None:
        """Its newest attempt does not count; ``counts`` as in ``finish``."""
        self.state = state
        if counts:
            self.proved -= 1


@dataclass(slots=True)
class Session:
    """A drain session: what bounds it, and what it has begun."""

    name: str
    running: bool = False
    open: int = 0
    attempts: int = 0
    limits: dict[str, Any] = field(default_factory=dict[str, Any])
    policy: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def is_named_phase(self) -> bool:
        """Whether a person asked for one phase, whatever triage says of it."""
        return self.limits.get("phase_id") is not None


def work_left(phases: Iterable[Phase], session: Session) -> int:
    """How many phases of the session's filter are backlog, not open and not used up."""
    return sum(_is_wanted(phase, session) and _is_left(phase, session) for phase in phases)


def _is_wanted(phase: Phase, session: Session) -> bool:
    limits = session.limits
    return (
        limits.get("run_id") in (None, phase.run)
        and limits.get("phase_id") in (None, phase.name)
        and not phase.run.startswith(tuple(limits.get("skip_run_prefixes", ())) or "\0")
    )


def _is_left(phase: Phase, session: Session) -> bool:
    if phase.open:
        return False
    tried = phase.last_session == session.name and phase.last_ending in _PROVED
    if session.is_named_phase:
        return phase.state in _UNFINISHED and not tried
    policy = session.policy
    attempts_max = policy.get("attempts_per_phase_max") or phase.proved + 1
    orphans_max = policy.get("orphans_per_phase_max") or phase.orphans + 1
    return (
        phase.state in policy.get("drains", _DRAINED)
        and phase.proved < attempts_max
        and phase.orphans < orphans_max
        and not (policy.get("once_per_session") and tried)
        and not _is_spent(phase, session)
    )


def _is_spent(phase: Phase, session: Session) -> bool:
    """Whether the phase has used up the cap that it came with; a given budget may be raised."""
    cap = phase.tokens_cap if session.policy.get("heed_incident_caps") else None
    return cap is not None and 0 < cap <= phase.spent.get("tokens", 0)
