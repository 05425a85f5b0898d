"""The reserve: a file that is there to be deleted when the disk is full.

Its room is what the last events of a dying engine are written with.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from engine.disk import open_own
from engine.errors import not_written

RESERVE_BYTES = 1024 * 1024
"""Room for the ends of some hundred attempts, indexes and write-ahead log included."""


class Reserve:
    """Room on the disk of a log, held by the file at ``path``."""

    def __init__(self, path: Path, size_bytes: int = RESERVE_BYTES) -> None:
        self.path = path
        self._size_bytes = size_bytes

    def hold(self) -> None:
        """Take the room, unless it is held already.  Raises DiskFull, StorageFailed."""
        try:
            descriptor = open_own(self.path, 0o600)
            try:
                _fill(descriptor, self._size_bytes)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Half a reserve would take the last room of whoever has to be told of it.
            self.release()
            raise not_written(f"the reserve {self.path}", error) from error

    def release(self) -> None:
        """Give the room back."""
        with suppress(OSError):
            self.path.unlink()


def _fill(descriptor: int, size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size_bytes)
        return
    at = os.fstat(descriptor).st_size
    while at < size_bytes:
        at += os.pwrite(descriptor, bytes(min(65536, size_bytes - at)), at)
