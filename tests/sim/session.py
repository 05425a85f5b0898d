"""One simulated drain session: lives of engines over one log, and the checks after each."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, cast

import anyio
import msgspec

from engine.audit.chain import Chain, Row
from engine.audit.histories import Histories
from engine.audit.origins import Origins
from engine.audit.requests import Requests
from engine.calibration.estimator import shipped
from engine.detect.known_limits import KnownLimits
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts
from engine.drain.virtual import VirtualClock
from engine.errors import AppendRefused, Fenced, RunoffError
from engine.events import (
    AccountResumed,
    AnyEvent,
    BreakerReset,
    PhaseRegistered,
    PhaseRequeued,
    Record,
    RunReinstated,
)
from engine.ids import IdMaker
from engine.store.blobs import Blobs
from engine.store.command import Command, just
from engine.store.protocol import Query
from engine.store.recorder import TURNS, Recorder, Writer, recording
from engine.triage.eligible import phase_hindrance, run_hindrance
from engine.triage.policy import policy_from_json
from engine.triage.scope import Scope
from projections.board import Board
from projections.sessions import SessionStanding
from tests.sim.checker import Checker
from tests.sim.coverage import note
from tests.sim.edges import Violated
from tests.sim.faults import Disk, Handle
from tests.sim.plan import Plan
from tests.sim.processes import BOOT, FILES, HOST, Delivered, Machine, SimulatedExecutor
from tests.sim.rebuilt import Rebuilt, Redecided
from tests.sim.retries import Retries

START_US = 1_767_225_600_000_000
WRITER = Writer(HOST, BOOT, 1, "sim", "0")
EVENTS_MAX = 100_000
_FOLDER = TemporaryDirectory(prefix="runoff-sim-")
OUTPUT = Blobs(Path(_FOLDER.name))
"""Of all sessions, on the real disk: what detectors read of it must be there to be read again."""
THOROUGH_EVERY = 8
"""Sessions: of these the chain is hashed again and every projection rebuilt."""
WRITTEN_HERE = ("backlog.", "operator.")
ELSEWHERE = frozenset({"waits", "not_asked_for", "breaker_open", "slow_start"})
"""Hindrances that the engine looks for in other places."""

_decode = msgspec.json.Decoder(dict[str, object]).decode


class Violation(NamedTuple):
    """An invariant that does not hold, and the position where it shows (None: nowhere)."""

    what: str
    pos: int | None

    @property
    def invariant(self) -> str:
        """Its mark, such as S19."""
        return self.what.partition(":")[0]


@dataclass
class Outcome:
    """What a session came to; ``head`` is the last hash of its log, in hex."""

    seed: int
    violations: list[Violation]
    reached: Counter[str]
    attempts: int
    events: int
    head: str


@dataclass
class _Life:
    """One engine: how it sees the log, and what becomes of it."""

    handle: Handle
    executor: SimulatedExecutor
    retries: Retries | None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    error: Exception | None = None
    session: Scope | None = None
    board: Board | None = None
    has_rival: bool = False

    @property
    def died(self) -> bool:
        return self.handle.lost or self.handle.struck is not None

    def kill(self) -> None:
        """The process is gone, at this moment."""
        self.handle.lost = True
        self.scope.cancel()


class Session:
    """Everything that one seed makes."""

    def __init__(
        self, seed: int, *, everything: bool = False, limits: KnownLimits | None = None
    ) -> None:
        self.seed = seed
        self.limits = limits or KnownLimits()
        self.random = random.Random(seed)
        self.plan = Plan(self.random, everything=everything)
        self.disk = Disk()
        self.violations: list[Violation] = []
        self.machine = Machine(self.random, self.report, guarded=self.plan.guarded)
        self.reached = self.machine.reached
        self.asked_to_stop: set[str] = set()
        self.slack_us = round(self.plan.delay_s * 8e6)
        self._acknowledged: list[Record] = []
        self._chain = Chain(self.report)
        self._origins, self._requests = Origins(self.report), Requests(self.report)
        self._histories = Histories(self.report, Path(_FOLDER.name))
        self._is_thorough = seed % THOROUGH_EVERY == 0
        self._checker = Checker(self.report, self, closely=self._is_thorough)
        self._rebuilt = Rebuilt(self.report)
        self._redecided = Redecided(self.report, OUTPUT)
        self._checked = 0
        self._backlog = self.plan.backlog()
        self._phases = [each for each in self._backlog if isinstance(each, PhaseRegistered)]

    @property
    def delivered(self) -> dict[str, list[Delivered]]:
        """What engines were told, for the checker."""
        return self.machine.delivered

    def report(self, what: str, pos: int | None) -> None:
        """Note a violation."""
        self.violations.append(Violation(what, pos))

    async def run(self) -> Outcome:
        """All lives, until the session is over or an invariant is broken."""
        self.clock = VirtualClock(START_US)
        self.ids = IdMaker(self.clock.now_us, lambda: self.random.getrandbits(80))
        for life in range(self.plan.crashes):
            await self._crashing(resume=life > 0 or self.plan.chance(0.1))
            if not self.violations and self.plan.chance(0.25):
                await self._operate()
            if self.violations:
                break
        else:
            await self._last()
        return self._outcome()

    def let_go(self) -> None:
        """Forget all: who knows it is known by it, which the garbage collector would see to."""
        vars(self).clear()

    def stuck(self, why: str) -> Outcome:
        """What it came to when it could not end."""
        self.report(f"L5: {why}", None)
        return self._outcome()

    def _outcome(self) -> Outcome:
        log = self.disk.log
        head = log[-1].hash.hex() if log else ""
        attempts = len(self._checker.model.attempts)
        return Outcome(self.seed, self.violations, self.reached, attempts, len(log), head)

    # Lives

    def _new_life(self, *, faulty: bool) -> _Life:
        fault = self.plan.fault() if faulty else None
        handle = Handle(self.disk, fault, self.plan.delay_s)
        executor = SimulatedExecutor(self.machine, lambda: handle.lost, self._is_logged)
        retries = Retries(self.random, self.report) if self.plan.repeats else None
        life = _Life(handle, executor, retries)
        if faulty and fault is None:
            life.handle.killed_at_s = self.plan.moment_s()
        return life

    def _is_logged(self, attempt_id: str) -> bool:
        return attempt_id in self.disk.attempts

    async def _crashing(self, *, resume: bool) -> None:
        """A life that ends before its time, mostly."""
        if self.plan.has_rivals and not resume:
            await self._rivals(resume=resume)
            return
        life = self._new_life(faulty=True)
        await self._engine(life, resume=resume)
        if self.plan.chance(0.2):
            self.machine.reboot()
            self.reached["fault rebooted"] += 1
        await self._check(life)

    async def _rivals(self, *, resume: bool) -> None:
        """Two engines at once, of which the log lets one go on."""
        lives = [self._new_life(faulty=False) for _ in range(2)]

        async def second() -> None:
            await anyio.sleep(self.plan.moment_s() / 2)
            await self._engine(lives[1], resume=True)

        for life in lives:
            life.has_rival = True
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            await self._engine(lives[0], resume=resume)
        if all(life.error and all(map(_is_fence, leaves(life.error))) for life in lives):
            self.report("L4: two engines have fenced each other", None)
        for life in lives:
            await self._check(life)

    async def _last(self) -> None:
        """The life that ends as it should; now and then an operator and another session follow."""
        resume = self.plan.crashes > 0 and self.plan.chance(0.7)
        while True:
            life = self._new_life(faulty=False)
            await self._engine(life, resume=resume)
            await self._check(life)
            if self.violations or not self.plan.chance(0.2):
                break
            await self._operate()
            resume = self.plan.chance(0.5)
        ended = life.session.session_id if life.session and not life.error else None
        self._checker.close(ended)
        self._histories.close()
        if self._histories.open_attempts:
            self.report("L1: attempts are open after the last life", None)
        if self.machine.living():
            self.report("L7: processes live after the last life", None)
        for name, count in self._checker.hindrances.items():
            self.reached[f"hindrance {name}"] += count

    async def _engine(self, life: _Life, *, resume: bool) -> None:
        """One engine from its first look at the log to its end."""
        try:
            with life.scope, self._killing(life):
                turns = self.seed // THOROUGH_EVERY % (TURNS + 1)
                store = life.handle.store
                async with recording(store, self.clock, WRITER, turns=turns) as recorder:
                    if not recorder.head.pos:
                        await self._register(recorder)
                    if life.retries is not None:
                        life.retries.watch(recorder)
                    await self._drain(life, recorder, resume=resume)
        except Exception as error:  # noqa: BLE001  judged in _check
            life.error = error

    @contextmanager
    def _killing(self, life: _Life) -> Generator[None]:
        if life.handle.killed_at_s is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(life.handle.killed_at_s, life.kill)
        try:
            yield
        finally:
            timer.cancel()

    async def _drain(self, life: _Life, recorder: Recorder, *, resume: bool) -> None:
        board = recorder.board
        session = self._resumable(board) if resume else None
        scope = self._new_scope() if session is None else self._old_scope(session)
        drain = Drain(
            recorder=recorder,
            executor=life.executor,
            scope=scope,
            clock=self.clock,
            ids=self.ids,
            blobs=OUTPUT,
            tell=self._acknowledged.extend,
            in_threads=False,
            coefficients=shipped(),
            limits=self.limits,
        )
        end = self.plan.chance(0.2) or (session is None and not self.plan.everything)
        adopt = await open_attempts(recorder, self.clock, end=end, files_root=FILES)
        stopping = drain.stopping
        try:
            with self._person(drain):
                await drain.run(resume=session is not None, adopt=adopt)
        finally:
            vars(drain).clear()  # who attends it knows it: see ``let_go``
        life.session, life.board = scope, board
        if stopping.abandon.is_set() and self.machine.living():
            self.report("L5: the session was abandoned, and its attempts go on", None)

    @contextmanager
    def _person(self, drain: Drain) -> Generator[None]:
        """Somebody who may ask the session to stop, and may lose patience then."""
        if not self.plan.chance(0.1):
            yield
            return
        loop, at_s = asyncio.get_running_loop(), self.plan.moment_s()
        timers = [loop.call_later(at_s, self._ask_to_stop, drain)]
        if self.plan.chance(0.5):
            timers.append(loop.call_later(at_s + self.plan.moment_s() / 8, self._abandon, drain))
        try:
            yield
        finally:
            for timer in timers:
                timer.cancel()

    def _ask_to_stop(self, drain: Drain) -> None:
        self.asked_to_stop.add(drain.scope.session_id)
        self.reached["fault stopped"] += 1
        drain.stopping.asked.set()

    def _abandon(self, drain: Drain) -> None:
        self.reached["fault abandoned"] += 1
        drain.stopping.abandon.set()
        self.machine.heed()

    def _new_scope(self) -> Scope:
        scope = Scope(self.ids("ses"), self.plan.policy(), self.plan.limits(self._phases))
        return self._without_the_rest(scope)

    def _old_scope(self, session: SessionStanding) -> Scope:
        assert session.limits is not None
        policy = policy_from_json(session.policy_json)
        if self.plan.chance(0.1):
            policy = self.plan.policy()
        scope = Scope(session.session_id, policy, self.plan.resumed(session.limits))
        return self._without_the_rest(scope)

    def _without_the_rest(self, scope: Scope) -> Scope:
        """See ``plan.ON_DEMAND``."""
        if self.plan.everything or scope.policy.provider_pause_ms is None:
            return scope
        limits = msgspec.structs.replace(scope.limits, total_ms_max=None)
        return Scope(scope.session_id, scope.policy, limits)

    def _resumable(self, board: Board) -> SessionStanding | None:
        """As ``runoff drain --resume`` finds it, and now and then an older one."""
        if not self.plan.everything:
            newest = next(reversed(list(board.sessions.values())), None)
            has_ended = newest is None or newest.because == "nothing_eligible"
            return None if has_ended else newest
        found = [
            session
            for session in board.sessions.values()
            if session.limits
            and not (session.status == "ended" and session.because == "nothing_eligible")
        ]
        if not found:
            return None
        return found[-1] if self.plan.chance(0.9) else self.random.choice(found)

    # The operator, and what is recorded outside sessions

    async def _register(self, recorder: Recorder) -> None:
        await recorder.submit(Command("backlog", "backlog", b"", just(*self._backlog)))

    async def _operate(self) -> None:
        """Reinstate runs, requeue phases, reset breakers and resume accounts, some time later."""
        await anyio.sleep(self.plan.moment_s() / 2)
        async with recording(Handle(self.disk).store, self.clock, WRITER) as recorder:
            for event in self._acts(recorder.board):
                await recorder.submit(Command(self.ids("cmd"), "operator", b"", just(event)))
        await self._check(None)

    def _acts(self, board: Board) -> list[AnyEvent]:
        acts: list[AnyEvent] = [
            RunReinstated(run_id=run.run_id, generation=run.generation + 1, by="sim", why="try")
            for run in board.runs.values()
            if run.standing != "unsampled" and self.plan.chance(0.4)
        ]
        acts += [
            PhaseRequeued(run_id=phase.run_id, phase_id=phase.phase_id, by="sim", why="try")
            for phase in board.backlog.values()
            if phase.open_attempt is None and self.plan.chance(0.2)
        ]
        acts += [
            BreakerReset(session_id=b.session_id, fingerprint=b.fingerprint, by="sim", why="try")
            for b in board.breakers.values()
            if b.opened_pos is not None and self.plan.chance(0.3)
        ]
        acts += [
            AccountResumed(account=account.account, by="sim", why="try")
            for account in board.accounts.values()
            if self.plan.chance(0.3)
        ]
        return acts

    # Checks after a life

    async def _check(self, life: _Life | None) -> None:
        records = await self.disk.records(Query(), after=self._checked, limit=EVENTS_MAX)
        self._checked += len(records)
        for record in records:
            event = _decode(record.data)
            if self._is_thorough:
                self._chain.take(Row._make(record), event)
                self._prove(Row._make(record), event)
            self._histories.take(record.pos, record.cause, event)
            self._checker.take(record, event)
            note(self.reached, record, event)
        self._checker.life_over()
        self._requests.close()
        if self._is_thorough:
            await self._rebuilt.take(self.disk, records)
            self._redecided.take(records)
        self._check_acknowledged()
        if life is not None:
            if life.retries is not None:
                life.retries.settle(died=life.died or life.error is not None)
            self._check_life(life)

    def _prove(self, row: Row, event: dict[str, Any]) -> None:
        """S36 and S37 raise no false alarm; what the simulation registers and says is its own."""
        if not row.type.startswith(WRITTEN_HERE):
            self._origins.take(row, event)
            part = (row.type, row.attempt, row.data)
            self._requests.take(row.pos, row.command_id, row.request, part)

    def _check_acknowledged(self) -> None:
        """D1: what was acknowledged is in the log."""
        log = self.disk.log
        for record in self._acknowledged:
            if record.pos > len(log) or log[record.pos - 1].hash != record.hash:
                self.report("D1: an acknowledged event is not in the log", record.pos)
        self._acknowledged.clear()

    def _check_life(self, life: _Life) -> None:
        self._note_fault(life)
        if life.error is not None:
            self._judge(life, life.error)
        elif life.board is not None and life.session is not None and not life.died:
            if self._is_thorough:
                self._rebuilt.compare_board(life.board)
            self._check_hindrances(life.board, life.session)

    def _note_fault(self, life: _Life) -> None:
        if life.handle.struck:
            self.reached[f"fault {life.handle.struck}"] += 1
        elif life.handle.lost:
            self.reached["fault killed"] += 1
        elif life.has_rival and life.error is not None:
            self.reached["fault fenced"] += 1

    def _judge(self, life: _Life, error: Exception) -> None:
        """Whether an engine ended by an error because it had to."""
        for leaf in leaves(error):
            violated = _violated(leaf)
            if violated is not None:
                self.report(str(violated), None)
            elif not _is_due(life, leaf):
                self.report(f"E: the drain failed: {type(leaf).__name__}: {leaf!s:.300}", None)

    def _check_hindrances(self, board: Board, scope: Scope) -> None:
        """What the engine says hinders a phase is what does."""
        if board.head.pos != len(self.disk.log):
            return  # a rival went on without it
        model = self._checker.model
        session = model.sessions[scope.session_id]
        for phase in board.backlog.values():
            run = board.runs.states[phase.run_id]
            told = run_hindrance(run, scope) or phase_hindrance(phase, scope)
            known = model.runs[phase.run_id].phases[phase.phase_id]
            found = model.hindrance(known, session, self.clock.now_us())
            if told != found and found not in ELSEWHERE:
                self.report(f"L4: {phase.phase_id} is said to be {told}, and is {found}", None)


def _is_due(life: _Life, leaf: BaseException) -> bool:
    if life.died:
        return isinstance(leaf, RunoffError)
    return life.has_rival and _is_fence(leaf)


def _is_fence(leaf: BaseException) -> bool:
    """What an engine is told when another one has gone on; it may see that one's commands first."""
    return isinstance(leaf, Fenced | AppendRefused)


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, or the error itself."""
    found = cast("tuple[BaseException, ...] | None", getattr(error, "exceptions", None))
    if found is None:
        yield error
    for each in found or ():
        yield from leaves(each)


def _violated(error: BaseException | None) -> Violated | None:
    while error is not None and not isinstance(error, Violated):
        error = error.__cause__
    return error
