"""Virtual time: a loop whose clock jumps to the next deadline when nothing real is going on.

An hour of scripted sleeps costs milliseconds, in the same order every time.  Work in threads
(the database's) is real: while any is under way the clock stands still.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

from engine.clock import REAL_WORK, SystemClock

_REAL_WAIT_S = 0.05


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at 0."""

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self._now_s = 0.0
        poll = selector.select

        def select(timeout: float | None = None) -> Any:
            if timeout is None or timeout <= 0:
                return poll(timeout)
            if REAL_WORK.under_way:
                return poll(_REAL_WAIT_S)
            ready = poll(0)
            if not ready:
                self._now_s += timeout
            return ready

        selector.select = select  # type: ignore[method-assign]

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_s


class VirtualClock:
    """Wall time that starts now, or at ``start_us``, and moves with the loop."""

    def __init__(self, start_us: int | None = None) -> None:
        self._start_us = SystemClock().now_us() if start_us is None else start_us
        self._start_s = asyncio.get_running_loop().time()

    def now_us(self) -> int:
        """Unix microseconds."""
        return self._start_us + round(self.monotonic_s() * 1e6)

    def monotonic_s(self) -> float:
        """Virtual seconds since it was made."""
        return asyncio.get_running_loop().time() - self._start_s
