"""Blobs: output too large for an event, stored once under its sha256."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

from engine.errors import not_written

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


class Blobs:
    """A folder of files named by their digest; ``put`` is idempotent and atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, digest: str) -> Path:
        """Where a blob stands or would stand."""
        return self._root / digest[:2] / digest

    def get(self, digest: str) -> bytes | None:
        """What stands under ``digest``; None when it is gone or is not what its name says."""
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            with self.path(digest).open("rb") as file:
                data = file.read(BLOB_BYTES_MAX + 1)
        except OSError:
            return None
        return data if hashlib.sha256(data).hexdigest() == digest else None

    def put(self, data: bytes) -> str:
        """Store ``data``; its digest."""
        digest = hashlib.sha256(data).hexdigest()
        path = self.path(digest)
        if path.exists():
            return digest
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A name of its own for each writer: two attempts may print the same at once.
            with NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(file.name).replace(path)
        except OSError as error:
            raise not_written(f"the output {path}", error) from error
        return digest
