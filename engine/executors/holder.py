"""Who holds a guardian's lock: the kernel says so, by a number that may mean nothing here."""

from __future__ import annotations

import fcntl
import os
import struct
from pathlib import Path

import msgspec

from engine.errors import raise_at_a_limit
from engine.executors.outcome import GUARDIAN_LOCK
from engine.executors.port import Spawned
from engine.executors.processes import LINUX, LOCK_FLAGS, PROC, is_alive, process_start_ticks

OUT_OF_SIGHT = 0
"""In place of the pid of a guardian in a container of its own, whose lock alone can be seen."""

_LOCK_OF_LINUX, _LOCK_OF_BSD = "hhqqi4x", "qqihh"
"""``struct flock``: type, whence, start, length, pid; and start, length, pid, type, whence."""


def holder_of(lock: int, directory: Path) -> tuple[int, int | None] | None:
    """Pid and start of the guardian of ``directory`` that holds ``lock``; None when none does.

    It works there, by which it is told from a process that only has its number here: then it is
    ``OUT_OF_SIGHT``, and began when no process did, so that nobody is taken for it.
    """
    while (pid := _number(lock)) is not None:
        if not LINUX:
            return max(pid, OUT_OF_SIGHT), process_start_ticks(pid)
        start_ticks = process_start_ticks(pid)
        if start_ticks is not None and _works_in(pid, directory):
            return pid, start_ticks
        if _number(lock) == pid:  # it loses the lock before it goes
            return OUT_OF_SIGHT, 0
    return None


def _number(lock: int) -> int | None:
    layout = _LOCK_OF_LINUX if LINUX else _LOCK_OF_BSD
    fields = (fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0) if LINUX else (0, 0, 0, fcntl.F_WRLCK, 0)
    asked = struct.pack(layout, *fields)
    told = struct.unpack(layout, fcntl.fcntl(lock, fcntl.F_GETLK, asked))
    kind, pid = (told[0], told[4]) if LINUX else (told[3], told[2])
    return None if kind == fcntl.F_UNLCK else pid


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return (PROC / str(pid) / "cwd").samefile(directory)
    except OSError as error:
        raise_at_a_limit(error)
        return False


def seen_from_here(spawned: Spawned) -> Spawned:
    """The same guardian by the number that it has here, if another container recorded it."""
    if is_alive(spawned.pid, spawned.start_ticks):
        return spawned
    directory = Path(spawned.directory)
    try:
        lock = os.open(directory / GUARDIAN_LOCK, LOCK_FLAGS)
    except OSError as error:
        raise_at_a_limit(error)
        return spawned
    try:
        pid, start_ticks = holder_of(lock, directory) or (OUT_OF_SIGHT, 0)
    except OSError:  # what a child may have put in its place
        return spawned
    finally:
        os.close(lock)
    if pid == OUT_OF_SIGHT:
        return spawned
    return msgspec.structs.replace(spawned, pid=pid, start_ticks=start_ticks)
