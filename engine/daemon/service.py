"""The service: one session after the other over one log, for as long as the process lives.

It waits for events and never asks around: a commit, a control request, a signal or a due moment
wakes it.  What it waits for is always worked out anew, so nothing depends on what woke it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf

import anyio

from engine import __version__
from engine.calibration.estimator import Coefficients
from engine.clock import Clock
from engine.daemon.answers import SERVER_AWAY, Pulse, State, Status, state_of, status_of
from engine.daemon.intake import Intake
from engine.daemon.notify import Notifier
from engine.daemon.orders import Orders
from engine.daemon.resting import (
    Rest,
    Sight,
    Windows,
    closes_us,
    hold_of,
    rest_of,
    scope_for,
    session_to_go_on,
)
from engine.daemon.settings import Plan
from engine.daemon.telling import Teller
from engine.detect.known_limits import KnownLimits
from engine.drain.adoptions import Adoption
from engine.drain.joining import joined, notice_the_dead, watching
from engine.drain.last_words import Unrecorded
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts, swept
from engine.drain.sharing import following
from engine.drain.stopping import Stopping
from engine.drain.tidying import Tidying
from engine.errors import LogHeld, RunoffError, UsageProblem
from engine.events import AnyEvent, Record
from engine.executors.port import Executor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.leases import BEATS_PER_LEASE, LEASE_S
from engine.store.location import Location
from engine.store.recorder import Recorder
from engine.triage.waking import wait_s
from projections.sessions import SessionStanding

SETTLE_S = 2.0
"""How long whoever asks waits for a commit; one that takes longer shall not hide the daemon."""
BREATH_S = 1.0
"""Between a part of a session that did nothing and the next: whatever rests on a mistake of ours or
on odd settings shall not fill the log with sessions."""
PATIENCE_S = 2.0
"""How long a server may be away before that is told: one that is restarted is back by then."""
BEAT_S = LEASE_S / BEATS_PER_LEASE
HELD = ("paused", "window_closed", "day_budget")


@dataclass
class Service:
    """Drains until it is told to stop.

    ``load`` reads policy and settings again and raises UsageProblem for what cannot be meant.
    ``end_open``: attempts of a dead engine are ended instead of waited for.  ``gone``: machines
    that a person says are gone for good, with what ran there.  ``place``: where the
    log and the files of attempts are, None where nothing outlives an engine (simulations).
    ``coefficients`` reads what to estimate with for each part of a session.  ``tidying``: removes
    old files meanwhile.  ``heed``: is shown what is recorded, too.  ``in_threads``, ``blobs``: as
    in ``Drain``.
    """

    recorder: Recorder
    executor: Executor
    clock: Clock
    ids: IdMaker
    blobs: BlobStore | None
    load: Callable[[], Plan]
    plan: Plan
    teller: Teller
    notifier: Notifier
    end_open: bool = False
    gone: frozenset[str] = frozenset()
    in_threads: bool = True
    place: Location | None = None
    coefficients: Callable[[], Awaitable[Coefficients | None]] | None = None
    tidying: Tidying | None = None
    heed: Callable[[tuple[Record, ...]], None] | None = None
    stopping: Stopping = field(default_factory=Stopping)

    def __post_init__(self) -> None:
        self._drain: Drain | None = None
        self._orders = Orders(self.recorder, self.ids, self.teller)
        self.intake = Intake(self.recorder, self.ids, self.teller, self._heed, self._stir)
        """Takes in what is handed to it for the log."""
        self._limits = KnownLimits()
        self._halted = False
        self._ready = False
        self._cut_off = False
        self._over = anyio.Event()
        self._stirred = anyio.Event()
        self._started_us = self.clock.now_us()
        self._mine: frozenset[str] = frozenset()
        self._coefficients: Coefficients | None = None
        self._windows = Windows()
        self.unrecorded: list[Unrecorded] = []

    async def open(self) -> None:
        """Take up what a person said last, and record by what it goes; before anybody may ask."""
        await self._orders.recall()
        await self._orders.configured(self.plan, anew=False)

    async def run(self) -> None:
        """Recover, then drain and rest by turns, until told to stop; all attempts are closed."""
        adopt = await self._left_behind()
        async with anyio.create_task_group() as group:
            group.start_soon(self._mind)
            group.start_soon(self._end_with_the_writer)
            group.start_soon(self._tell_of_the_server)
            group.start_soon(self._bound_the_stop)
            group.start_soon(self._leave)
            if self.tidying is not None:
                group.start_soon(self.tidying.run)
            group.start_soon(self.notifier.keep_up)
            await self._go_on(adopt)
            self.recorder.leaving.begin()
            self._over.set()
            group.cancel_scope.cancel()

    # What is asked of it from outside

    def status(self) -> Status:
        """How it stands now."""
        return status_of(self.pulse(), self.plan, self.recorder.board, self._rest())

    async def settle(self) -> bool:
        """Wait a moment until what there is to show is in the log; whether it is."""
        try:
            if self.recorder.store.is_shared and self._drain is None:
                # Nobody follows the others between parts; a server that is away is shown as it was.
                with anyio.move_on_after(SETTLE_S):
                    await self.recorder.submit(following(self.ids("cmd")))
            with anyio.fail_after(SETTLE_S):
                await self.recorder.settled()
        except (TimeoutError, RunoffError):
            return False
        return True

    def pulse(self) -> Pulse:
        """What it knows of itself, which costs no look at the backlog."""
        drain = self._drain
        return Pulse(
            pid=os.getpid(),
            version=__version__,
            started_us=self._started_us,
            now_us=self.recorder.time_us,
            epoch=self.recorder.epoch,
            session_id=drain.scope.session_id if drain else None,
            is_ready=self._ready,
            is_cut_off=self._cut_off,
            is_stopping=self.stopping.asked.is_set(),
        )

    @property
    def state(self) -> State:
        """Whether it runs, or why not."""
        return state_of(self.pulse(), self._rest())[0]

    @property
    def is_ready(self) -> bool:
        """Whether attempts of dead engines are seen to, and it can work and is to go on."""
        return self._is_up and not self._cut_off

    @property
    def _is_up(self) -> bool:
        """What a service manager is told of: it need do nothing about a server that is away."""
        return self._ready and not self.stopping.asked.is_set()

    async def pause(self, by: str, why: str) -> None:
        """Start nothing more until resumed, over restarts, too; nothing happens if it rests so."""
        if self._orders.pause is None:
            await self._orders.to_pause(by, why)
            await self._direct(self._rest())
        self._stir()

    async def resume(self, by: str, why: str) -> None:
        """Go on after a pause or a halt; nothing happens if there is none."""
        if self._orders.pause is not None or self._halted:
            self._halted = False
            await self._orders.to_resume(by, why)
        self._stir()

    async def reload(self) -> None:
        """Read policy and settings again.  Raises UsageProblem and keeps the old if it cannot."""
        was_ready = self._is_up
        if was_ready:
            self.notifier.reloading()
        try:
            self.plan = self.load()
            self._halted = False
            await self._orders.configured(self.plan, anew=True)
            await self._direct(self._rest())
        finally:
            if was_ready and self._is_up:
                self.notifier.ready()
            self._stir()

    async def reload_or_complain(self) -> None:
        """The same for whom no one listens to: what is wrong goes to the log lines, once."""
        try:
            await self.reload()
        except RunoffError as error:
            text = f"{error.problem} Everything stays as it was; {error.remedy}"
            self.teller.complain("daemon.reload_failed", text)

    def stop(self) -> None:
        """Start nothing more, let attempts finish within the bound, then end."""
        self._stop("Running attempts may finish.")

    def abandon(self) -> None:
        """End the attempts now."""
        self._stop("Running attempts are ended now.")
        self.stopping.abandon.set()

    def _stop(self, text: str) -> None:
        if not self.stopping.asked.is_set():
            self.teller.say("daemon.stopping", text)
        self.stopping.asked.set()
        self.notifier.stopping()
        self._stir()

    # Its life

    async def _go_on(self, adopt: Sequence[Adoption]) -> None:
        rest = self._rest()
        if adopt and rest is not None:
            await self._stretch(adopt, rest)
            adopt = ()
        while not self.stopping.asked.is_set():
            if self._rest() is None:
                await self._stretch(adopt, None)
                adopt = ()
            elif left := await self._rested():
                await self._stretch(left.adopt, left.rest)

    async def _rested(self) -> Sight | None:
        """Rest until it is over, or dead engines have left something that nobody else sees to."""
        async with watching(self.place, self.recorder, self.clock, self.ids) as share:
            while not self.stopping.asked.is_set():
                stirred, rest = self._stirred, self._rest()
                if rest is None:
                    break
                if share is not None:
                    await share.look()
                    left = await share.left_alone()
                    if left.here or left.over:
                        return Sight(left.over, rest)
                self._be_ready()
                self.notifier.status(f"{rest.cause}: {rest.sentence}")
                await self._wait(stirred, rest.until_us, BEAT_S if share else inf)
        return None

    async def _left_behind(self) -> list[Adoption]:
        """What dead engines left; of a shared log that is only known once a session has joined."""
        if self.recorder.store.is_shared:
            return []
        if self.place is not None:
            for left in await swept(self.recorder, self.place.beside("files")):
                text = f"Ended process {left.pid}, left over from an attempt that is closed."
                self.teller.say("daemon.swept", text, pid=left.pid)
        return await self._open_attempts(gone=self.gone)

    async def _open_attempts(
        self, *, among: frozenset[str] | None = None, gone: frozenset[str] = frozenset()
    ) -> list[Adoption]:
        return await open_attempts(
            self.recorder,
            self.clock,
            end=self.end_open,
            among=among,
            gone=gone,
            files_root=None if self.place is None else self.place.beside("files"),
            tell=self._tell,
        )

    async def _stretch(self, adopt: Sequence[Adoption], rest: Rest | None) -> None:
        """One part of a session: until it ends, or rests and nothing of it runs any more."""
        if self.place is not None:
            await notice_the_dead(self.place, self.recorder, self.clock, self.ids)
        mine = self._mine if self.recorder.store.is_shared else None
        session = session_to_go_on(self.recorder.board, self.plan, mine, socket.gethostname())
        try:
            await self._part(session, adopt, rest)
        except LogHeld:
            if session is None:
                raise
            # Another engine went on with it before us; one that rests leaves all to that.
            if rest is None:
                await self._part(None, adopt, rest)

    async def _part(
        self, session: SessionStanding | None, adopt: Sequence[Adoption], rest: Rest | None
    ) -> None:
        self._drain = drain = Drain(
            recorder=self.recorder,
            executor=self.executor,
            scope=scope_for(session, self.plan, self.ids("ses")),
            clock=self.clock,
            ids=self.ids,
            blobs=self.blobs,
            tell=self._tell,
            stopping=self.stopping,
            in_threads=self.in_threads,
            coefficients=await self._to_estimate_with(),
            standing=True,
            limits=self._limits,
            before_pick=self._heed_the_clock,
        )
        self.unrecorded = drain.unrecorded
        async with joined(self.place, drain, end=self.end_open) as among:
            self._mine |= {drain.scope.session_id}
            if among is not None:
                adopt = [*adopt, *await self._open_attempts(among=among)]
            because = await drain.run(
                resume=session is not None, adopt=adopt, ready=self._begun, hold=hold_of(rest)
            )
        self._drain = None
        self._halted = self._halted or because == "zero_yield_streak"
        begun = self.recorder.board.sessions.states[drain.scope.session_id].attempts
        if not adopt and begun == (session.attempts if session is not None else 0):
            await self._wait(self._stirred, None, BREATH_S)

    async def _to_estimate_with(self) -> Coefficients | None:
        """Read anew for each part; what cannot be meant changes nothing but is complained of."""
        if self.coefficients is None:
            return None
        try:
            self._coefficients = await self.coefficients()
        except UsageProblem as error:
            if self._coefficients is None:
                raise
            text = f"{error.problem} The old ones stay in force; {error.remedy}"
            self.teller.complain("daemon.coefficients_failed", text)
        return self._coefficients

    async def _mind(self) -> None:
        """Hold the session when it is to rest, let it go on when not, and by the present plan."""
        while True:
            stirred, rest = self._stirred, self._rest()
            await self._direct(rest)
            due_us = rest.until_us if rest else closes_us(self.plan, self.clock.now_us())
            await self._wait(stirred, due_us)

    async def _direct(self, rest: Rest | None) -> None:
        drain = self._drain
        session = drain.standing_of_session if drain is not None else None
        if drain is None or session is None or self.stopping.asked.is_set():
            return
        hold, planned = hold_of(rest), scope_for(session, self.plan, "")
        if session.status == "running":
            if hold is not None:
                await drain.hold(hold)
            elif drain.scope != planned:
                await drain.go_on(planned)
        elif rest is None and session.status == "draining" and session.because in HELD:
            await drain.go_on(planned)

    async def _heed_the_clock(self) -> None:
        """It may have been set, or the machine have slept, while it was waited for a moment."""
        if self._windows.leave_open(self.plan, self.clock.now_us()):
            return
        await self._direct(self._rest())
        self._stir()

    async def _wait(self, stirred: anyio.Event, due_us: int | None, limit_s: float = inf) -> None:
        """Until something stirs or a moment is due; never long, for clocks may be set."""
        with anyio.move_on_after(min(limit_s, wait_s(due_us, self.clock.now_us()))):
            await stirred.wait()

    async def _end_with_the_writer(self) -> None:
        """Without it a daemon that has nothing to record would seem to be well for ever."""
        raise await self.recorder.until_failed()

    async def _tell_of_the_server(self) -> None:
        """Who looks at a daemon that waits shall see for what."""
        leaving = self.recorder.leaving
        while True:
            await leaving.until_cut_off(cut_off=True)
            with anyio.move_on_after(PATIENCE_S):
                await leaving.until_cut_off(cut_off=False)
                continue
            self._cut_off = True
            self.teller.complain("daemon.server_away", SERVER_AWAY)
            self.notifier.status(f"server_away: {SERVER_AWAY}")
            await leaving.until_cut_off(cut_off=False)
            self._cut_off = False
            self.teller.say("daemon.server_back", "The log's server can be reached again.")
            self.notifier.status("The log's server can be reached again.")

    async def _bound_the_stop(self) -> None:
        await self.stopping.asked.wait()
        with anyio.move_on_after(self.plan.settings.stop_seconds):
            await self._over.wait()
        self.stopping.abandon.set()

    async def _leave(self) -> None:
        """Between attempts, too, a stop waits for no silent server."""
        await self.stopping.asked.wait()
        if self._drain is not None:
            await self._drain.until_quiet()
        self.recorder.leaving.begin()

    def _rest(self) -> Rest | None:
        now_us, log_us = self.clock.now_us(), self.recorder.time_us
        board, pause = self.recorder.board, self._orders.pause
        return rest_of(self.plan, board, pause, now_us, log_us, halted=self._halted)

    def _be_ready(self) -> None:
        if not self._ready:
            self._ready = True
            self.notifier.ready()
            self.teller.say("daemon.ready", "Ready.")

    def _begun(self) -> None:
        self._be_ready()
        self._stir()

    def _stir(self) -> None:
        stirred, self._stirred = self._stirred, anyio.Event()
        stirred.set()

    def _heed(self, event: AnyEvent) -> None:
        if self._drain is not None:
            self._drain.heed(event)

    def _tell(self, records: tuple[Record, ...]) -> None:
        self.teller.records(records)
        if self.heed is not None:
            self.heed(records)
        drain = self._drain
        session = drain.standing_of_session if drain is not None else None
        if any(record.type == "session.draining" for record in records):
            self._stir()
        if session is not None:
            self.notifier.status(f"{session.open} running, {session.attempts} attempts")
