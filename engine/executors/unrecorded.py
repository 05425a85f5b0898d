"""Attempts whose engine died before the log said who guards them: what their directories tell.

On a log of its own an engine lets a child begin while that is still being recorded.  What began all
the same can be told from the directory: a guardian holds its lock there before it listens to the
engine, marks it when it is told to begin, and leaves its outcome.  What has not begun is kept from
it: an engine that is not quite dead finds the directory taken, a guardian of its finds an outcome.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

import anyio
import msgspec
from anyio import to_thread

from engine.errors import not_written, raise_at_a_limit
from engine.executors.adoption import DIED
from engine.executors.outcome import (
    GUARDIAN_LOCK,
    OUTCOME_FILE,
    Outcome,
    lost_report,
    put,
    read_outcome,
    read_report,
)
from engine.executors.port import Report, Spawned
from engine.executors.processes import LINUX, boot_id, end_marked_processes, process_start_ticks

NEVER_SPAWNED = "never_spawned: the engine died before the attempt had a process"
OUT_OF_SIGHT = 0
"""In place of the pid of a guardian in a container of its own, whose lock alone can be seen."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_DOOR = Outcome(
    ended="never_spawned",
    exit_code=None,
    signal=None,
    spawn_error=None,
    duration_ms=0,
    killed=0,
    survivors=0,
)
_LOCK_OF_LINUX, _LOCK_OF_BSD = "hhqqi4x", "qqihh"
"""``struct flock``: type, whence, start, length, pid; and start, length, pid, type, whence."""


class Trace(NamedTuple):
    """What a directory tells: the guardian that lives, or whether one had begun that is dead."""

    guardian: Spawned | None
    has_begun: bool


def trace_of(directory: Path) -> Trace:
    """What became of the attempt of ``directory``; one that has not begun never will.

    Only for whoever holds the log, and where its files are.  Raises StorageFailed when it cannot
    be looked at, or be kept from beginning.
    """
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise not_written(f"the directory of an attempt, {directory}", error) from error
    else:
        return Trace(None, has_begun=False)
    try:
        lock = os.open(directory / GUARDIAN_LOCK, _FLAGS, 0o600)
    except OSError as error:
        raise_at_a_limit(error)
        return Trace(None, has_begun=True)  # only a child puts anything in its place
    try:
        return _looked_at(lock, directory)
    except OSError as error:
        raise not_written(f"the outcome of an attempt in {directory}", error) from error
    finally:
        os.close(lock)


def _looked_at(lock: int, directory: Path) -> Trace:
    while not _taken(lock):
        guardian = _holder(lock, directory)
        if guardian is not None:
            return Trace(guardian, has_begun=True)
    is_marked = bool(os.fstat(lock).st_mode & stat.S_IXUSR)
    return Trace(None, has_begun=is_marked or _has_ended(directory))


def _taken(lock: int) -> bool:
    """Whether the lock is ours now, so that no guardian can come up."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _holder(lock: int, directory: Path) -> Spawned | None:
    """The guardian that holds the lock; None when it has just gone."""
    layout = _LOCK_OF_LINUX if LINUX else _LOCK_OF_BSD
    fields = (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0) if LINUX else (0, 0, 0, fcntl.F_WRLCK, 0)
    asked = struct.pack(layout, *fields)
    told = struct.unpack(layout, fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    kind, pid = (told[0], told[4]) if LINUX else (told[3], told[2])
    if kind == fcntl.F_UNLCK:
        return None
    start_ticks: int | None = 0  # no process began then, so that nobody is taken for it
    if pid > 0:
        start_ticks = process_start_ticks(pid)
        if LINUX and start_ticks is None:
            return None
    return Spawned(
        host=gethostname(),
        boot_id=boot_id(),
        pid=max(pid, OUT_OF_SIGHT),
        start_ticks=start_ticks,
        directory=str(directory),
    )


def _has_ended(directory: Path) -> bool:
    """Whether an attempt that nobody marked has an outcome nonetheless; if not, it gets one."""
    try:
        outcome = read_outcome(directory)
    except FileNotFoundError:
        put(directory, OUTCOME_FILE, msgspec.json.encode(_DOOR))
        return False
    except (OSError, ValueError, RecursionError):
        return True
    return outcome.ended != "never_spawned"


async def report_of(
    directory: Path, attempt_id: str, lost: str | None, _abandon: anyio.Event | None = None
) -> Report:
    """The report of an attempt without a living guardian; nothing of it is left running.

    ``lost``: why it is that if it left no outcome; None for one that never began.
    """
    if lost is not None:
        report = await to_thread.run_sync(read_report, directory)
        if report is not None and report.ended != "lost":
            return report
        lost = report.reason if report else lost
    killed = await to_thread.run_sync(end_marked_processes, attempt_id)
    if lost is None and not killed:
        return Report(ended="lost", duration_ms=0, reason=NEVER_SPAWNED)
    reason = f"lost: {lost or DIED}"
    return await to_thread.run_sync(partial(lost_report, directory, reason=reason, killed=killed))
