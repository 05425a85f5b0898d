"""Anchors: positions and hashes in a side file, because a log cut at its end is a valid chain.

One line per committed batch, ``<pos> <hash in hex>``, appended and fsynced.  A line cut short by
a crash is ignored; a missing line loses nothing, since the next one covers it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from engine.errors import LogUnreadable, StorageFailed, not_written, raise_if_below
from engine.events import Head
from engine.store.protocol import LogReader

_TAIL_BYTES = 4096
_HASH_HEX_CHARS = 64
_HALF_A_LINE = re.compile(rb"\d*(?: [0-9a-f]{0,64})?\0*")
"""What a crash may leave of one, or of its room.  Anything else is a file of somebody else's."""


class Anchors:
    """Appends to the anchors file of one log; call it from one thread at a time.

    ``last_pos``: what the file's last anchor held when it was opened, 0 for none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        _check_kind(path)
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageFailed(
                f"cannot open {path}: {error.strerror}.", remedy="check the folder's permissions."
            ) from error
        try:
            known = last_anchor(path)
            self._take_back_half_a_line()
        except OSError as error:
            self.close()
            raise not_written(str(path), error) from error
        except LogUnreadable:
            self.close()
            raise
        self.last_pos = 0 if known is None else known.pos

    def _take_back_half_a_line(self) -> None:
        """A line without its end was never given out; the next one must not be glued to it."""
        size = os.fstat(self._fd).st_size
        tail = os.pread(self._fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
        half = tail[tail.rfind(b"\n") + 1 :]
        if half and (b"\n" in tail or size <= _TAIL_BYTES):
            if not _HALF_A_LINE.fullmatch(half):
                raise _is_no_anchor(half, self.path)
            os.ftruncate(self._fd, size - len(half))

    def write(self, head: Head) -> None:
        """Append one anchor and wait until the disk has it.

        Raises StorageFailed when it cannot be written, or where nobody would find it.
        """
        if not self._bears_its_name():
            raise StorageFailed(
                f"{self.path} was replaced or removed while it was written to.",
                remedy="put it back, then start again; `runoff verify` says how far it reaches.",
            )
        try:
            rest = memoryview(f"{head.pos} {head.hash.hex()}\n".encode())
            while rest:  # a disk that fills up in the middle takes a part and says nothing
                rest = rest[os.write(self._fd, rest) :]
            os.fsync(self._fd)
        except OSError as error:
            raise not_written(str(self.path), error) from error

    def _bears_its_name(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), self.path.stat())
        except OSError:
            return False

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def set_aside(path: Path, now_us: int) -> Path | None:
    """Keep anchors under another name: those of a log that is gone do not speak of a new one.

    ``now_us``: Unix microseconds, for the name.  Returns where they are, None if there are none.
    """
    if not path.exists():
        return None
    kept = path.with_name(f"{path.name}.before-{now_us}")
    try:
        path.rename(kept)
    except OSError as error:
        raise not_written(str(path), error) from error
    return kept


def _check_kind(path: Path) -> None:
    """Refuse what only bears the name of the anchors; a pipe would be waited for."""
    if path.exists() and not path.is_file():
        raise StorageFailed(
            f"cannot open {path}: it is not a file.",
            remedy="move it away, then start again; `runoff verify` says what it should hold.",
        )


def last_anchor(path: Path) -> Head | None:
    """The newest whole anchor, None when the file is missing or holds none.

    Raises LogUnreadable when its last whole line is not an anchor, StorageFailed for no file and
    where a limit or the disk forbids to read it.
    """
    _check_kind(path)
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise_if_below(str(path), error)
        raise LogUnreadable(
            f"cannot read {path}: {error.strerror}.", remedy="check the file's permissions."
        ) from error
    return parse_anchor(lines[-1], path) if lines else None


async def check_against(path: Path, reader: LogReader) -> None:
    """Refuse a log that does not hold what its newest anchor says it held.

    Raises LogUnreadable: an older copy was put in place, or the log was cut or changed.
    """
    anchor = last_anchor(path)
    if anchor is not None and await reader.hash_at(anchor.pos) != anchor.hash:
        raise LogUnreadable(
            f"the log is older than its anchors, or was changed: {path.name} knows position"
            f" {anchor.pos} with another hash.",
            remedy="put the newest copy back; `runoff verify` says what is missing.",
        )


def parse_anchor(line: bytes, path: Path) -> Head:
    """One line of the file."""
    try:
        pos, digest = line.split(b" ")
        head = Head(int(pos), bytes.fromhex(digest.decode()))
        valid = len(digest) == _HASH_HEX_CHARS
    except (ValueError, UnicodeDecodeError):
        valid, head = False, None
    if not valid or head is None:
        raise _is_no_anchor(line, path)
    return head


def _is_no_anchor(line: bytes, path: Path) -> LogUnreadable:
    return LogUnreadable(
        f"{path} holds a line that is no anchor: {line[:80]!a}.",
        remedy="run `runoff verify`; restore the file from a backup.",
    )
