"""Anchor a log while it is written: beside the commits, not between them."""

from __future__ import annotations

import anyio
from anyio import to_thread

from engine.clock import REAL_WORK
from engine.events import Head
from engine.store.anchors import Anchors


class Anchoring:
    """Anchors the newest commit, again and again; one anchor covers all before it.

    Callers are answered before, and an anchor that lags is covered by the next.
    """

    def __init__(self, anchors: Anchors, head: Head) -> None:
        self._anchors = anchors
        self._committed = head
        self._news = anyio.Event()
        self._finished = False

    def committed(self, head: Head) -> None:
        """All up to ``head`` is in the log."""
        self._committed = head
        self._news.set()

    def finish(self) -> None:
        """Anchor what is committed, then let ``run`` return."""
        self._finished = True
        self._news.set()

    async def run(self) -> None:
        """Write anchors until finished; raises StorageFailed when one cannot be written."""
        last = self._committed.pos
        try:
            while not self._finished or self._committed.pos > last:
                await self._news.wait()
                self._news = anyio.Event()
                head = self._committed
                if head.pos > last:
                    with REAL_WORK:
                        await to_thread.run_sync(self._anchors.write, head)
                    last = head.pos
        finally:
            self._anchors.close()
