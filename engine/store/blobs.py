"""Blobs: output too large for an event, stored once under its sha256."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from engine.errors import StorageFailed


class Blobs:
    """A folder of files named by their digest; ``put`` is idempotent and atomic."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, digest: str) -> Path:
        """Where a blob stands or would stand."""
        return self._root / digest[:2] / digest

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
            raise StorageFailed(
                f"cannot store output at {path}: {error.strerror}.",
                remedy="free space or fix the disk, then start again.",
            ) from error
        return digest
