"""Who writes the log, and the drain sessions it holds."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.events.base import Event, Reason, Value


class EngineStarted(Event, frozen=True, kw_only=True, tag="engine.started"):
    """A process became the one writer; ``epoch`` is one more than any before it."""

    epoch: int
    host: str
    boot_id: str
    pid: int
    program: str
    package_version: str


class PolicyAdopted(Event, frozen=True, kw_only=True, tag="session.policy_adopted"):
    """The thresholds and rule versions in force from here on; ``policy_json`` is all of it."""

    session_id: str
    policy: str
    policy_sha256: str
    policy_json: str


BudgetScope = Literal["phase", "run", "session", "day"]
Measure = Literal["tokens", "ms", "attempts"]


class Budget(Value, frozen=True, kw_only=True):
    """At most ``limit`` of one measure within one scope.

    ``tokens`` are those of usage records, ``ms`` the time that attempts took, one by one.  A
    phase's count from its last requeue, a run's from its last generation, a day's by UTC.
    """

    scope: BudgetScope
    measure: Measure
    limit: int


NO_BATCH = 2**53 - 1
"""A batch size that bounds nothing, as a daemon's sessions have it."""


class Limits(Value, frozen=True, kw_only=True):
    """What bounds a session.  None means no bound.

    ``account``: whose provider limits pause this session; None for the executor's name.
    ``labels``: what the engine's machine offers to phases that need it.  ``host_workers``: at most
    so many attempts at once on its host, over all engines there.
    """

    batch_size: int
    workers: int
    per_run_max: int
    phase_timeout_ms: int
    grace_ms: int
    total_ms_max: int | None = None
    run_id: str | None = None
    phase_id: str | None = None
    skip_run_prefixes: tuple[str, ...] = ()
    budgets: tuple[Budget, ...] = ()
    account: str | None = None
    labels: tuple[str, ...] = ()
    host_workers: int | None = None


class SessionStarted(Event, frozen=True, kw_only=True, tag="session.started"):
    """A drain began."""

    schema: ClassVar[int] = 3

    session_id: str
    executor: str
    limits: Limits


class SessionResumed(Event, frozen=True, kw_only=True, tag="session.resumed"):
    """A stopped or interrupted drain goes on, with its counts, under these limits."""

    schema: ClassVar[int] = 3

    session_id: str
    executor: str
    limits: Limits


class SessionPartLost(Event, frozen=True, kw_only=True, tag="session.part_lost"):
    """The engine that ran a session had died when another session began.

    ``active_ms``: how long the session had been at it, up to the last event of its own engine.
    """

    session_id: str
    active_ms: int


SessionEnd = Literal[
    "nothing_eligible",
    "held_back",
    "run_budgets",
    "batch_size",
    "total_time",
    "zero_yield_streak",
    "interrupted",
    "storage",
    "session_budget",
    "day_budget",
    "paused",
    "window_closed",
]


class SessionDraining(Event, frozen=True, kw_only=True, tag="session.draining"):
    """From here on this session starts no attempt; running ones may finish."""

    schema: ClassVar[int] = 3

    session_id: str
    because: SessionEnd
    reason: Reason


class SessionEnded(Event, frozen=True, kw_only=True, tag="session.ended"):
    """The last attempt is closed.  ``work_left`` counts the backlog within the session's filter."""

    schema: ClassVar[int] = 3

    session_id: str
    because: SessionEnd
    active_ms: int
    attempts: int
    work_left: int
