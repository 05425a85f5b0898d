"""Anchors: positions and hashes in a side file, because a log cut at its end is a valid chain.

One line per committed batch, ``<pos> <hash in hex>``, appended and fsynced.  A line cut short by
a crash is ignored; a missing line loses nothing, since the next one covers it.
"""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import LogUnreadable, StorageFailed
from engine.events import Head

_TAIL_BYTES = 4096
_HASH_HEX_CHARS = 64


class Anchors:
    """Appends to the anchors file of one log; call it from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageFailed(
                f"cannot open {path}: {error.strerror}.", remedy="check the folder's permissions."
            ) from error

    def write(self, head: Head) -> None:
        """Append one anchor and wait until the disk has it."""
        try:
            os.write(self._fd, f"{head.pos} {head.hash.hex()}\n".encode())
            os.fsync(self._fd)
        except OSError as error:
            raise StorageFailed(
                f"cannot write {self.path}: {error.strerror}.", remedy="free space or fix the disk."
            ) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def last_anchor(path: Path) -> Head | None:
    """The newest whole anchor, None when the file is missing or holds none.

    Raises LogUnreadable when its last whole line is not an anchor.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LogUnreadable(
            f"cannot read {path}: {error.strerror}.", remedy="check the file's permissions."
        ) from error
    return parse_anchor(lines[-1], path) if lines else None


def parse_anchor(line: bytes, path: Path) -> Head:
    """One line of the file."""
    try:
        pos, digest = line.split(b" ")
        head = Head(int(pos), bytes.fromhex(digest.decode()))
        valid = len(digest) == _HASH_HEX_CHARS
    except (ValueError, UnicodeDecodeError):
        valid, head = False, None
    if not valid or head is None:
        raise LogUnreadable(
            f"{path} holds a line that is no anchor: {line[:80]!a}.",
            remedy="run `runoff verify`; restore the file from a backup.",
        )
    return head
