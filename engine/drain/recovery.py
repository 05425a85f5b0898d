"""Recovery: what a dead engine left open is closed by proof, never by a timer.

An attempt without a spawn record never began.  One whose guardian lives is adopted, or ended,
as the operator wishes.  One whose guardian left an outcome is closed with it.  Of one whose
guardian died without an outcome nothing may be left running, and it is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
from anyio import to_thread

from engine.clock import Clock
from engine.drain import commands
from engine.drain.adoptions import Adoption
from engine.drain.sheets import assignment_for
from engine.errors import LogHeld
from engine.events import AttemptSpawned, AttemptStarted, Record, event_of
from engine.executors.adoption import guardian_lives, is_of_here, take_over
from engine.executors.leftovers import Leftover, end_leftovers
from engine.executors.port import Assignment, Report, Spawned
from engine.store.protocol import Query
from engine.store.recorder import Recorder
from engine.triage.scope import scope_of

Tell = Callable[[tuple[Record, ...]], None]


async def open_attempts(
    recorder: Recorder,
    clock: Clock,
    *,
    end: bool,
    among: frozenset[str] | None = None,
    gone: frozenset[str] = frozenset(),
    tell: Tell = lambda _records: None,
) -> list[Adoption]:
    """Every open attempt of the log, or those ``among`` them, each with a way to its report.

    ``end``: living guardians are told to end theirs instead of being waited for.  ``tell`` is shown
    what is recorded of it, for all of them in few commits.  Raises LogHeld for an attempt that was
    started on another machine, which cannot be proved dead from here.
    """
    found = [each for each in _open_ids(recorder) if among is None or each in among]
    adoptions = [await _adoption(recorder, clock, each, end=end, gone=gone) for each in found]
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


async def _adoption(
    recorder: Recorder, clock: Clock, attempt_id: str, *, end: bool, gone: frozenset[str]
) -> Adoption:
    records = await recorder.store.records(
        Query(attempt=attempt_id, types=("attempt.started", "attempt.spawned"))
    )
    started: AttemptStarted | None = None
    process: AttemptSpawned | None = None
    for event in map(event_of, records):
        if isinstance(event, AttemptStarted):
            started = event
        elif isinstance(event, AttemptSpawned):
            process = event
    assert started is not None, "an open attempt has a start"
    scope = scope_of(recorder.board.sessions.states[started.session_id])
    assignment = await assignment_for(recorder, started, scope, clock)
    if process is None:
        return Adoption(started, assignment, _never_spawned, lives=False)
    if process.host in gone and not is_of_here(spawned_in(process)):
        return Adoption(started, assignment, partial(_presumed_lost, process.host), lives=False)
    return _of_process(started, assignment, process, end=end)


async def _presumed_lost(host: str, _abandon: anyio.Event) -> Report:
    return _lost(f"lost: a person said that its machine, {host}, is gone")


async def _never_spawned(_abandon: anyio.Event) -> Report:
    return _lost("never_spawned: the engine died before the attempt had a process")


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


def _of_process(
    started: AttemptStarted, assignment: Assignment, event: AttemptSpawned, *, end: bool
) -> Adoption:
    process = spawned_in(event)
    if not is_of_here(process):
        raise LogHeld(
            f"the attempt {event.attempt_id} was started on {event.host} and is still open.",
            remedy=f"run the drain on {event.host}, where it can be proved dead or taken over;"
            f" if that machine is gone for good, --presume-lost {event.host} closes it.",
        )
    lives = guardian_lives(process) and not end

    async def report(abandon: anyio.Event) -> Report:
        told = abandon
        if end:
            told = anyio.Event()
            told.set()
        return await take_over(process, event.attempt_id, told)

    return Adoption(started, assignment, report, lives=lives)
