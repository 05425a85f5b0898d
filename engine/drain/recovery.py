"""Recovery: what a dead engine left open is closed by proof, never by a timer.

One whose guardian lives is adopted, or ended, as the operator wishes.  One whose guardian left an
outcome is closed with it.  Of one whose guardian died without an outcome nothing may be left
running, and it is lost.  Where the log says of no guardian, none had a child yet if the log is
shared; else its directory tells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from socket import gethostname

import anyio
from anyio import to_thread

from engine.clock import Clock
from engine.detect import successor_of
from engine.drain import commands
from engine.drain.adoptions import Adoption
from engine.drain.sheets import assignment_for
from engine.errors import LogHeld, not_written
from engine.events import AttemptSpawned, AttemptStarted, EngineStarted, Record, event_of
from engine.executors.adoption import DIED, RESTARTED, guardian_lives, is_of_here, take_over
from engine.executors.begun import NEVER_SPAWNED, report_of, trace_of
from engine.executors.command import attempt_directory
from engine.executors.leftovers import Leftover, end_leftovers
from engine.executors.port import Assignment, Report, Spawned
from engine.executors.processes import boot_id
from engine.store.decision import ENGINES
from engine.store.protocol import Query
from engine.store.recorder import Recorder
from engine.triage.scope import scope_of

Tell = Callable[[tuple[Record, ...]], None]

WITHOUT_PROCESSES = ("scripted",)
"""Executors whose attempts live and die with their engine."""

WITHOUT_FILES = "its engine died, and no files of attempts are beside the log"
ENGINES_READ = 16


async def open_attempts(
    recorder: Recorder,
    clock: Clock,
    *,
    end: bool,
    among: frozenset[str] | None = None,
    gone: frozenset[str] = frozenset(),
    files_root: Path | None = None,
    tell: Tell = lambda _records: None,
) -> list[Adoption]:
    """Every open attempt of the log, or those ``among`` them, each with a way to its report.

    ``end``: living guardians are told to end theirs instead of being waited for.  ``files_root``:
    where the attempts of this log keep their files; None where they have none.  ``tell`` is shown
    what is recorded of it, for all of them in few commits.  Raises LogHeld for an attempt that was
    started on another machine, which cannot be proved dead from here.
    """
    found = [each for each in _open_ids(recorder) if among is None or each in among]
    look = _Look(
        recorder=recorder, clock=clock, tell=tell, end=end, gone=gone, files_root=files_root
    )
    adoptions = [await look.at(each) for each in found]
    if files_root is not None and not recorder.store.is_shared:
        _make_room(files_root)
    waiting = [
        recorder.enqueue(commands.adopted(adoption.started, recorder.epoch))
        for adoption in adoptions
        if adoption.lives
    ]
    for pending in waiting:
        receipt = await pending.answer()
        if not receipt.repeated:
            tell(receipt.records)
    return adoptions


def _make_room(files_root: Path) -> None:
    """Make the folder of attempts before the first: where it is missing then, it was left behind.

    Else the first attempt of all, whose engine died before it could lay it out, would be taken for
    one whose files were moved.
    """
    folder = attempt_directory(files_root, "").parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise not_written(f"the folder of attempts, {folder}", error) from error


async def swept(recorder: Recorder, files_root: Path) -> list[Leftover]:
    """End what is left of attempts that the log does not hold open; who that was.

    ``files_root``: where the attempts of this log keep their files.  Only for whoever holds the
    log, before it starts any attempt; in a shared log nobody does, and what this board does not
    hold open yet may be another engine's, so nothing is ended.
    """
    if recorder.store.is_shared:
        return []
    return await to_thread.run_sync(end_leftovers, files_root, _open_ids(recorder))


def _open_ids(recorder: Recorder) -> list[str]:
    return [p.open_attempt for p in recorder.board.backlog.values() if p.open_attempt]


@dataclass(kw_only=True)
class _Look:
    """A look at what is open, one attempt after the other."""

    recorder: Recorder
    clock: Clock
    tell: Tell
    end: bool
    gone: frozenset[str]
    files_root: Path | None

    def __post_init__(self) -> None:
        # Before the first look, which makes the folder.
        root = self.files_root
        self._are_files_here = root is not None and attempt_directory(root, "").parent.is_dir()

    async def at(self, attempt_id: str) -> Adoption:
        """How one goes on."""
        types = ("attempt.started", "attempt.spawned")
        records = await self.recorder.store.records(Query(attempt=attempt_id, types=types))
        started, process, epoch = None, None, 0
        for record in records:
            event = event_of(record)
            if isinstance(event, AttemptStarted):
                started, epoch = event, record.epoch
            elif isinstance(event, AttemptSpawned):
                process = spawned_in(event)
        assert started is not None, "an open attempt has a start"
        scope = scope_of(self.recorder.board.sessions.states[started.session_id])
        successor_of(scope.policy.detectors)  # that somebody can judge it, before it is adopted
        assignment = await assignment_for(self.recorder, started, scope, self.clock)
        if process is None:
            return await self._by_its_directory(started, assignment, epoch)
        if is_of_here(process):
            return self._of_process(started, assignment, process)
        return self._of_elsewhere(started, assignment, process.host)

    def _of_process(
        self, started: AttemptStarted, assignment: Assignment, process: Spawned
    ) -> Adoption:
        lives = guardian_lives(process) and not self.end

        async def report(abandon: anyio.Event) -> Report:
            told = abandon
            if self.end and guardian_lives(process):  # else it ended before anybody asked it to
                told = anyio.Event()
                told.set()
            return await take_over(process, started.attempt_id, told)

        return Adoption(started, assignment, report, lives=lives)

    def _of_elsewhere(self, started: AttemptStarted, assignment: Assignment, host: str) -> Adoption:
        if host in self.gone:
            return Adoption(started, assignment, partial(_presumed_lost, host), lives=False)
        raise LogHeld(
            f"the attempt {started.attempt_id} was started on {host} and is still open.",
            remedy=f"run the drain on {host}, where it can be proved dead or taken over;"
            f" if that machine is gone for good, --presume-lost {host} closes it.",
        )

    async def _by_its_directory(
        self, started: AttemptStarted, assignment: Assignment, epoch: int
    ) -> Adoption:
        """One of which the log does not say who guards it."""
        if self.files_root is None or started.executor in WITHOUT_PROCESSES:
            return Adoption(started, assignment, _never_spawned, lives=False)
        directory = attempt_directory(self.files_root, started.attempt_id)
        if self.recorder.store.is_shared:
            # None had begun, unless it is the copy of a log that was an engine's own.
            report = partial(report_of, directory, started.attempt_id, None)
            return Adoption(started, assignment, report, lives=False)
        engine = await _engine_of(self.recorder, epoch)
        is_restarted = engine.boot_id != boot_id()
        if is_restarted and engine.host != gethostname() and not directory.is_dir():
            return self._of_elsewhere(started, assignment, engine.host)
        guardian, has_begun = trace_of(directory, are_files_here=self._are_files_here)
        if guardian is not None:
            said = commands.spawned(started, guardian)
            self.tell((await self.recorder.submit(said)).records)
            return self._of_process(started, assignment, guardian)
        why = RESTARTED if is_restarted else DIED if self._are_files_here else WITHOUT_FILES
        lost = why if has_begun or is_restarted else None
        report = partial(report_of, directory, started.attempt_id, lost)
        return Adoption(started, assignment, report, lives=False)


async def _engine_of(recorder: Recorder, epoch: int) -> EngineStarted:
    """The engine of an epoch, mostly the last one or the one before."""
    before = 0
    query = Query(stream=ENGINES, newest_first=True)
    while records := await recorder.store.records(query, after=before, limit=ENGINES_READ):
        for record in records:
            event = event_of(record)
            if isinstance(event, EngineStarted) and event.epoch == epoch:
                return event
        before = records[-1].pos
    raise AssertionError("every epoch begins with the start of its engine")


async def _presumed_lost(host: str, _abandon: anyio.Event) -> Report:
    return _lost(f"lost: a person said that its machine, {host}, is gone")


async def _never_spawned(_abandon: anyio.Event) -> Report:
    return _lost(NEVER_SPAWNED)


def _lost(reason: str) -> Report:
    return Report(ended="lost", duration_ms=0, reason=reason)


def spawned_in(event: AttemptSpawned) -> Spawned:
    """The process that an event tells of."""
    return Spawned(
        host=event.host,
        boot_id=event.boot_id,
        pid=event.pid,
        start_ticks=event.start_ticks,
        directory=event.directory,
    )
