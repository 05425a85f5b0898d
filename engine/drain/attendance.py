"""Attendance: what an engine does for each attempt, from its start to its last word in the log."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from engine.detect import detectors, successor_of
from engine.detect.known_limits import KnownLimits
from engine.drain import commands
from engine.drain.adoptions import TakeOver
from engine.drain.diagnose import EXCERPT_BYTES, Diagnosed, diagnose
from engine.drain.last_words import Unrecorded
from engine.drain.stopping import Stopping
from engine.errors import DiskFull, Fenced, LogWentBack, RunoffError, limit_met, limits_told
from engine.events import AttemptStarted, Record
from engine.executors.port import Assignment, Executor, Report, Spawned, Watch
from engine.store.batch import Pending
from engine.store.blobs import BlobStore
from engine.store.recorder import Recorder
from engine.triage.scope import Scope
from engine.triage.select import Queue

T = TypeVar("T")

SHORT_BYTES = EXCERPT_BYTES
"""So little goes into the log itself: with no file to write, another thread would take longer.
The few that are no text have one all the same, and keep the loop waiting while it is synced."""

SMALL_BYTES = 64 * 1024
SMALL_AT_ONCE = 32
"""Diagnoses of little output mostly wait for the disk, which serves many in the time of one."""

DIAGNOSES_AT_ONCE = 2
"""Each holds the kept output of one attempt, so this bounds the engine's memory."""

MANY_RECORDS = 500
"""So many usage records, and more, are read and recorded of one attempt at a time: ten thousand of
them take 3 MB, and 20 MB from their diagnosis to their commit."""


@dataclass
class Attendance:
    """The attempts that a drain stays with.

    ``tell`` as in ``Drain``; ``scope_of`` says by which scope an attempt is judged; ``free`` is
    called when a worker is free.  ``blobs``, ``in_threads``, ``limits`` as in ``Drain``.
    """

    recorder: Recorder
    executor: Executor
    stopping: Stopping
    blobs: BlobStore | None
    tell: Callable[[tuple[Record, ...]], None]
    scope_of: Callable[[AttemptStarted], Scope]
    free: Callable[[], None]
    in_threads: bool = True
    limits: KnownLimits = field(default_factory=KnownLimits)

    def __post_init__(self) -> None:
        self.queue: Queue | None = None
        self.unrecorded: list[Unrecorded] = []
        self._running: set[str] = set()
        self._attended: set[str] = set()
        self._left: set[str] = set()
        self._guarded: set[str] = set()
        self._at_work: set[str] = set()
        self._rested = anyio.Event()
        self._begun: deque[Pending] = deque()
        self._has_begun = anyio.Event()
        self._failed: RunoffError | None = None
        self._limiter = anyio.CapacityLimiter(DIAGNOSES_AT_ONCE)
        self._small = anyio.CapacityLimiter(SMALL_AT_ONCE)
        self._turns = anyio.Semaphore(1)

    @property
    def busy(self) -> int:
        """How many workers are at an attempt."""
        return len(self._running)

    @property
    def attended(self) -> frozenset[str]:
        """The attempts that have not had their last word."""
        return frozenset(self._attended)

    async def until_quiet(self) -> None:
        """Until none of them is at work, though their ends may not be recorded yet."""
        while self._at_work:
            self._rested = anyio.Event()
            await self._rested.wait()

    def attend(
        self,
        group: TaskGroup,
        started: AttemptStarted,
        assignment: Assignment,
        report: TakeOver | None = None,
    ) -> None:
        """Stay with an attempt, in a task of ``group``.

        ``report``: how to get the report of one that another engine started.
        """
        self._running.add(started.attempt_id)
        self._attended.add(started.attempt_id)
        group.start_soon(self._attend, started, assignment, report)

    async def _attend(
        self, started: AttemptStarted, assignment: Assignment, report: TakeOver | None
    ) -> None:
        """One attempt from its start to its last word in the log."""
        try:
            with limits_told():
                outcome = await self._execute(started, assignment, report)
                with anyio.CancelScope(shield=True):
                    async with self._turn(outcome):
                        whole = await self._whole(outcome)
                        await self._close(started, assignment, whole, adopted=report is not None)
        except anyio.get_cancelled_exc_class():
            # Another task failed.  The executor has ended this attempt: say so while the log can
            # still be written.  The guardian of an adopted one goes on, and so it stays open, and
            # so does one that was left to its guardian.
            if report is None and started.attempt_id not in self._left:
                with anyio.CancelScope(shield=True), suppress(RunoffError):
                    ended = Report(ended="abandoned", duration_ms=0)
                    await self._close(started, assignment, ended, adopted=False)
            raise
        except RunoffError as error:
            # Known before the other attempts are cancelled, which then ask ``_leave``.
            self._failed = error
            raise
        finally:
            self._attended.discard(started.attempt_id)
            self._guarded.discard(started.attempt_id)
            if self._failed is None:  # else it stays open, and nothing may start in its place
                self._free(started)

    def _free(self, started: AttemptStarted) -> None:
        """The attempt's worker is free, and the loop shall see to it."""
        self._running.discard(started.attempt_id)
        self.free()

    async def _execute(
        self, started: AttemptStarted, assignment: Assignment, report: TakeOver | None
    ) -> Report | Exception:
        async def told(process: Spawned) -> None:
            assert started.attempt_id not in self._guarded, "an executor says once what it spawned"
            self._guarded.add(started.attempt_id)
            recording = self.recorder.enqueue(commands.spawned(started, process))
            if not self.recorder.store.is_shared:
                self._begun.append(recording)
                self._has_begun.set()
                return
            self._rest(started)  # it waits for our word
            receipt = await recording.answer()
            self._at_work.add(started.attempt_id)
            self.tell(receipt.records)

        leave = partial(self._leave, started)
        self._at_work.add(started.attempt_id)
        try:
            if report is not None:
                return await _or_bug(report(self.stopping.abandon))
            watch = Watch(spawned=told, abandon=self.stopping.abandon, leave=leave)
            return await _or_bug(self.executor.run(assignment, watch))
        finally:
            self._rest(started)

    async def tell_begun(self) -> None:
        """Tell what is recorded of attempts that go on meanwhile; to be run beside them.

        So they may where nobody else can have taken them over: a log of its own is held by a lock
        of the kernel's.  Of a shared one, an engine that was paused for longer than its lease
        learns only from this commit that the attempt is another's.
        """
        while True:
            self._has_begun = anyio.Event()
            while self._begun:  # in the order in which they are answered
                self.tell((await self._begun.popleft().answer()).records)
            await self._has_begun.wait()

    def _rest(self, started: AttemptStarted) -> None:
        """Nothing of the attempt is at work now."""
        self._at_work.discard(started.attempt_id)
        self._rested.set()

    def _leave(self, started: AttemptStarted) -> bool:
        """Whether a failure below us is ending this engine as a kill would; then it stays open.

        One that was overtaken must end what it runs: that is another's now.  So must one whose log
        went back: whoever goes on with that may know nothing of what runs here.
        """
        failed = self.recorder.failed or self._failed
        if failed is None or isinstance(failed, Fenced | LogWentBack):
            return False
        self._left.add(started.attempt_id)
        return True

    def _turn(self, outcome: Report | Exception) -> AbstractAsyncContextManager[object]:
        """Of few attempts at once is all in memory that they said, if it is much."""
        if isinstance(outcome, Exception):
            return nullcontext()
        few = outcome.rest is None and len(outcome.telemetry.usage) < MANY_RECORDS
        return nullcontext() if few else self._turns

    async def _whole(self, outcome: Report | Exception) -> Report | Exception:
        if isinstance(outcome, Exception) or outcome.rest is None:
            return outcome
        return await _or_bug(self._in_thread(outcome.rest))

    async def _in_thread(
        self, work: Callable[[], T], limiter: anyio.CapacityLimiter | None = None
    ) -> T:
        return await to_thread.run_sync(work, limiter=limiter) if self.in_threads else work()

    async def _close(
        self,
        started: AttemptStarted,
        assignment: Assignment,
        outcome: Report | Exception,
        *,
        adopted: bool,
    ) -> None:
        """Diagnose and record; what a full disk does not take is kept for the last words."""
        scope, diagnosed = self.scope_of(started), None
        try:
            diagnosed = await self._diagnosed(assignment, outcome, scope, adopted=adopted)
            while scope != self.scope_of(started):  # another policy came into force meanwhile
                scope = self.scope_of(started)
                diagnosed = await self._diagnosed(assignment, outcome, scope, adopted=adopted)
            finish = commands.finish(diagnosed, scope, self.queue, is_fresh=not adopted)
            closing = self.recorder.enqueue(finish)
            # Free before it is durable: the next pick is decided behind the end that makes room
            # for it, mostly in the same transaction.
            self._free(started)
            self.tell((await closing.answer()).records)
        except DiskFull:
            if diagnosed is None and started.attempt_id not in self._guarded:
                # No guardian keeps its outcome: better without its output.
                diagnosed = self._diagnosis(assignment, outcome, scope, adopted=adopted)(None)
            if diagnosed is not None:
                self.unrecorded.append(Unrecorded(diagnosed, scope))
            raise

    async def _diagnosed(
        self,
        assignment: Assignment,
        outcome: Report | Exception,
        scope: Scope,
        *,
        adopted: bool,
    ) -> Diagnosed:
        work = partial(self._diagnosis(assignment, outcome, scope, adopted=adopted), self.blobs)
        size_bytes = _kept_bytes(outcome)
        if size_bytes <= SHORT_BYTES:
            return work()
        limiter = self._small if size_bytes <= SMALL_BYTES else self._limiter
        return await self._in_thread(work, limiter)

    def _diagnosis(
        self, assignment: Assignment, outcome: Report | Exception, scope: Scope, *, adopted: bool
    ) -> Callable[[BlobStore | None], Diagnosed]:
        """What is made of an outcome, once it is known where its output is kept."""
        return partial(
            diagnose,
            outcome,
            assignment,
            scope.policy,
            detectors(successor_of(scope.policy.detectors)),
            adopted=adopted,
            limits=self.limits,
        )


async def _or_bug(report: Awaitable[Report]) -> Report | Exception:
    """A report, or the executor's bug: that costs one attempt, not the drain."""
    try:
        return await report
    except RunoffError:
        raise
    except Exception as bug:
        if limit_met(bug) is not None:
            raise
        return bug


def _kept_bytes(outcome: Report | Exception) -> int:
    if isinstance(outcome, Exception):
        return 0
    return sum(o.head_bytes + o.tail_bytes for o in (outcome.stdout, outcome.stderr))
