"""One writer per log: a POSIX lock on a side file, which dies with the process that holds it."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path

from engine.disk import open_own
from engine.errors import LogHeld, StorageFailed

DAEMON = "runoff daemon"
"""How a daemon names itself in the lock file."""

_HOLDER_BYTES_MAX = 512
_FLOCK = "hhqqi"
_held: dict[Path, str] = {}
"""What this process holds: opening such a file again, and closing it, would lose the lock."""


class WriterLock:
    """Holds ``path`` exclusively until closed.

    ``lockf`` and not ``flock``: an flock is shared by forked children and survived in ones that
    never reached exec.  The file says who holds it, for people.  Raises LogHeld naming the holder.
    """

    def __init__(self, path: Path, program: str) -> None:
        self._path = path.absolute()
        if self._path in _held:
            raise _is_held_by(_held[self._path])
        try:
            self._fd = open_own(path, 0o644)
        except OSError as error:
            raise StorageFailed(
                f"cannot open {path}: {error.strerror}.",
                remedy="a writer needs to create files beside the database; check permissions.",
            ) from error
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            holder = os.read(self._fd, _HOLDER_BYTES_MAX).decode(errors="replace").strip()
            os.close(self._fd)
            raise _is_held_by(holder) from error
        except OSError as error:
            os.close(self._fd)
            raise StorageFailed(
                f"cannot lock {path}: {error.strerror}.",
                remedy="put the database on a file system that has locks; check the disk.",
            ) from error
        note = f"{program}, pid {os.getpid()} on {socket.gethostname()}\n".encode()
        with suppress(OSError):  # a full disk; the lock holds, and says less
            os.pwrite(self._fd, note, 0)
            os.ftruncate(self._fd, len(note))
        _held[self._path] = note.decode().strip()

    def close(self) -> None:
        """Let the log go."""
        _held.pop(self._path, None)
        os.close(self._fd)


def _is_held_by(holder: str) -> LogHeld:
    return LogHeld(
        f"another process holds this log: {holder or 'unknown'}.",
        remedy="wait for it or stop it; reading commands work meanwhile.",
    )


def holder_of(path: Path) -> str | None:
    """Who holds the lock at ``path``: empty when nobody does, None when that cannot be told.

    Asks without taking it, which only Linux's layout of the question is known for.
    """
    if path.absolute() in _held:
        return _held[path.absolute()]
    if sys.platform != "linux":
        return None
    try:
        # A pipe in its place is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123
            question = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, question))
            if answer[0] == fcntl.F_UNLCK:
                return ""
            said = file.read(_HOLDER_BYTES_MAX) or b""
            return said.decode(errors="replace").strip() or "unknown"
    except FileNotFoundError:
        return ""
    except OSError:
        return None
