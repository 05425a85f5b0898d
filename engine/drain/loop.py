"""The loop: keeps the workers busy until the session ends.

Workers never decide: they run what was picked and hand back facts.  The loop asks the writer for
as many picks as there is room, waits until something ends, and asks again.  A standing session (a
daemon's) does not end for lack of work: it waits until something may have changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from engine.clock import Clock
from engine.detect import Detectors, detectors
from engine.drain import commands
from engine.drain.diagnose import Diagnosed, diagnose
from engine.drain.sheets import assignment_for, started_in
from engine.drain.stopping import Hold, Stopping
from engine.errors import RunoffError
from engine.events import AnyEvent, AttemptStarted, Record, SessionEnd
from engine.executors.port import Assignment, Executor, Report, Spawned, Watch
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.command import Command
from engine.store.recorder import Recorder
from engine.triage.picking import active_ms
from engine.triage.scope import Scope, scope_of
from engine.triage.select import Queue, paused_until_us
from engine.triage.waking import LONGEST_WAIT_S, wait_s, wakes_us
from projections.sessions import SessionStanding

DIAGNOSES_AT_ONCE = 2
"""Each holds the kept output of one attempt, so this bounds the engine's memory."""


TakeOver = Callable[[anyio.Event], Awaitable[Report]]
"""Waits for an attempt that another engine started, given the event that abandons it."""


class Adoption(NamedTuple):
    """An open attempt of an engine that died, and how to get its report."""

    started: AttemptStarted
    assignment: Assignment
    report: TakeOver
    lives: bool


@dataclass
class Drain:
    """One session over one log.

    ``tell`` is called with the records of every committed command, in log order per command.
    ``blobs`` None keeps no output (simulations).  ``in_threads`` False diagnoses on the loop,
    which a virtual clock needs.  ``standing``: wait for work instead of ending without.
    """

    recorder: Recorder
    executor: Executor
    scope: Scope
    clock: Clock
    ids: IdMaker
    blobs: BlobStore | None
    tell: Callable[[tuple[Record, ...]], None]
    stopping: Stopping = field(default_factory=Stopping)
    in_threads: bool = True
    standing: bool = False

    def __post_init__(self) -> None:
        self._running: set[str] = set()
        self._attended: set[str] = set()
        self._changed = anyio.Event()
        self._limiter: anyio.CapacityLimiter | None = None
        self._queue: Queue | None = None
        self._resuming = 0
        self._is_over = False

    async def run(
        self,
        *,
        resume: bool,
        adopt: Sequence[Adoption] = (),
        ready: Callable[[], None] = lambda: None,
        hold: Hold | None = None,
    ) -> SessionEnd:
        """Drain until the session ends; why it ended.

        ``adopt``: open attempts of dead engines.  Those that are dead too are closed first; then
        ``ready`` is called; living ones take up workers until they end.  ``hold``: start nothing,
        only see to those.
        """
        self._limiter = anyio.CapacityLimiter(DIAGNOSES_AT_ONCE)
        begun = commands.begin(self.ids("cmd"), self.scope, self.executor.name, resume=resume)
        await self._submit(begun)
        self._queue = Queue(self.recorder.board, self.scope)
        if hold is not None:
            await self.hold(hold)
        because: SessionEnd = "interrupted"
        async with anyio.create_task_group() as group:
            group.start_soon(self._heed_stop)
            await self._recover(group, adopt)
            ready()
            because = await self._feed(group)
            self._is_over = True
            group.cancel_scope.cancel()
        await self._submit(commands.end(self.ids("cmd"), self.scope, because))
        return self._session().because or because

    @property
    def standing_of_session(self) -> SessionStanding | None:
        """How its session stands, None before it has begun and once it ends."""
        return self._session() if self._queue is not None and not self._is_over else None

    async def hold(self, why: Hold) -> None:
        """Start nothing more; once what runs has ended, so has this part of the session."""
        command = commands.drain_now(self.ids("cmd"), self.scope, why.because, why.sentence)
        await self._submit(command)
        self._changed.set()

    async def go_on(self, scope: Scope) -> None:
        """Begin the session anew while it goes on: after a hold, or under another scope."""
        # Whoever asks the writer from here on asks behind this command.
        self.scope = scope
        begun = commands.begin(
            self.ids("cmd"), scope, self.executor.name, resume=True, queue=self._queue
        )
        self._resuming += 1
        try:
            await self._submit(begun)
        finally:
            self._resuming -= 1
            self._changed.set()

    def heed(self, event: AnyEvent) -> None:
        """Something was recorded by another's command and folded: it may be work."""
        if self._queue is not None:
            self._queue.heed(event)
        self._changed.set()

    async def _recover(self, group: TaskGroup, adopt: Sequence[Adoption]) -> None:
        for adoption in adopt:
            if adoption.lives:
                self._launch(group, adoption.started, adoption.assignment, adoption.report)
        async with anyio.create_task_group() as dead:
            for adoption in adopt:
                if not adoption.lives:
                    self._launch(dead, adoption.started, adoption.assignment, adoption.report)

    def _session(self) -> SessionStanding:
        return self.recorder.board.sessions.states[self.scope.session_id]

    def _out_of_work(self) -> SessionEnd:
        assert self._queue is not None
        held_back = self._queue.is_held_back(self.clock.now_us())
        return "held_back" if held_back else "nothing_eligible"

    def _pause_left_s(self) -> float | None:
        """How long to wait for a paused account, if it alone keeps the session from going on."""
        board, now_us = self.recorder.board, self.clock.now_us()
        session, total_ms = self._session(), self.scope.limits.total_ms_max
        until_us = paused_until_us(board, self.scope, now_us)
        if until_us is None or session.status != "running" or self._queue is None:
            return None
        if self._queue.next_ready(now_us) is None:
            return None
        left_us = until_us - now_us
        if total_ms:
            left_us = min(left_us, (total_ms - active_ms(session, now_us)) * 1000)
        return max(0, left_us) / 1e6

    async def _submit(self, command: Command) -> tuple[Record, ...]:
        receipt = await self.recorder.submit(command)
        self.tell(receipt.records)
        return receipt.records

    async def _feed(self, group: TaskGroup) -> SessionEnd:
        while True:
            self._changed = anyio.Event()
            started, asked_us = 0, self.clock.now_us()
            room = self.scope.limits.workers - len(self._running)
            if room > 0 and self._session().status == "running":
                started = await self._pick(group, room)
                if not started and self._pause_ended_since(asked_us):
                    continue  # the pick met a pause that is over now
            left_s = self._wait_s(asked_us)
            if not self._attended and not started and left_s is None and not self._resuming:
                return self._out_of_work()
            if len(self._running) >= self.scope.limits.workers:
                await self._changed.wait()  # the end of a pause changes nothing
            elif not started:
                await self._until_changed(asked_us)

    async def _until_changed(self, asked_us: int) -> None:
        """Until something has changed, or time alone may have changed something."""
        while not self._changed.is_set():
            left_s = self._wait_s(asked_us)
            with anyio.move_on_after(left_s) as waited:
                await self._changed.wait()
            was_due = left_s is not None and left_s < LONGEST_WAIT_S
            if waited.cancelled_caught and (was_due or not self.standing):
                return

    def _wait_s(self, asked_us: int) -> float | None:
        """How long to wait for time alone to change something; None when it will not.

        ``asked_us``: when the last pick was asked for.
        """
        if not self.standing:
            return self._pause_left_s()
        if self._session().status != "running" or self._queue is None:
            return None
        due_us = wakes_us(self.recorder.board, self._queue, self.scope, asked_us)
        return wait_s(due_us, self.clock.now_us())

    def _pause_ended_since(self, asked_us: int) -> bool:
        """Whether a pause of the session's account was in force then, and is over now."""
        board, now_us = self.recorder.board, self.clock.now_us()
        if paused_until_us(board, self.scope, now_us) is not None:
            return False
        return paused_until_us(board, self.scope, asked_us) is not None

    async def _pick(self, group: TaskGroup, room: int) -> int:
        assert self._queue is not None
        command = commands.pick(
            self.ids("cmd"),
            self.scope,
            self._queue,
            capacity=room,
            new_attempt_id=lambda: self.ids("att"),
        )
        started = 0
        for record in await self._submit(command):
            if record.type == "attempt.started":
                started += 1
                event = started_in(record)
                assignment = await assignment_for(self.recorder, event, self.scope, self.clock)
                self._launch(group, event, assignment, None)
        return started

    def _launch(
        self,
        group: TaskGroup,
        started: AttemptStarted,
        assignment: Assignment,
        report: TakeOver | None,
    ) -> None:
        self._running.add(started.attempt_id)
        self._attended.add(started.attempt_id)
        group.start_soon(self._attend, started, assignment, report)

    async def _attend(
        self,
        started: AttemptStarted,
        assignment: Assignment,
        report: TakeOver | None,
    ) -> None:
        """One attempt from its start to its last word in the log."""
        try:
            outcome = await self._execute(started, assignment, report)
            with anyio.CancelScope(shield=True):
                await self._close(started, assignment, outcome, adopted=report is not None)
        except anyio.get_cancelled_exc_class():
            # Another task failed.  The executor has ended this attempt: say so while the log can
            # still be written.  The guardian of an adopted one goes on, and so it stays open.
            if report is None:
                with anyio.CancelScope(shield=True), suppress(RunoffError):
                    ended = Report(ended="abandoned", duration_ms=0)
                    await self._close(started, assignment, ended, adopted=False)
            raise
        finally:
            self._attended.discard(started.attempt_id)
            self._free(started)

    def _free(self, started: AttemptStarted) -> None:
        """The attempt's worker is free, and the loop shall see to it."""
        self._running.discard(started.attempt_id)
        self._changed.set()

    async def _execute(
        self,
        started: AttemptStarted,
        assignment: Assignment,
        report: TakeOver | None,
    ) -> Report | Exception:
        async def told(process: Spawned) -> None:
            await self._submit(commands.spawned(started, process))

        try:
            if report is not None:
                return await report(self.stopping.abandon)
            watch = Watch(spawned=told, abandon=self.stopping.abandon)
            return await self.executor.run(assignment, watch)
        except RunoffError:
            raise
        except Exception as bug:  # noqa: BLE001  an executor's bug costs one attempt, not the drain
            return bug

    async def _close(
        self,
        started: AttemptStarted,
        assignment: Assignment,
        outcome: Report | Exception,
        *,
        adopted: bool,
    ) -> None:
        scope = self._scope_of(started)
        diagnosed = await self._diagnosed(assignment, outcome, scope, adopted=adopted)
        while scope != self._scope_of(started):  # another policy came into force meanwhile
            scope = self._scope_of(started)
            diagnosed = await self._diagnosed(assignment, outcome, scope, adopted=adopted)
        closing = self.recorder.enqueue(commands.finish(diagnosed, scope, self._queue))
        # Free before it is durable: the next pick is decided behind the end that makes room for
        # it, mostly in the same transaction.
        self._free(started)
        self.tell((await closing.answer()).records)

    async def _diagnosed(
        self,
        assignment: Assignment,
        outcome: Report | Exception,
        scope: Scope,
        *,
        adopted: bool,
    ) -> Diagnosed:
        policy = scope.policy
        found: Detectors = detectors(policy.detectors)
        work = partial(diagnose, outcome, assignment, policy, found, self.blobs, adopted=adopted)
        if self.in_threads:
            return await to_thread.run_sync(work, limiter=self._limiter)
        return work()

    def _scope_of(self, started: AttemptStarted) -> Scope:
        """An attempt is judged by the session that started it, also when another closes it."""
        if started.session_id == self.scope.session_id:
            return self.scope
        return scope_of(self.recorder.board.sessions.states[started.session_id])

    async def _heed_stop(self) -> None:
        await self.stopping.asked.wait()
        sentence = "A person asked the session to stop; running attempts may finish."
        await self._submit(commands.drain_now(self.ids("cmd"), self.scope, "interrupted", sentence))
        self._changed.set()
