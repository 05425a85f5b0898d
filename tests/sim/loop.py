"""The loop of the simulation: no files, a clock that jumps, and an alarm when nothing moves."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

TURNS_MAX = 200_000
"""Of the loop in one session; the longest ones take some ten thousand."""


class Stuck(BaseException):
    """A session that can never end: nothing is left to happen, or it goes round for ever.

    Not an Exception, so that no handler in the engine takes it for its own.
    """


class _Jumping(selectors.SelectSelector):
    """Waits for no file: time goes to the next deadline at once."""

    now_s = 0.0
    turns_left = TURNS_MAX

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise Stuck("nothing is left to happen, and the session has not ended")
        if self.turns_left <= 0:
            raise Stuck(f"the session has not ended after {TURNS_MAX} turns of the loop")
        self.turns_left -= 1
        if timeout > 0:
            self.now_s += timeout
        return []


class SimulationLoop(asyncio.SelectorEventLoop):
    """An event loop for one session after the other."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds since the session began."""
        return self._jumping.now_s

    def begin(self) -> None:
        """Set the clock to 0, so that a session goes the same way whatever ran before it."""
        self._jumping.now_s = 0.0
        self._jumping.turns_left = TURNS_MAX
