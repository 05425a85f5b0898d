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
from contextlib import suppress
from functools import partial
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

import anyio
import msgspec
from anyio import to_thread

from engine.errors import not_written, raise_at_a_limit
from engine.executors.adoption import DIED
from engine.executors.guarding.attempt import BEGUN_MODE, CLOSED
from engine.executors.guarding.files import DISK_FAILS, DISK_FULL, publish
from engine.executors.holder import holder_of
from engine.executors.leftovers import workplace_of
from engine.executors.outcome import (
    GUARDIAN_LOCK,
    OUTCOME_FILE,
    Outcome,
    lost_report,
    read_outcome,
    read_report,
)
from engine.executors.port import Report, Spawned
from engine.executors.processes import LOCK_FLAGS, boot_id, end_marked_processes

NEVER_SPAWNED = "never_spawned: the engine died before the attempt had a process"
_DOOR = Outcome(
    ended="never_spawned",
    exit_code=None,
    signal=None,
    spawn_error=CLOSED,
    duration_ms=0,
    killed=0,
    survivors=0,
)
_NEW_MODE = 0o600


class Trace(NamedTuple):
    """What a directory tells: the guardian that lives, or whether one had begun that is dead."""

    guardian: Spawned | None
    has_begun: bool


def trace_of(directory: Path, *, are_files_here: bool) -> Trace:
    """What became of the attempt of ``directory``; one that has not begun never will.

    ``are_files_here``: whether the log's attempts had a folder at all before anybody looked.  Only
    for whoever holds the log, and where its files are.  Raises StorageFailed when it cannot be
    looked at, or be kept from beginning.
    """
    try:
        directory.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        pass
    except OSError as error:
        raise not_written(f"the directory of an attempt, {directory}", error) from error
    if not os.path.lexists(directory / GUARDIAN_LOCK):
        # The database was renamed or restored without its files, or they were moved.
        directory = workplace_of(directory.name) or directory
    # Without the files of any attempt nothing tells that this one never began.
    return _inside(directory, _NEW_MODE if are_files_here else BEGUN_MODE)


def _inside(directory: Path, mode: int) -> Trace:
    """``mode``: of the lock if there is none."""
    try:
        lock = os.open(directory / GUARDIAN_LOCK, LOCK_FLAGS | os.O_CREAT, mode)
    except OSError as error:
        raise_at_a_limit(error)
        if not _is_a_childs_doing(error, directory):
            raise not_written(f"the lock of an attempt in {directory}", error) from error
        return Trace(None, has_begun=True)
    try:
        return _looked_at(lock, directory)
    except OSError as error:
        raise not_written(f"the outcome of an attempt in {directory}", error) from error
    finally:
        os.close(lock)


def _is_a_childs_doing(error: OSError, directory: Path) -> bool:
    """Whether this keeps us from the lock since a child put something in its place."""
    if isinstance(error, PermissionError):
        return directory.lstat().st_uid == os.geteuid()
    return error.errno not in (*DISK_FULL, *DISK_FAILS)


def _looked_at(lock: int, directory: Path) -> Trace:
    while not _taken(lock):
        holder = holder_of(lock, directory)
        if holder is not None:
            return Trace(_guardian(*holder, directory), has_begun=True)
    is_marked = bool(os.fstat(lock).st_mode & stat.S_IXUSR)
    return Trace(None, has_begun=is_marked or _has_ended(directory))


def _taken(lock: int) -> bool:
    """Whether the lock is ours now, so that no guardian can come up."""
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _guardian(pid: int, start_ticks: int | None, directory: Path) -> Spawned:
    return Spawned(
        host=gethostname(),
        boot_id=boot_id(),
        pid=pid,
        start_ticks=start_ticks,
        directory=str(directory),
    )


def _has_ended(directory: Path) -> bool:
    """Whether an attempt that nobody marked has an outcome nonetheless; if not, it gets one."""
    try:
        outcome = read_outcome(directory)
    except FileNotFoundError:
        publish(str(directory / OUTCOME_FILE), msgspec.json.encode(_DOOR).decode())
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
        report = await to_thread.run_sync(_left, directory)
        if report is not None and report.ended != "lost":
            return report
        lost = report.reason if report else lost
    killed = await to_thread.run_sync(end_marked_processes, attempt_id)
    if lost is None and not killed:
        return Report(ended="lost", duration_ms=0, reason=NEVER_SPAWNED)
    reason = f"lost: {lost or DIED}"
    return await to_thread.run_sync(partial(lost_report, directory, reason=reason, killed=killed))


def _left(directory: Path) -> Report | None:
    """What an outcome tells; None without one, and for one that says that nothing had begun.

    We may have put that there ourselves, and behind another boot it proves nothing.
    """
    with suppress(OSError, ValueError, RecursionError):
        if read_outcome(directory).ended == "never_spawned":
            return None
    return read_report(directory)
