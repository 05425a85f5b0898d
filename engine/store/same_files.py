"""Whether the files that a writer has open are still the ones that bear their names, and whole.

A database that is replaced or removed under its writer goes on taking commits, in a file that
nobody will ever find again; so does one of which somebody cut the end off, with a hole in it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from engine.errors import StorageFailed

_WAL_HEADER_BYTES, _FRAME_HEADER_BYTES = 32, 24
_PAGE_SIZE, _SALTS = slice(8, 12), slice(16, 24)
_FRAME_SALTS = slice(8, 16)
"""Of a write-ahead log: https://sqlite.org/fileformat2.html#walformat."""


class _Seen(NamedTuple):
    device: int
    inode: int
    size_bytes: int


class SameFiles:
    """The database at ``path`` and its write-ahead log, as they were when they were opened.

    ``link``: what leads to the database, and must go on to.
    """

    def __init__(self, path: Path, link: Path | None = None) -> None:
        self._wal = f"{path}-wal"
        self._has_shrunk = False
        names = (str(path), self._wal) if link is None else (str(link), str(path), self._wal)
        self._known = {name: _seen(name) for name in names}

    def check(self) -> None:
        """Raise StorageFailed when one of them is another file now, or gone, or was cut short.

        Call it before and after each commit: before, the sizes are those that the last one left;
        after, it is told whether a write-ahead log that had shrunk was begun anew.  Cheap enough
        for that: two or three calls that ask for a name.
        """
        for name, known in self._known.items():
            now = _seen(name)
            if known is not None:  # the write-ahead log is made by the first commit
                if now is None or now[:2] != known[:2]:
                    raise _told(name, "was replaced or removed")
                if self._is_cut(name, is_shorter=now.size_bytes < known.size_bytes):
                    raise _told(name, "was cut short (or vacuumed)")
            self._known[name] = now

    def _is_cut(self, name: str, *, is_shorter: bool) -> bool:
        if name != self._wal:
            # The header would tell a VACUUM apart, but closing the file drops SQLite's locks on it.
            return is_shorter
        if not is_shorter and not self._has_shrunk:
            return False
        # Cut off at once behind a frame, it has no hole before the next one is written.
        self._has_shrunk = not self._has_shrunk
        return _has_hole(name)


def _seen(name: str) -> _Seen | None:
    try:
        found = os.stat(name)  # noqa: PTH116  on every commit
    except FileNotFoundError:
        return None
    return _Seen(found.st_dev, found.st_ino, found.st_size)


def _has_hole(wal: str) -> bool:
    """Whether frames are missing in front of the newest.

    SQLite itself lets a write-ahead log shrink, but only to begin it anew: it then has a header,
    and frames that belong to it, up to the first of an older beginning or its end.
    """
    with open(wal, "rb") as file:  # noqa: PTH123
        header = file.read(_WAL_HEADER_BYTES)
        salts, page_bytes = header[_SALTS], int.from_bytes(header[_PAGE_SIZE], "big")
        if not any(salts) or not page_bytes:
            return bool(header)
        while frame := file.read(_FRAME_HEADER_BYTES):
            if frame[_FRAME_SALTS] != salts:
                return not any(frame[_FRAME_SALTS])
            file.seek(page_bytes, os.SEEK_CUR)
    return False


def _told(name: str, what: str) -> StorageFailed:
    return StorageFailed(
        f"{name} {what} while it was written to.",
        remedy="put the newest copy in place, then start again; `runoff verify` says"
        " whether it holds everything that was acknowledged.",
    )
