"""Anchor a log while it is written: beside the commits, not between them."""

from __future__ import annotations

import anyio
from anyio import to_thread

from engine.clock import REAL_WORK
from engine.events import Head
from engine.store.anchors import Anchors

APART_S = 0.05
"""An anchor covers what is committed within so long: each takes the disk from the commits."""


class Anchoring:
    """Anchors the newest commit, again and again; one anchor covers all before it.

    Callers are answered before, and an anchor that lags is covered by the next.
    """

    def __init__(self, anchors: Anchors, head: Head) -> None:
        self._anchors = anchors
        self._committed = head
        self._last = anchors.last_pos
        self._news = anyio.Event()
        if head.pos > self._last:
            self._news.set()  # who wrote it died before its anchor, or the file was lost
        self._finished = anyio.Event()

    def committed(self, head: Head) -> None:
        """All up to ``head`` is in the log."""
        self._committed = head
        self._news.set()

    def finish(self) -> None:
        """Anchor what is committed, then let ``run`` return."""
        self._finished.set()
        self._news.set()

    async def run(self) -> None:
        """Write anchors until finished; raises StorageFailed when one cannot be written."""
        try:
            while not self._finished.is_set() or self._committed.pos > self._last:
                await self._news.wait()
                self._news = anyio.Event()
                head = self._committed
                if head.pos > self._last:
                    with REAL_WORK:
                        await to_thread.run_sync(self._anchors.write, head)
                    self._last = head.pos
                    with anyio.move_on_after(APART_S):
                        await self._finished.wait()
        finally:
            self._anchors.close()
