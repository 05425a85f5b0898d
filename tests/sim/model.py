"""What a log says of runs, phases and sessions, worked out a second time.

Written from docs/reference/triage.md alone; it shares no code with the rules, the folds or the
queue, and it looks at everything instead of keeping an index.  ``Model`` follows events as they
stand in the log (JSON objects with defaults left out).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
    number: int = 0
    attempts: int = 0
    orphans: int = 0
    open: str | None = None
    tried_in: str | None = None

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
    phases: dict[str, Phase] = field(default_factory=dict[str, Phase])


@dataclass(slots=True)
class Session:
    """A session over all its parts; ``active_ms`` is that of the parts that are over."""

    name: str
    limits: Mapping[str, Any] = field(default_factory=dict[str, Any])
    policy: Mapping[str, Any] = field(default_factory=dict[str, Any])
    status: str = "running"
    because: str | None = None
    epoch: int = 0
    attempts: int = 0
    open: int = 0
    zero_streak: int = 0
    active_ms: int = 0
    part_us: int = 0
    last_us: int = 0
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


class Pick(NamedTuple):
    """A phase that may be attempted, and its place among all that may."""

    group: int
    reason_class: int
    tier: int
    within: int
    pos: int


class Model:
    """Everything at one position."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sessions: dict[str, Session] = {}
        self.attempts: dict[str, Attempt] = {}
        self.open = 0

    def phase(self, event: Event) -> Phase:
        return self.runs[event["run_id"]].phases[event["phase_id"]]

    def session(self, event: Event) -> Session:
        return self.sessions[event["session_id"]]

    def register_run(self, event: Event) -> None:
        self.runs[event["run_id"]] = Run(event["run_id"])

    def register_phase(self, pos: int, event: Event) -> None:
        run = self.runs[event["run_id"]]
        run.phases[event["phase_id"]] = Phase(
            run=run.name,
            name=event["phase_id"],
            tier=event["tier_index"],
            index=event["phase_index"],
            pos=pos,
            is_strict=event.get("order", "strict") == "strict",
            after=tuple(event.get("after", ())),
            state=event["state"],
            reason=event.get("last_failure_reason"),
        )

    def requeue(self, event: Event) -> None:
        phase = self.phase(event)
        phase.state, phase.reason = "QUEUED", None
        phase.number = phase.attempts = phase.orphans = 0

    def reinstate(self, event: Event) -> None:
        run = self.runs[event["run_id"]]
        run.standing, run.generation = "unsampled", event["generation"]
        for session in self.sessions.values():
            session.stopped_runs.pop(run.name, None)

    def govern(self, event: Event) -> None:
        name = event["session_id"]
        session = self.sessions.setdefault(name, Session(name))
        session.policy = json.loads(event["policy_json"])

    def begin(self, event: Event, now_us: int, epoch: int) -> None:
        session = self.session(event)
        if session.epoch and session.status != "ended":
            # An engine died in the part before; nobody knows more of it than its last event.
            session.active_ms += (session.last_us - session.part_us) // 1000
        session.limits, session.epoch = event["limits"], epoch
        session.status, session.because = "running", None
        session.part_us = session.last_us = now_us

    def end(self, event: Event) -> None:
        session = self.session(event)
        session.status, session.because = "ended", event["because"]
        session.active_ms = event["active_ms"]

    def start(self, event: Event, epoch: int) -> None:
        phase, session = self.phase(event), self.session(event)
        run = self.runs[phase.run]
        name = event["attempt_id"]
        self.attempts[name] = Attempt(
            name, session, run, phase, event["number"], event["timeout_ms"], phase.state, epoch
        )
        phase.state, phase.open, phase.number = "EXECUTING", name, event["number"]
        phase.attempts += 1
        phase.tried_in = None
        session.attempts += 1
        session.open += 1
        run.open += 1
        self.open += 1

    def finish(self, pos: int, event: Event) -> None:
        attempt = self.attempts[event["attempt_id"]]
        session, phase, ending = attempt.session, attempt.phase, event["ending"]
        proved = ending in PROVED
        attempt.finish_pos = pos
        phase.state, phase.open = event["final_state"], None
        if proved:
            error = event.get("error")
            phase.reason = error[:200] if error else error
            phase.tried_in = session.name
        else:
            phase.attempts -= 1
            phase.orphans += ending == "orphaned"
        session.open -= 1
        attempt.run.open -= 1
        self.open -= 1
        session.timeouts[phase.run] += ending == "timed_out"
        if event.get("yield_events", 0):
            session.zero_streak = 0
        elif proved:
            session.zero_streak += 1

    def hindrance(self, phase: Phase, session: Session) -> str | None:
        """What keeps a phase from being attempted now; None when nothing does."""
        return (
            run_hindrance(self.runs[phase.run], session)
            or _not_asked_for(phase, session)
            or phase_hindrance(phase, session)
            or ("waits" if self._waits(phase, session) else None)
        )

    def best(self, session: Session) -> Pick | None:
        """The place of the phase that is next, by looking at all of them."""
        found: Pick | None = None
        for run in self.runs.values():
            if run_hindrance(run, session) is not None:
                continue
            group = 2 if run.standing not in GROUPS else GROUPS.index(run.standing)
            if found is not None and group > found.group:
                continue
            for phase in run.phases.values():
                if phase.state != "COMPLETE" and phase.open is None:
                    found = self._better(phase, session, group, found)
        return found

    def _better(
        self, phase: Phase, session: Session, group: int, found: Pick | None
    ) -> Pick | None:
        if _not_asked_for(phase, session) or phase_hindrance(phase, session):
            return found
        place = self.place(phase, session, group)
        if (found is not None and found <= place) or self._waits(phase, session):
            return found
        return place

    def place(self, phase: Phase, session: Session, group: int) -> Pick:
        tier = phase.tier if session.policy["order_tiers"] else 0
        return Pick(group, phase.reason_class(), tier, phase.index, phase.pos)

    def _waits(self, phase: Phase, session: Session) -> bool:
        if session.is_named_phase:
            return False
        policy = session.policy
        return any(
            other.state in UNFINISHED and other is not phase and comes_first(other, phase, policy)
            for other in self.runs[phase.run].phases.values()
        )


def comes_first(other: Phase, phase: Phase, policy: Mapping[str, Any]) -> bool:
    """Whether ``phase`` waits for ``other`` while that is unfinished."""
    if policy["order_deliverables"] and other.name in phase.after:
        return True
    if policy["order_tiers"] and other.tier < phase.tier:
        return True
    in_order = policy["order_phases"] and phase.is_strict and other.tier == phase.tier
    return bool(in_order and other.place < phase.place)


def _not_asked_for(phase: Phase, session: Session) -> str | None:
    asked = session.limits.get("phase_id")
    return None if asked in (None, phase.name) else "not_asked_for"


def run_hindrance(run: Run, session: Session) -> str | None:
    """What keeps every phase of a run from being attempted now."""
    limits = session.limits
    if limits.get("run_id") not in (None, run.name):
        return "filtered"
    if session.is_named_phase:
        return None
    if any(run.name.startswith(prefix) for prefix in limits.get("skip_run_prefixes", ())):
        return "prefix_skipped"
    if run.standing == "deprioritized":
        return "deprioritized"
    if run.name in session.stopped_runs:
        return "stopped"
    if run.standing == "unsampled" and run.open:
        return "sample_in_flight"
    return "run_is_full" if run.open >= limits["per_run_max"] else None


def phase_hindrance(phase: Phase, session: Session) -> str | None:
    """What keeps a phase from being attempted, apart from its run and from what it waits for."""
    policy, tried = session.policy, phase.tried_in == session.name
    if phase.open is not None:
        return "open"
    if session.is_named_phase:
        if phase.state not in UNFINISHED:
            return "done"
        return "tried_this_session" if tried else None
    if phase.state not in policy["drains"]:
        return "not_drained" if phase.state in UNFINISHED else "done"
    if policy["attempts_per_phase_max"] and phase.attempts >= policy["attempts_per_phase_max"]:
        return "exhausted"
    if policy["orphans_per_phase_max"] and phase.orphans >= policy["orphans_per_phase_max"]:
        return "lost_too_often"
    return "tried_this_session" if policy["once_per_session"] and tried else None
