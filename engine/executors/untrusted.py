"""Reading files that a child may have replaced: by a pipe, a link, a folder, or a flood."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import raise_at_a_limit

CHUNK_BYTES = 256 * 1024
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class NotAFile(OSError):
    """There is something under that name, but not a regular file."""


@contextmanager
def opened(path: Path) -> Generator[int]:
    """A descriptor of a regular file, never waiting and never following a last link.

    Raises FileNotFoundError when nothing is there, NotAFile for anything but a regular file, and
    other OSErrors as they come; StorageFailed where no further file may be opened.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise_at_a_limit(error)
        # A link gives ELOOP, a socket ENXIO: neither is a file that the child should have left.
        raise NotAFile(error.errno, f"it cannot be opened ({error.strerror})") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotAFile("it is not a regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_at_most(path: Path, limit_bytes: int) -> bytes:
    """The first ``limit_bytes`` of a regular file; raises as ``opened`` does."""
    parts: list[bytes] = []
    left = limit_bytes
    with opened(path) as descriptor:
        while left > 0 and (part := os.read(descriptor, min(left, CHUNK_BYTES))):
            parts.append(part)
            left -= len(part)
    return b"".join(parts)


def chunks(descriptor: int, limit_bytes: int) -> Iterator[bytes]:
    """The next ``limit_bytes`` of a file, piece by piece."""
    left = limit_bytes
    while left > 0 and (part := os.read(descriptor, min(left, CHUNK_BYTES))):
        yield part
        left -= len(part)
