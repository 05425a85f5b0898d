"""A connection to a server that may go away and come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from engine.errors import RunoffError, ServerLost
from engine.store import leaving
from engine.store.leaving import Leaving, Silent
from engine.store.postgres_errors import lost, translated

if TYPE_CHECKING:
    from asyncpg import Connection

CLOSE_S = 2.0
ANSWERS = 5
"""More are asked for nowhere at once."""
PAUSE_S, PAUSE_MAX_S = 0.2, 2.0
"""How long to wait before the second try to connect, and before any."""


class Link:
    """Holds one connection; ``driver`` is another one after ``until_back``.

    ``answer_s``: how long the driver waits for an answer.
    """

    def __init__(
        self,
        driver: Connection[Any],
        connect: Callable[[], Awaitable[Connection[Any]]],
        leaving: Leaving,
        answer_s: float,
    ) -> None:
        self.driver = driver
        self._answers_s = ANSWERS * answer_s
        self._connect = connect
        self._leaving = leaving
        self._tried = False
        self.is_closing = False

    @contextmanager
    def asking(self) -> Generator[Connection[Any], None, None]:
        """Around a few questions: the connection to ask over, and its errors as ours."""
        driver = self.driver
        with translated(driver), self._leaving.bounded(leaving.ANSWER_S):
            # The driver has a limit for each, but waits without one when it closes a statement.
            with anyio.fail_after(self._answers_s):
                yield driver

    async def until_back(self) -> None:
        """Wait until the server can be reached again, for as long as that takes.

        Raises ServerLost when the link is closed meanwhile, or the process has to end;
        WrongDatabase when the server is there and lets nobody in.
        """
        if self._tried:
            raise lost(Silent())
        self._tried = self._leaving.is_begun
        try:
            with self._leaving.away(), self._leaving.bounded(leaving.BACK_S):
                await self._connect_again()
        except TimeoutError as error:
            raise lost(error) from error

    async def _connect_again(self) -> None:
        await say_goodbye(self.driver)
        self.driver = await patiently(self._connect, lambda: self.is_closing)

    async def close(self) -> None:
        """Let go of the connection; whoever waits for another stops waiting."""
        self.is_closing = True
        try:
            with self._leaving.bounded(leaving.CLOSE_S):
                await say_goodbye(self.driver)
        except TimeoutError:
            self.driver.terminate()


async def patiently(
    connect: Callable[[], Awaitable[Connection[Any]]], is_over: Callable[[], bool] = lambda: False
) -> Connection[Any]:
    """A connection, tried for until there is one; the last error once it ``is_over``."""
    pause_s = PAUSE_S
    while True:
        try:
            return await connect()
        except ServerLost:
            if is_over():
                raise
        await anyio.sleep(pause_s)
        pause_s = min(PAUSE_MAX_S, pause_s * 2)


async def say_goodbye(driver: Connection[Any]) -> None:
    """Close a connection; one that is gone, or a server that does not answer, is let go of."""
    try:
        with translated():
            await driver.close(timeout=CLOSE_S)
    except RunoffError:
        driver.terminate()
