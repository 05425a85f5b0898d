"""Leaving: from when on a process waits for no silent server any more, because it has to end.

Until then a server may be silent for as long as that makes sense, and whether one is waited for is
known here; behind it everything that was acknowledged is in the log, and what was not is left to
whoever starts next.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio

ANSWER_S = 1.0
"""How long an answer may take then."""
BACK_S = 0.5
"""How long a new connection is tried for then, once for each that was lost."""
CLOSE_S = 0.1
"""How long a good-bye may take then."""


class Silent(TimeoutError):
    """The server said nothing in the time that was left."""

    def __init__(self) -> None:
        super().__init__("it gave no answer while this program was to end")


class Leaving:
    """Whether a process is on its way out; all of its connections to a server share one."""

    def __init__(self) -> None:
        self._begun = False
        self._away = 0
        self._turned = anyio.Event()
        self._waits: dict[anyio.CancelScope, float] = {}

    @property
    def is_begun(self) -> bool:
        """Whether the process has to end now."""
        return self._begun

    def begin(self) -> None:
        """The process has nothing left to do but to end; nothing happens the second time."""
        if not self._begun:
            self._begun = True
            for scope, limit_s in self._waits.items():
                scope.deadline = anyio.current_time() + limit_s

    @property
    def is_cut_off(self) -> bool:
        """Whether somebody of the process waits for the server to be there again."""
        return self._away > 0

    @contextmanager
    def away(self) -> Generator[None, None, None]:
        """Around the wait for a server that is away."""
        self._turn(1)
        try:
            yield
        finally:
            self._turn(-1)

    def _turn(self, by: int) -> None:
        self._away += by
        turned, self._turned = self._turned, anyio.Event()
        turned.set()

    async def until_cut_off(self, *, cut_off: bool) -> None:
        """Wait until somebody waits for the server, or until nobody does any more."""
        while self.is_cut_off != cut_off:
            await self._turned.wait()

    @contextmanager
    def bounded(self, limit_s: float) -> Generator[None, None, None]:
        """Around a wait for the server, which may take so long once the process is leaving.

        Raises Silent when it takes longer.
        """
        with anyio.CancelScope() as scope:
            self._waits[scope] = limit_s
            if self._begun:
                scope.deadline = anyio.current_time() + limit_s
            try:
                yield
            finally:
                del self._waits[scope]
        if scope.cancelled_caught:
            raise Silent


__all__ = ["ANSWER_S", "BACK_S", "CLOSE_S", "Leaving", "Silent"]
