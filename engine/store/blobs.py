"""Blobs: output too large for an event, stored once under its sha256."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from engine.disk import sync_folder
from engine.errors import not_written, raise_at_a_limit, raise_if_unseen
from engine.events import Stream

BLOB_BYTES_MAX = 16 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore(Protocol):
    """Where output is kept."""

    def put(self, data: bytes) -> str:
        """Store ``data``; its sha256 in hex, which is its name."""
        ...

    def get(self, digest: str) -> bytes | None:
        """What stands under ``digest``; None when it is gone or is not what its name says."""
        ...


class MemoryBlobs:
    """Blobs of a simulation."""

    def __init__(self) -> None:
        self._data: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        """Store ``data``; its digest."""
        digest = hashlib.sha256(data).hexdigest()
        self._data[digest] = data
        return digest

    def get(self, digest: str) -> bytes | None:
        """What stands under ``digest``, or None."""
        return self._data.get(digest)


def _write(name: Path, data: bytes) -> None:
    """A new file with ``data``, on the disk when this returns."""
    name.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(part: Path, path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, which never is there in part."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(part, data)
        os.replace(part, path)  # noqa: PTH105  for every attempt; pathlib takes its time
    except OSError:
        with suppress(OSError):
            os.unlink(part)  # noqa: PTH108
        raise


def _never_waiting(path: str, flags: int) -> int:
    """Open what should be a file; a pipe in its place is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


class Blobs:
    """A folder of files named by their digest; ``put`` is idempotent, atomic and durable."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._parts = root / "parts"
        self._synced = set[Path]()
        """Folders whose own names the disk is known to have."""

    def path(self, digest: str) -> Path:
        """Where a blob stands or would stand."""
        return self._root / digest[:2] / digest

    def get(self, digest: str) -> bytes | None:
        """What stands under ``digest``; None when it is gone or is not what its name says.

        Raises StorageFailed where that cannot be told.
        """
        try:
            return self._read(digest)
        except OSError as error:
            raise_if_unseen(str(self.path(digest)), error)
            return None

    def _read(self, digest: str) -> bytes | None:
        if not _DIGEST.fullmatch(digest):
            return None
        with open(self.path(digest), "rb", opener=_never_waiting) as file:
            data = file.read(BLOB_BYTES_MAX + 1) or b""
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def _is_stored(self, digest: str) -> bool:
        """Whether it need not be stored again; what another user has stored may be closed to us."""
        try:
            return self._read(digest) is not None
        except OSError as error:
            raise_at_a_limit(error)
            return False

    def kept(self, stream: Stream) -> bytes | None:
        """What was kept of a stream, from the log or its blob; None when nothing is there."""
        whole = stream.whole
        return whole if whole is not None or not stream.digest else self.get(stream.digest)

    def put(self, data: bytes) -> str:
        """Store ``data``; its digest.  The disk has it, under its name, when this returns."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        try:
            if not self._is_stored(digest):
                # A name of its own for each writer: two attempts may print the same at once.
                _replace(self._parts / f"{digest}-{os.urandom(8).hex()}", path, data)
            self._sync_names(path)
        except OSError as error:
            raise not_written(f"the output {path}", error) from error
        return digest

    def remove_left(self, before_s: float) -> None:
        """Remove what engines that died were storing; ``before_s`` is in seconds of the epoch.

        What cannot be removed stays, and is tried again the next time.
        """
        with suppress(OSError), os.scandir(self._parts) as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before_s:
                        os.unlink(entry)  # noqa: PTH108

    def _sync_names(self, path: Path) -> None:
        """Whoever has stored ``path`` or made its folders may not have come to this yet."""
        sync_folder(path.parent)
        for folder in (path.parent, self._root, self._root.parent):
            if folder not in self._synced:
                sync_folder(folder.parent)
                self._synced.add(folder)
