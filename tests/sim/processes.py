"""Simulated processes: an executor whose guardians outlive its engine, as real ones do."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import anyio
from msgspec.structs import replace

from engine.executors.begun import Trace
from engine.executors.command import attempt_directory
from engine.executors.port import Assignment, Report, Spawned, Watch
from tests.sim.fates import FATES, TICKS_PER_S, Fate, Mood, telemetry, told

BOOT = "simulated"
HOST = socket.gethostname()
Outcome = Report | Exception

RESOLUTION_S = 1e-6
FILES = Path("/simulated")


class Delivered(NamedTuple):
    """What an engine was told of an attempt; ``adopted``: by a guardian of an earlier engine."""

    outcome: Outcome
    adopted: bool


@dataclass(eq=False)
class Process:
    """The guardian of an attempt with its child: ends at ``ends_s``, or when something ends it."""

    phase: tuple[str, str]
    began_s: float
    ends_s: float
    ended: Literal["exited", "timed_out", "abandoned", "lost"]
    report: Report
    _waiting: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])

    def lives(self) -> bool:
        """Whether it still runs.

        A loop wakes who waits for a moment up to its clock's resolution before that moment, so what
        ends then has ended.
        """
        return asyncio.get_running_loop().time() < self.ends_s - RESOLUTION_S

    def end(self, how: Literal["abandoned", "lost"]) -> None:
        """End it now, unless it has ended."""
        if not self.lives():
            return
        self.ends_s, self.ended = asyncio.get_running_loop().time(), how
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self) -> Report:
        """Until it has ended; what is known of it then."""
        loop = asyncio.get_running_loop()
        if self.lives():
            future = loop.create_future()
            self._waiting.append(future)
            timer = loop.call_at(self.ends_s, _wake, future)
            try:
                await future
            finally:
                timer.cancel()
                self._waiting.remove(future)
        return self._told()

    def _told(self) -> Report:
        duration_ms = round((self.ends_s - self.began_s) * 1000)
        if self.ended == "exited":
            return replace(self.report, duration_ms=duration_ms)
        reason = "its guardian died" if self.ended == "lost" else None
        told = Report(
            ended=self.ended,
            duration_ms=0 if reason else duration_ms,
            reason=reason,
            telemetry=self.report.telemetry,
        )
        # What was printed until then stands in files, and is read like that of any other.
        return replace(told, stdout=self.report.stdout, stderr=self.report.stderr)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _guardian(attempt_id: str, pid: int) -> Spawned:
    return Spawned(host=HOST, boot_id=BOOT, pid=pid, start_ticks=pid, directory=attempt_id)


class Machine:
    """The machine that the engines of one session run on, with every process on it.

    ``guarded``: attempts have guardians, which outlive their engine; otherwise they die with it.
    ``delivered``: what engines were told of each attempt.  ``reached`` counts fates.  ``report``
    hears what executors alone can see: S12, that an attempt is in the log before it runs, runs
    once, and alone in its phase.
    """

    def __init__(
        self,
        random_: random.Random,
        report: Callable[[str, int | None], None],
        *,
        guarded: bool,
    ) -> None:
        self.random = random_
        self.guarded = guarded
        self.mood = Mood(random_)
        self.delivered: dict[str, list[Delivered]] = {}
        self.processes: dict[str, Process] = {}
        self.reached: Counter[str] = Counter()
        self._watched: list[tuple[Process, anyio.Event]] = []
        self._executed: set[str] = set()
        self._report = report

    def living(self) -> list[str]:
        """The attempts whose guardians run."""
        return [name for name, process in self.processes.items() if process.lives()]

    def reboot(self) -> None:
        """Every process is gone."""
        for process in self.processes.values():
            process.end("lost")

    def note_start(self, attempt: str, phase: tuple[str, str], *, logged: bool) -> None:
        """An executor was told to run an attempt."""
        if not logged:
            self._report("S12: an attempt runs that is not in the log as started", None)
        if attempt in self._executed:
            self._report("S12: an attempt runs twice", None)
        self._executed.add(attempt)
        if any(p.phase == phase and p.lives() for p in self.processes.values()):
            self._report("S12: two attempts of a phase run at once", None)

    def fate(self, run: str) -> Fate:
        """How the next attempt of a run goes."""
        name = self.mood.next(run)
        self.reached[f"fate {name}"] += 1
        return FATES[name]

    def begin(self, assignment: Assignment, fate: Fate) -> Process:
        """Start the child of an attempt."""
        random_, sheet = self.random, assignment.sheet
        now_s = asyncio.get_running_loop().time()
        takes_s = random_.randint(1, 5 * TICKS_PER_S) / TICKS_PER_S
        if fate.late:
            takes_s = assignment.timeout_s * 9
        ended: Literal["exited", "timed_out", "lost"] = "exited"
        if takes_s > assignment.timeout_s:
            takes_s, ended = assignment.timeout_s, "timed_out"
        if fate.vanishes:
            ended = "lost"
        report = told(fate.report, sheet.run_id, sheet.phase_id)
        report = replace(report, telemetry=telemetry(random_, fate))
        phase = (sheet.run_id, sheet.phase_id)
        process = Process(phase, now_s, now_s + takes_s, ended, report)
        self.processes[assignment.attempt_id] = process
        return process

    def guardian_lives(self, spawned: Spawned) -> bool:
        """In place of ``engine.executors.adoption.guardian_lives``."""
        process = self.processes.get(spawned.directory)
        return process is not None and process.lives()

    def trace_of(self, directory: Path) -> Trace:
        """In place of ``engine.executors.begun.trace_of``."""
        named = {attempt_directory(FILES, name): name for name in self.processes}
        name = named.get(directory) if self.guarded else None
        if name is None:
            return Trace(None, has_begun=False)
        self.reached["fault unrecorded"] += 1
        guardian = _guardian(name, 1) if self.processes[name].lives() else None
        return Trace(guardian, has_begun=True)

    async def report_of(self, attempt_id: str, lost: str | None) -> Report:
        """In place of ``engine.executors.begun.report_of``."""
        if lost is None:
            return Report(ended="lost", duration_ms=0, reason="never_spawned: simulated")
        outcome = await self.attend(self.processes[attempt_id], anyio.Event())
        self.deliver(attempt_id, outcome, adopted=True)
        return outcome

    async def take_over(
        self, spawned: Spawned, attempt_id: str, abandon: anyio.Event | None = None
    ) -> Report:
        """In place of ``engine.executors.adoption.take_over``."""
        process = self.processes.get(spawned.directory)
        if process is None:  # it was announced, and its engine died before the child began
            outcome = Report(ended="lost", duration_ms=0, reason="nothing was started")
        else:
            outcome = await self.attend(process, abandon or anyio.Event())
        self.deliver(attempt_id, outcome, adopted=True)
        return outcome

    async def attend(self, process: Process, abandon: anyio.Event) -> Report:
        """Wait for the end of a process, which ``abandon`` brings about."""
        self._watched.append((process, abandon))
        try:
            self.heed()
            return await process.wait()
        finally:
            self._watched.remove((process, abandon))

    def heed(self) -> None:
        """Notice which attempts their engines want to end now."""
        for process, abandon in self._watched:
            if abandon.is_set():
                process.end("abandoned")

    def deliver(self, attempt_id: str, outcome: Outcome, *, adopted: bool) -> None:
        """Remember what an engine is told."""
        self.delivered.setdefault(attempt_id, []).append(Delivered(outcome, adopted))


class SimulatedExecutor:
    """One engine's executor.  ``is_lost``: whether its engine's process is gone.

    ``logged``: whether an attempt stands in the log as started.
    """

    name = "simulated"

    def __init__(
        self, machine: Machine, is_lost: Callable[[], bool], logged: Callable[[str], bool]
    ) -> None:
        self._machine = machine
        self._is_lost = is_lost
        self._logged = logged

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Execute as the session's mood has it."""
        machine, attempt_id, sheet = self._machine, assignment.attempt_id, assignment.sheet
        phase = (sheet.run_id, sheet.phase_id)
        machine.note_start(attempt_id, phase, logged=self._logged(attempt_id))
        fate = machine.fate(sheet.run_id)
        if not fate.spawned:
            return self._at_once(assignment, fate)
        if machine.guarded:
            await watch.spawned(_guardian(attempt_id, len(machine.processes) + 1))
        process = machine.begin(assignment, fate)
        try:
            report = await machine.attend(process, watch.abandon)
        except asyncio.CancelledError:
            # A living engine ends what it started; what is guarded outlives a dead one.
            if not self._is_lost() or not machine.guarded:
                process.end("lost")
            raise
        broke = fate.breaks and report.ended == "exited"
        return self._deliver(attempt_id, RuntimeError("the executor broke") if broke else report)

    def _at_once(self, assignment: Assignment, fate: Fate) -> Report:
        outcome: Outcome = fate.report
        if fate.breaks:
            outcome = RuntimeError("the executor broke at once")
        return self._deliver(assignment.attempt_id, outcome)

    def _deliver(self, attempt_id: str, outcome: Outcome) -> Report:
        self._machine.deliver(attempt_id, outcome, adopted=False)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome
