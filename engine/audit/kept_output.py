"""The part of verify that looks at stored output: blobs and the evidence in them (S14, S24)."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from engine.audit.chain import Report
from engine.errors import raise_if_unseen

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CHARACTER_BYTES_MAX = 4
_CHUNK_BYTES = 1 << 20
_SHORT_MAX = 1000


class Blob(NamedTuple):
    """A blob as the log describes it, or as it is: the sha256 of its bytes, and their number."""

    digest: str
    size_bytes: int


class KeptOutput:
    """Checks what attempts say of their output against the folder of blobs.

    What stands whole in the log needs no blob.
    """

    def __init__(self, folder: Path, report: Report) -> None:
        self._folder = folder
        self._report = report
        self._blobs: dict[str, Blob | None] = {}
        self._short: dict[str, bytes] = {}

    def stored(self, pos: int, name: str, stream: dict[str, Any], host: str = "") -> Blob | None:
        """Check the stream ``name`` as the attempt finished at ``pos`` describes it.

        ``host``: where the attempt ran, and its output was kept.
        """
        size = stream.get("head_bytes", 0) + stream.get("tail_bytes", 0)
        if stream.get("total_bytes", 0) < size:
            self._report(f"S14: {name} keeps more bytes than there were", pos)
        digest = stream.get("digest")
        if digest is None:
            return None
        if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            self._report(f"S14: the digest of {name} is none", pos)
            return None
        self._take_whole(digest, stream.get("excerpt"))
        blob = self._blob(digest)
        if blob is None:
            where = f", kept on {host}" if host else ""
            self._report(f"S14: blob missing: {digest} ({name}{where})", pos)
        elif blob != (digest, size):
            self._report(f"S14: the stored {name} is not what was recorded: {digest}", pos)
        return Blob(digest, size)

    def evidence(self, pos: int, evidence: dict[str, Any], stored: Blob | None) -> None:
        """Check that a detection's evidence stands in the stored bytes."""
        start, end = evidence["byte_start"], evidence["byte_end"]
        if stored is None or stored.digest != evidence["digest"]:
            self._report("S24: the evidence is not of the attempt's output", pos)
        elif not 0 <= start <= end <= stored.size_bytes:
            self._report("S24: the evidence does not lie inside the stored bytes", pos)
        elif self._blob(stored.digest) is not None:
            excerpt = evidence["excerpt"]
            # An excerpt may be cut, so only as many bytes are read as it can have come from.
            length = min(end - start, (len(excerpt) + 1) * _CHARACTER_BYTES_MAX)
            if not self._read(stored.digest, start, length).startswith(excerpt):
                self._report("S24: the stored bytes do not say what the evidence says", pos)

    def _take_whole(self, digest: str, excerpt: object) -> None:
        if isinstance(excerpt, str) and digest not in self._short:
            data = excerpt.encode(errors="replace")
            if hashlib.sha256(data).hexdigest() == digest:
                if len(self._short) >= _SHORT_MAX:
                    self._short.clear()  # the detections of an attempt stand right behind its end
                self._short[digest] = data

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest

    def _read(self, digest: str, start: int, length: int) -> str:
        if digest in self._short:
            return self._short[digest][start : start + length].decode(errors="replace")
        try:
            with self._path(digest).open("rb") as file:
                file.seek(start)
                return file.read(length).decode(errors="replace")
        except OSError as error:
            raise_if_unseen(str(self._path(digest)), error)
            return ""

    def _blob(self, digest: str) -> Blob | None:
        if digest in self._short:
            return Blob(digest, len(self._short[digest]))
        if digest not in self._blobs:
            self._blobs[digest] = _measured(self._path(digest))
        return self._blobs[digest]


def _measured(path: Path) -> Blob | None:
    """Digest and size of a regular file, None when there is none.

    Raises StorageFailed where that cannot be told.
    """
    hasher, size_bytes = hashlib.sha256(), 0
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                hasher.update(chunk)
                size_bytes += len(chunk)
    except OSError as error:
        raise_if_unseen(str(path), error)
        return None
    return Blob(hasher.hexdigest(), size_bytes)
