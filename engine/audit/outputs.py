"""Kept output as audits read it: held against what the log says, and remembered if short."""

from __future__ import annotations

from collections.abc import Callable

from engine.detect.diagnosis import NOTHING_KEPT, Kept, Streams
from engine.events import AttemptFinished, Stream

REMEMBERED_MAX = 1000
REMEMBERED_BYTES = 4096
"""How many short outputs are remembered: children repeat themselves."""

ReadOutput = Callable[[str], bytes | None]
"""Reads a blob by its digest; None when it is gone or is not what its name says."""


class Outputs:
    """What attempts left behind."""

    def __init__(self, read: ReadOutput) -> None:
        self._read = read
        self._short: dict[str, Kept] = {}

    def of(self, finished: AttemptFinished) -> Streams | None:
        """Both streams of an attempt; None when one of them is gone."""
        stdout, stderr = self._kept(finished.stdout), self._kept(finished.stderr)
        return None if stdout is None or stderr is None else Streams(stdout, stderr)

    def _kept(self, stream: Stream) -> Kept | None:
        size = stream.head_bytes + stream.tail_bytes
        if size == 0:
            return NOTHING_KEPT
        if stream.digest is None:
            return None
        kept = self._short.get(stream.digest) or self._fetched(stream)
        return kept if kept is not None and len(kept.data) == size else None

    def _fetched(self, stream: Stream) -> Kept | None:
        digest = stream.digest or ""
        whole = stream.whole
        data = self._read(digest) if whole is None else whole
        if data is None:
            return None
        kept = Kept.of(data)
        if len(data) <= REMEMBERED_BYTES:
            if len(self._short) >= REMEMBERED_MAX:
                self._short.clear()
            self._short[digest] = kept
        return kept
