"""A way to a server that forgets its connections without a word, as a firewall's restart does."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal


class Between:
    """Stands between a client and the server, and can forget all connections that there are.

    They stay open and carry nothing any more, as behind a firewall that was started again.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._forgotten = 0
        self._silent = False
        self._unheard = threading.Semaphore(0)
        self.port = 0

    def url(self, url: str) -> str:
        """The server's ``url``, by this way."""
        return url.replace(f":{self._port}/", f":{self.port}/")

    def forget(self, *, new_ones: bool = False) -> None:
        """Forget what there is; ``new_ones``: whoever connects from here on is not heard either."""
        self._forgotten += 1
        self._silent = new_ones

    def remember(self) -> None:
        """Connections that are made from here on are carried again."""
        self._silent = False

    def gone_unheard(self, times: int) -> None:
        """Wait until so many connections were made that are not heard."""
        for _ in range(times):
            assert self._unheard.acquire(timeout=60)

    async def serve(self, client: SocketStream) -> None:
        if self._silent:
            self._unheard.release()
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self._port) as server,
            anyio.create_task_group() as group,
        ):
            group.start_soon(self._carry, client, server, group.cancel_scope)
            group.start_soon(self._carry, server, client, group.cancel_scope)

    async def _carry(self, source: SocketStream, to: SocketStream, both: anyio.CancelScope) -> None:
        born = -1 if self._silent else self._forgotten
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in source:
                if self._forgotten == born:
                    await to.send(data)
        both.cancel()


@asynccontextmanager
async def standing(port: int) -> AsyncGenerator[Between, None]:
    """A way to the server at ``port``, while the block runs."""
    way = Between(port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    way.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, way.serve)
        yield way
        group.cancel_scope.cancel()


@contextmanager
def standing_beside(port: int) -> Generator[Between, None, None]:
    """The same in a thread of its own, for tests of whole processes."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(standing(port)) as way,
    ):
        yield way
