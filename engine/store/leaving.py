"""Leaving: from when on a process waits for no silent server any more, because it has to end.

Until then a server may be silent for as long as that makes sense; behind it everything that was
acknowledged is in the log, and what was not is left to whoever starts next.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio

ANSWER_S = 1.0
"""How long an answer may take then."""
BACK_S = 1.5
"""How long after its beginning a new connection is still worth a try."""
CLOSE_S = 0.1
"""How long a good-bye may take then."""


class Silent(TimeoutError):
    """The server said nothing in the time that was left."""


class Leaving:
    """Whether a process is on its way out; all of its connections to a server share one."""

    def __init__(self) -> None:
        self._begun_s: float | None = None
        self._waits: dict[anyio.CancelScope, tuple[float, bool]] = {}

    def begin(self) -> None:
        """The process has nothing left to do but to end; nothing happens the second time."""
        if self._begun_s is None:
            self._begun_s = anyio.current_time()
            for scope in self._waits:
                self._bound(scope)

    @contextmanager
    def bounded(self, limit_s: float, *, in_all: bool = False) -> Generator[None, None, None]:
        """Around a wait for the server, which may take so long once the process is leaving.

        ``in_all``: counted from the beginning of that, not of the wait.  Raises Silent.
        """
        with anyio.CancelScope() as scope:
            self._waits[scope] = (limit_s, in_all)
            self._bound(scope)
            try:
                yield
            finally:
                del self._waits[scope]
        if scope.cancelled_caught:
            raise Silent("it gave no answer while this program was to end")

    def _bound(self, scope: anyio.CancelScope) -> None:
        if self._begun_s is not None:
            limit_s, in_all = self._waits[scope]
            since_s = self._begun_s if in_all else anyio.current_time()
            scope.deadline = since_s + limit_s


__all__ = ["ANSWER_S", "BACK_S", "CLOSE_S", "Leaving", "Silent"]
