"""Attempts: one execution of one phase by one executor, under one deadline."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

from engine.events.base import Event, PhaseState, Reason, Value
from engine.events.diagnosis import BoundaryKind

Group = Literal["unsampled", "promising", "others", "named"]
"""Why a phase's run stood where it did in the queue; ``named`` when a person asked for it."""

Ending = Literal["succeeded", "failed", "timed_out", "broke", "abandoned", "orphaned"]
"""How an attempt ended: by itself (2), at its deadline, by a bug in an executor, because we
stopped it, or with an engine that died and left no outcome."""


class AttemptStarted(Event, frozen=True, kw_only=True, tag="attempt.started"):
    """A phase was picked and its attempt began; ``reason`` says why this one.

    ``probe_of``: the fingerprint of the circuit breaker that this attempt probes.
    """

    schema: ClassVar[int] = 2

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    number: int
    group: Group
    category: str
    initial_state: PhaseState
    phase_index: int
    executor: str
    timeout_ms: int
    reason: Reason
    probe_of: str | None = None


class AttemptSpawned(Event, frozen=True, kw_only=True, tag="attempt.spawned"):
    """The guardian process of an attempt exists; enough to prove its death later."""

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    host: str
    boot_id: str
    pid: int
    start_ticks: int | None
    directory: str


class AttemptAdopted(Event, frozen=True, kw_only=True, tag="attempt.adopted"):
    """A restarted engine took over an attempt whose guardian had outlived the last one."""

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    epoch: int


class Stream(Value, frozen=True, kw_only=True):
    """What is kept of one output stream of a child.

    The stored bytes are ``head_bytes`` from the start and ``tail_bytes`` from the end of
    ``total_bytes``; ``digest`` is their sha256, or None when empty.  ``excerpt`` is their end.  Few
    bytes stand in it whole; more are a blob, whose name the digest is.
    """

    total_bytes: int = 0
    head_bytes: int = 0
    tail_bytes: int = 0
    digest: str | None = None
    excerpt: str = ""

    @property
    def truncated(self) -> bool:
        """Whether bytes between head and tail were dropped."""
        return self.total_bytes > self.head_bytes + self.tail_bytes

    @property
    def whole(self) -> bytes | None:
        """The stored bytes, where the excerpt is all of them, as the digest proves."""
        data = self.excerpt.encode()
        is_all = len(data) == self.head_bytes + self.tail_bytes
        return data if is_all and hashlib.sha256(data).hexdigest() == self.digest else None


class Redacted(Value, frozen=True, kw_only=True):
    """How many secrets of one kind were covered in what an attempt said, before it was stored."""

    kind: str
    count: int


Ended = Literal["exited", "timed_out", "abandoned", "lost", "broke"]
"""How executors report an end; ``broke`` when the executor itself raised."""


class Told(Value, frozen=True, kw_only=True):
    """What detectors read of an end beside its output, so that a diagnosis can be made again.

    ``state`` and ``reason`` are the child's own words, the reason's last 16 384 characters;
    ``stored_reason`` was the phase's before, as far as the child left it alone (1000 characters).
    ``declared`` is a limit that it reported itself, and ``declared_by`` how.
    """

    ended: Ended
    state: PhaseState | None = None
    reason: str | None = None
    stored_reason: str | None = None
    declared: BoundaryKind | None = None
    declared_by: str | None = None


class AttemptFinished(Event, frozen=True, kw_only=True, tag="attempt.finished"):
    """How an attempt ended, in facts; what follows from them is decided by rules.

    ``error`` is the failure's own text, at most 2000 characters.  ``killed`` counts the processes
    that had to be ended with it.  ``told`` is None in logs from before it was recorded.
    ``lines_read`` counts telemetry lines of every kind;
    ``yield_events`` the usage records among them that were accepted, ``lines_rejected`` the ones
    that could not be used.  ``redacted`` counts the secrets that were covered in all that was
    kept, by kind.
    """

    schema: ClassVar[int] = 3

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    number: int
    ending: Ending
    final_state: PhaseState
    exit_code: int | None = None
    signal: int | None = None
    duration_ms: int
    timeout_ms: int
    error: str | None = None
    yield_events: int = 0
    tokens: int = 0
    lines_read: int = 0
    lines_other: int = 0
    lines_rejected: int = 0
    killed: int = 0
    stdout: Stream = Stream()
    stderr: Stream = Stream()
    artifacts: tuple[str, ...] = ()
    missing_deliverables: tuple[str, ...] = ()
    told: Told | None = None
    redacted: tuple[Redacted, ...] = ()

    @property
    def passed_its_deadline(self) -> bool:
        """Whether our timer ended it; a policy may call other ends timeouts, too."""
        return self.told is not None and self.told.ended == "timed_out"
