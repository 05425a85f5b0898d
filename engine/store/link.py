"""A connection to a server that may go away and come back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio

from engine.errors import RunoffError, ServerLost
from engine.store.postgres_errors import translated

if TYPE_CHECKING:
    from asyncpg import Connection

CLOSE_S = 2.0
PAUSE_S, PAUSE_MAX_S = 0.2, 2.0
"""How long to wait before the second try to connect, and before any."""


class Link:
    """Holds one connection; ``driver`` is another one after ``until_back``."""

    def __init__(
        self, driver: Connection[Any], connect: Callable[[], Awaitable[Connection[Any]]]
    ) -> None:
        self.driver = driver
        self._connect = connect
        self.is_closing = False

    async def until_back(self) -> None:
        """Wait until the server can be reached again, for as long as that takes.

        Raises ServerLost when the link is closed meanwhile, WrongDatabase when the server is there
        and lets nobody in.
        """
        await say_goodbye(self.driver)
        pause_s = PAUSE_S
        while True:
            try:
                self.driver = await self._connect()
            except ServerLost:
                if self.is_closing:
                    raise
                await anyio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, pause_s * 2)
            else:
                return

    async def close(self) -> None:
        """Let go of the connection; whoever waits for another stops waiting."""
        self.is_closing = True
        await say_goodbye(self.driver)


async def say_goodbye(driver: Connection[Any]) -> None:
    """Close a connection; one that is gone, or a server that does not answer, is let go of."""
    try:
        with translated():
            await driver.close(timeout=CLOSE_S)
    except RunoffError:
        driver.terminate()
