"""The loop: keeps the workers busy until the session ends.

Workers never decide: they run what was picked and hand back facts.  The loop asks the writer for
as many picks as there is room, waits until something ends, and asks again.  A standing session (a
daemon's) does not end for lack of work: it waits until something may have changed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from engine.calibration.estimator import Coefficients
from engine.clock import Clock
from engine.detect.known_limits import KnownLimits
from engine.drain import commands
from engine.drain.adoptions import Adoption
from engine.drain.attendance import Attendance
from engine.drain.last_words import Unrecorded
from engine.drain.patience import Patience
from engine.drain.read_ahead import ReadAhead
from engine.drain.sheets import assignment_for, started_in
from engine.drain.stopping import Hold, Stopping
from engine.events import AnyEvent, AttemptStarted, Record, Seen, SessionEnd
from engine.executors.port import Executor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.command import Command
from engine.store.recorder import Recorder
from engine.triage.hosts import host_is_full, is_full
from engine.triage.picking import active_ms
from engine.triage.scope import Scope, scope_of
from engine.triage.select import Queue, paused_until_us
from engine.triage.waking import LONGEST_WAIT_S, wait_s, wakes_us
from projections.sessions import SessionStanding

ESTIMATED = "attempt.estimated"


async def _nothing() -> None:
    """Nobody holds it."""


@dataclass
class Drain:
    """One session over one log.

    ``tell`` is called with the records of every committed command, in log order per command.
    ``blobs`` None keeps no output (simulations).  ``in_threads`` False diagnoses on the loop,
    which a virtual clock needs.  ``coefficients`` None estimates nothing.  ``standing``: wait for
    work instead of ending without.  ``limits``: those found in what children said, for who runs
    one session after the other.  ``before_pick``: may hold the session before anything is picked.
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
    coefficients: Coefficients | None = None
    standing: bool = False
    limits: KnownLimits = field(default_factory=KnownLimits)
    before_pick: Callable[[], Awaitable[None]] = _nothing

    def __post_init__(self) -> None:
        self._changed = anyio.Event()
        self._attendance = Attendance(
            recorder=self.recorder,
            executor=self.executor,
            stopping=self.stopping,
            blobs=self.blobs,
            tell=self.tell,
            scope_of=self._scope_of,
            free=self._stir,
            in_threads=self.in_threads,
            limits=self.limits,
        )
        self._queue: Queue | None = None
        self._ahead = ReadAhead(self.recorder.store)
        self._patience = Patience(self.clock)
        self._resuming = 0
        self._is_over = False
        self._group: TaskGroup | None = None

    @property
    def is_under_way(self) -> bool:
        """Whether it picks, and can take over what others leave."""
        return self._group is not None

    @property
    def attended(self) -> frozenset[str]:
        """The attempts that it stays with."""
        return self._attendance.attended

    @property
    def unrecorded(self) -> list[Unrecorded]:
        """Ends that a full disk kept out of the log."""
        return self._attendance.unrecorded

    def adopt(self, adoptions: Sequence[Adoption]) -> None:
        """Take over attempts of an engine that died while this one runs."""
        for adoption in adoptions:
            if self._group is not None and adoption.started.attempt_id not in self.attended:
                self._launch(self._group, adoption)

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
        begun = commands.begin(
            self.ids("cmd"),
            self.scope,
            self.executor.name,
            resume=resume,
            coefficients=self.coefficients,
        )
        await self._submit(begun)
        self._queue = self._attendance.queue = Queue(self.recorder.board, self.scope)
        with self.recorder.followed_by(self._follow, self._relearn):
            if hold is not None:
                await self.hold(hold)
            because = await self._work(adopt, ready)
        await self._submit(commands.end(self.ids("cmd"), self.scope, because))
        return self._session().because or because

    async def _work(self, adopt: Sequence[Adoption], ready: Callable[[], None]) -> SessionEnd:
        because: SessionEnd = "interrupted"
        async with anyio.create_task_group() as group:
            group.start_soon(self._heed_stop)
            group.start_soon(self._attendance.tell_begun)
            await self._recover(group, adopt)
            ready()
            self._group = group
            because = await self._feed(group)
            self._is_over = True
            self._group = None
            group.cancel_scope.cancel()
        return because

    @property
    def standing_of_session(self) -> SessionStanding | None:
        """How its session stands, None before it has begun and once it ends."""
        return self._session() if self._queue is not None and not self._is_over else None

    async def hold(self, why: Hold) -> None:
        """Start nothing more; once what runs has ended, so has this part of the session."""
        command = commands.drain_now(self.ids("cmd"), self.scope, why.because, why.sentence)
        await self._submit(command)
        self._stir()

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
            self._stir()

    def heed(self, event: AnyEvent) -> None:
        """Something was recorded by another's command and folded: it may be work, or less of it."""
        if self._queue is not None:
            self._queue.heed(event)
        self._stir()

    def _follow(self, seen: Seen) -> None:
        self.heed(seen.event)

    def _relearn(self) -> None:
        """What was decided last never was recorded, and it will be decided anew."""
        assert self._queue is not None
        self._queue.renew(self.scope)
        self._stir()

    async def _recover(self, group: TaskGroup, adopt: Sequence[Adoption]) -> None:
        for adoption in adopt:
            if adoption.lives:
                self._launch(group, adoption)
        async with anyio.create_task_group() as dead:
            for adoption in adopt:
                if not adoption.lives:
                    self._launch(dead, adoption)

    def _session(self) -> SessionStanding:
        return self.recorder.board.sessions.states[self.scope.session_id]

    def _out_of_work(self) -> SessionEnd:
        assert self._queue is not None
        return self._queue.out_of_work(self.recorder.time_us)

    def _held_left_s(self) -> float | None:
        """How long to wait for a paused account or for others, if nothing else holds us up."""
        board, now_us = self.recorder.board, self.recorder.time_us
        session, total_ms = self._session(), self.scope.limits.total_ms_max
        assert self._queue is not None
        until_us = paused_until_us(board, self.scope, now_us)
        # In a log of our own, what fills session or host, or probes a breaker, is attended by us.
        is_shared = self.recorder.store.is_shared
        probed = is_shared and self._queue.awaits_a_probe(now_us)
        no_room = is_full(session, self.scope) or host_is_full(board, self.scope)
        if until_us is None and is_shared and (probed or no_room):
            until_us = now_us + round(LONGEST_WAIT_S * 1e6)
        if until_us is None or (not probed and self._queue.next_ready(now_us) is None):
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
            started, asked_us = 0, self.recorder.time_us
            room = self.scope.limits.workers - self._attendance.busy
            if room > 0 and self._session().status == "running":
                started = await self._pick(group, room)
                if not started and self._pause_ended_since(asked_us):
                    continue  # the pick met a pause that is over now
            left_s = self._wait_s(asked_us)
            if not self.attended and not started and left_s is None and not self._resuming:
                return self._out_of_work()
            if self._attendance.busy >= self.scope.limits.workers:
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
        left_s, patience_s = self._due_s(asked_us), self._patience.left_s()
        if patience_s is None or self._session().status != "running":
            return left_s
        return patience_s if left_s is None else min(left_s, patience_s)

    def _due_s(self, asked_us: int) -> float | None:
        if self._session().status != "running" or self._queue is None:
            return None
        held_s = None if self.standing else self._held_left_s()
        if not (self.standing or self.attended):
            return held_s  # few moments are worth waiting for with nothing at work
        due_us = wakes_us(self.recorder.board, self._queue, self.scope, asked_us)
        if due_us is None and not self.standing:
            return held_s
        due_s = wait_s(due_us, self.recorder.time_us)
        return due_s if held_s is None else min(held_s, due_s)

    def _pause_ended_since(self, asked_us: int) -> bool:
        """Whether a pause of the session's account was in force then, and is over now."""
        board, now_us = self.recorder.board, self.recorder.time_us
        if paused_until_us(board, self.scope, now_us) is not None:
            return False
        return paused_until_us(board, self.scope, asked_us) is not None

    async def _pick(self, group: TaskGroup, room: int) -> int:
        await self.before_pick()
        assert self._queue is not None
        board, turn = self.recorder.board, None
        if self.recorder.store.is_shared:
            turn = self._patience.turn(board, self._queue, self.scope, room)
        command = commands.pick(
            self.ids("cmd"),
            self.scope,
            self._queue,
            capacity=room,
            new_attempt_id=lambda: self.ids("att"),
            coefficients=self.coefficients,
            turn=turn,
        )
        records = await self._submit(command)
        self._patience.heed(board, turn)
        estimates = {record.attempt: record for record in records if record.type == ESTIMATED}
        started = 0
        for record in records:
            if record.type == "attempt.started":
                started += 1
                event = started_in(record)
                estimated = estimates.get(record.attempt)
                assignment = await assignment_for(
                    self.recorder,
                    event,
                    self.scope,
                    self.clock,
                    estimated=estimated,
                    ahead=self._ahead,
                )
                self._attendance.attend(group, event, assignment)
        return started

    def _launch(self, group: TaskGroup, adoption: Adoption) -> None:
        self._attendance.attend(group, adoption.started, adoption.assignment, adoption.report)

    def _stir(self) -> None:
        """Something may have changed: the loop shall see to it."""
        self._changed.set()

    def _scope_of(self, started: AttemptStarted) -> Scope:
        """An attempt is judged by the session that started it, also when another closes it."""
        if started.session_id == self.scope.session_id:
            return self.scope
        return scope_of(self.recorder.board.sessions.states[started.session_id])

    async def until_quiet(self) -> None:
        """Until no attempt is at work; what is left then is to say how they ended."""
        await self._attendance.until_quiet()

    async def leave(self) -> None:
        """From there on a stop waits for no silent server: the next engine knows what is left.

        To be run beside ``run`` and all that comes behind it, for those who do nothing else.
        """
        await self.stopping.asked.wait()
        await self.until_quiet()
        self.recorder.leaving.begin()

    async def _heed_stop(self) -> None:
        await self.stopping.asked.wait()
        sentence = "A person asked the session to stop; running attempts may finish."
        await self._submit(commands.drain_now(self.ids("cmd"), self.scope, "interrupted", sentence))
        self._stir()
