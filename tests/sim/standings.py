"""Where runs, phases, sessions and attempts stand, as the checker counts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Event = Mapping[str, Any]
UNFINISHED = frozenset({"QUEUED", "EXECUTING", "FAILED"})
PROVED = frozenset({"succeeded", "failed", "timed_out", "broke"})
GROUPS = ("unsampled", "promising", "others")
_CLASSES = (
    (2, ("collection", "import")),
    (3, ("deliverable", "missing")),
    (4, ("patch", "no-op", "manifest")),
    (6, ("timeout", "timed out")),
)


@dataclass(slots=True)
class Phase:
    """A phase; what it counts starts anew when it is requeued."""

    run: str
    name: str
    tier: int
    index: int
    pos: int
    is_strict: bool
    after: tuple[str, ...]
    state: str
    reason: str | None
    needs: frozenset[str] = frozenset()
    reason_before: str | None = None
    tokens_cap: int | None = None
    number: int = 0
    attempts: int = 0
    orphans: int = 0
    deferrals: int = 0
    open: str | None = None
    tried_in: str | None = None
    spent: Counter[str] = field(default_factory=Counter[str])

    @property
    def place(self) -> tuple[int, int, int]:
        return (self.tier, self.index, self.pos)

    def reason_class(self) -> int:
        text = (self.reason or "").lower()
        if not text:
            return 1
        return next((n for n, words in _CLASSES if any(w in text for w in words)), 5)


@dataclass(slots=True)
class Run:
    """A run in its current generation."""

    name: str
    standing: str = "unsampled"
    generation: int = 1
    open: int = 0
    verdict_us: int = 0
    spent: Counter[str] = field(default_factory=Counter[str])
    phases: dict[str, Phase] = field(default_factory=dict[str, Phase])


@dataclass(slots=True)
class Session:
    """A session over all its parts; ``active_ms`` is that of the parts that are over.

    ``samples`` are its open ones; ``telling``: verdicts that told something new.
    """

    name: str
    executor: str = ""
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: str = "running"
    because: str | None = None
    epoch: int = 0
    attempts: int = 0
    open: int = 0
    zero_streak: int = 0
    streak_before: int = 0
    lossy_streak: int = 0
    lossy_streak_before: int = 0
    active_ms: int = 0
    part_us: int = 0
    last_us: int = 0
    telling: int = 0
    samples: set[str] = field(default_factory=set[str])
    spent: Counter[str] = field(default_factory=Counter[str])
    seen: Counter[str] = field(default_factory=Counter[str])
    timeouts: Counter[str] = field(default_factory=Counter[str])
    stopped_fingerprints: set[str] = field(default_factory=set[str])
    stopped_runs: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def is_named_phase(self) -> bool:
        return self.limits.get("phase_id") is not None

    def elapsed_ms(self, now_us: int) -> int:
        return self.active_ms + (now_us - self.part_us) // 1000


@dataclass(slots=True)
class Attempt:
    """An attempt; ``initial_state`` is where its phase stood before."""

    name: str
    session: Session
    run: Run
    phase: Phase
    number: int
    timeout_ms: int
    initial_state: str
    epoch: int
    spawned: bool = False
    finish_pos: int = 0
    usage: list[Event] = field(default_factory=list[Event])
