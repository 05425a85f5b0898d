"""The guardian's own files: read whole, written at one stroke, and a JSON that starts fast."""

import errno
import fcntl
import os
import stat

try:
    from _json import make_scanner
except ImportError:
    make_scanner = None  # type: ignore[assignment,misc]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHUNK_BYTES = 1 << 20
TELLING = ("stdout", "stderr", "events.ndjson", "result.json")
"""Files whose size an outcome says: nobody syncs them, and after a power cut it may stand alone."""
OUTCOME_ROOM_BYTES = 4096
"""Taken on the disk before a child starts, so that its outcome finds room whatever happens."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
DISK_FAILS = (errno.EIO, errno.EROFS, errno.ESTALE)


def quietly(action: "Callable[..., object]", *arguments: object) -> None:
    """Call, and let it fail: a process may be gone, a signal not ours to set."""
    try:
        action(*arguments)
    except (OSError, ValueError):
        return


def read(path: str) -> str:
    """A file's text; for small files such as those of ``/proc``."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        parts: list[bytes] = []
        while part := os.read(descriptor, CHUNK_BYTES):
            parts.append(part)
    finally:
        os.close(descriptor)
    return b"".join(parts).decode("utf-8", "replace")


def size_bytes(name: "str | os.PathLike[str]") -> int:
    """The size of a file; 0 for none, and for what is no file."""
    try:
        found = os.lstat(name)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def fresh_file(name: str) -> int:
    """A new, empty file of ours under ``name``; its descriptor."""
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
    return os.open(name, flags, 0o600)


def first_file(name: str) -> int:
    """A new file where none may be yet, whatever a child has put there; its descriptor."""
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def hold_lock(name: str) -> int:
    """Lock a file of ours until this process ends, as the proof that it has not; its descriptor.

    A POSIX lock: the forked child does not hold it, and it is gone once this process closes any
    descriptor of the file.  Where there are no locks, its pid has to do.  Raises BlockingIOError
    or PermissionError when another process holds it.
    """
    descriptor = fresh_file(name)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        raise
    except OSError:
        pass
    return descriptor


def make_room(phase: "str | None") -> None:
    """What a child finds when it begins, and room for its outcome.

    On a full disk this is what fails, before anything has begun, and the engine hears of it.
    ``phase``: None where the engine, an older one, has written that down by itself.
    """
    files = {"events.ndjson": "", "outcome.json.part": " " * OUTCOME_ROOM_BYTES}
    if phase is not None:
        files["phase.json"] = phase
    for name, text in files.items():
        descriptor = fresh_file(name)
        try:
            write_at(descriptor, memoryview(text.encode()), 0)
        finally:
            os.close(descriptor)


def write_at(descriptor: int, data: memoryview, at: int) -> None:
    """All of ``data`` from offset ``at`` on."""
    while data:
        written = os.pwrite(descriptor, data, at)
        at, data = at + written, data[written:]


def publish(name: str, text: str) -> None:
    """Write a file that is there whole or not at all.

    What stands under its temporary name is written over, so that a full disk cannot keep out what
    room was made for.  What is no file there, or cannot be replaced, is a child's, and moved aside.
    """
    try:
        _publish(name, text)
    except OSError:
        for place in (name, name + ".part"):
            quietly(os.rename, place, f"{place}.{os.getpid()}")
        _publish(name, text)


def _publish(name: str, text: str) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(name + ".part", flags, 0o600)
    data = text.encode()
    write_at(descriptor, memoryview(data), 0)
    os.ftruncate(descriptor, len(data))
    os.fsync(descriptor)
    os.close(descriptor)
    os.rename(name + ".part", name)  # noqa: PTH104


def quoted(text: str) -> str:
    """A text as a JSON string."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    ascii_only = plain.encode("ascii", "backslashreplace").decode()
    return '"' + ascii_only.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Plain:
    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


def parsed(text: str) -> "Any":
    """The value of a JSON text.  The scanner behind ``json`` starts in a tenth of its time."""
    if make_scanner is None:
        import json  # noqa: PLC0415

        return json.loads(text)
    return make_scanner(_Plain)(text, 0)[0]  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
