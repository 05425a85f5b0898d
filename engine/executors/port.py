"""The executor port: what an executor is given, and the facts it gives back.

An executor never decides and knows no log.  It runs one assignment, keeps its deadline with its
own monotonic clock, ends whatever it started, and reports facts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, Protocol

import anyio
import msgspec

from engine.events import BoundaryKind, Deliverable, PhaseState
from engine.events.usage import UsageSource

KILL_BUDGET_S = 2.0
"""How long ending a process tree may take after the grace period, before we say it failed."""

USAGE_RECORDS_MAX = 10_000
TELEMETRY_LINE_BYTES_MAX = 64 * 1024


class PhaseSheet(msgspec.Struct, frozen=True, kw_only=True):
    """A phase as an executor sees it: the contents of ``RUNOFF_PHASE_FILE``, as JSON."""

    run_id: str
    tier_id: str
    phase_id: str
    phase_index: int
    name: str
    goal: str | None = None
    state: PhaseState
    category: str | None = None
    complexity: str | None = None
    deliverables: tuple[Deliverable, ...] = ()
    read_only_context: tuple[str, ...] = ()
    scope: msgspec.Raw | None = None
    attempt: int
    last_failure_reason: str | None = None
    estimate_tokens: int | None = None
    budget_tokens: int | None = None
    output_budget_tokens: int | None = None


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to execute.  ``deadline_us`` is Unix time, for the child's information only."""

    session_id: str
    attempt_id: str
    sheet: PhaseSheet
    timeout_s: float
    grace_s: float
    deadline_us: int


class Spawned(msgspec.Struct, frozen=True, kw_only=True):
    """The process that guards an attempt: enough to prove later that it is dead."""

    host: str
    boot_id: str
    pid: int
    start_ticks: int | None
    directory: str


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One LLM call as the child told it; ``line`` from 1; ``input_tokens`` include cached ones."""

    line: int
    source: UsageSource
    provider: str | None = None
    model: str | None = None
    operation: str | None = None
    input_tokens: int | None = None
    cached_input_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    finish_reason: str | None = None
    status: str | None = None
    success: bool | None = None
    duration_ms: int | None = None


LABELS = ("provider", "model", "operation", "finish_reason", "status")
"""The fields of a usage record that hold a text of the child's."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Telemetry lines that could not be used, ``count`` alike; ``excerpt`` of the first."""

    why: Literal["not_json", "not_an_object", "unknown_type", "bad_fields", "too_long", "too_many"]
    count: int
    first_line: int
    excerpt: str


class Telemetry(msgspec.Struct, frozen=True, kw_only=True):
    """Everything read from an attempt's events file.

    ``lines_read`` = usage records + ``lines_other`` (progress, artifact, boundary)
    + the sum of ``rejected`` counts.
    """

    usage: tuple[Usage, ...] = ()
    lines_read: int = 0
    lines_other: int = 0
    rejected: tuple[Rejected, ...] = ()
    artifacts: tuple[str, ...] = ()
    boundary: BoundaryKind | None = None


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """What was kept of a stream: head and tail of ``total_bytes``, in a file or in ``data``.

    The kept bytes are the first ``head_bytes`` and the last ``tail_bytes``, one after the other.
    ``redacted``: kinds of secrets that were covered before anything was kept, and how many.
    """

    total_bytes: int = 0
    head_bytes: int = 0
    tail_bytes: int = 0
    path: Path | None = None
    data: bytes = b""
    redacted: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, data: bytes) -> Output:
        """A short stream held whole in memory."""
        return cls(total_bytes=len(data), head_bytes=len(data), data=data)


class Declared(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that the child itself reported; ``how``: exit code, events or result."""

    kind: BoundaryKind
    how: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened, in facts only.

    ``ended``: ``exited`` by itself (or by a signal not ours), ``timed_out`` when our timer fired,
    ``abandoned`` when we were told to stop it, ``lost`` when its guardian vanished without an
    outcome.  ``claimed_success`` is what the child's result file says, None without one;
    ``final_state`` likewise.  ``reason`` is the child's own word for a failure.
    ``limit``: what kept it from beginning if that was a limit of the user or the machine, which no
    phase is to blame for.
    ``clears_reason``: it wiped the failure reason that was stored before, as a script may say.
    ``rest``: of a child that said much, what reads it, in a thread, and gives the whole report, of
    which this one holds no more than how it ended.  It takes memory, so let few be whole at once.
    """

    ended: Literal["exited", "timed_out", "abandoned", "lost"]
    duration_ms: int
    exit_code: int | None = None
    signal: int | None = None
    claimed_success: bool | None = None
    final_state: PhaseState | None = None
    reason: str | None = None
    limit: str | None = None
    clears_reason: bool = False
    telemetry: Telemetry = Telemetry()
    declared: Declared | None = None
    stdout: Output = Output()
    stderr: Output = Output()
    killed: int = 0
    missing_deliverables: tuple[str, ...] = ()
    rest: Callable[[], Report] | None = None


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """How engine and executor talk while an attempt runs.

    The executor awaits ``spawned`` once its guardian exists; then the child may begin.  The engine
    sets ``abandon`` when the attempt must end now (the report then says so).
    ``leave``: asked by an executor that is cancelled; true when the engine is dying as if it had
    been killed, so that what outlives a dead engine shall be left alone.
    """

    spawned: Callable[[Spawned], Awaitable[None]]
    abandon: anyio.Event
    leave: Callable[[], bool] = lambda: False


class Executor(Protocol):
    """Runs one assignment at a time per call; many calls run side by side."""

    @property
    def name(self) -> str:
        """As it stands in the log, such as ``command`` or ``scripted``."""
        ...

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Execute and report.

        Never raises for what a child does.  When cancelled, it ends what it started before it
        lets the cancellation through, unless ``watch.leave()`` says that the next engine shall
        find it alive.
        """
        ...
