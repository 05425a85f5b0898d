"""A way to a server: one that forgets connections without a word, or ends at a certain one."""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.from_thread import start_blocking_portal


class Carried:
    """A connection: what was said over it, and whether it is forgotten."""

    def __init__(self) -> None:
        self.said = b""
        self.is_forgotten = False


class Between:
    """Stands between a client and the server, and can forget all connections that there are.

    They stay open and carry nothing any more, as behind a firewall that was started again; or only
    those over which a certain word has gone.  Or it ends one over which a certain word goes, and
    lets nobody in until it is opened again.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._forgotten = 0
        self._silent = False
        self._connections: list[Carried] = []
        self._word: bytes | None = None
        self._last_words: re.Pattern[bytes] | None = None
        self._is_carried = False
        self._open = anyio.Event()
        self._open.set()
        self._answer = b""
        self._cut, self._away = anyio.Event(), anyio.Event()
        self._unheard, self._cuts = threading.Semaphore(0), threading.Semaphore(0)
        self.port = 0

    def url(self, url: str) -> str:
        """The server's ``url``, by this way."""
        return url.replace(f":{self._port}/", f":{self.port}/")

    def forget(self, *, new_ones: bool = False) -> None:
        """Forget what there is; ``new_ones``: whoever connects from here on is not heard either."""
        self._forgotten += 1
        self._silent = new_ones

    def forget_who_said(self, word: bytes) -> int:
        """Forget the connections over which ``word`` has gone, and no other; how many."""
        found = [each for each in self._connections if word in each.said]
        for each in found:
            each.is_forgotten = True
        return len(found)

    def forget_at(self, pattern: bytes) -> None:
        """Forget every connection over which something is about to go that ``pattern`` finds."""
        self._last_words = re.compile(pattern, re.DOTALL)

    @property
    def made(self) -> int:
        """How many connections were made by this way."""
        return len(self._connections)

    @property
    def forgotten(self) -> int:
        """How many connections are, each for itself."""
        return sum(each.is_forgotten for each in self._connections)

    def remember(self) -> None:
        """Connections that are made from here on are carried again."""
        self._silent = False

    async def cut_at(self, word: bytes, *, carried: bool) -> None:
        """Cut the next connection over which ``word`` goes; once it is cut, nobody gets in.

        ``carried``: the server hears the word, and whoever said it hears nothing more.
        """
        self.cut_next(word, carried=carried)
        self._cut = anyio.Event()
        await self._cut.wait()

    def cut_next(self, word: bytes, *, carried: bool) -> None:
        """The same without waiting."""
        self._is_carried, self._word = carried, word

    def is_cut(self) -> None:
        """Wait until it is, in another thread."""
        assert self._cuts.acquire(timeout=60)

    def shut(self, answer: bytes = b"") -> None:
        """Let nobody in until it is opened again; who comes is answered so, and turned away."""
        self._open, self._away, self._answer = anyio.Event(), anyio.Event(), answer

    async def turned_away(self) -> None:
        """Wait until somebody was not let in."""
        await self._away.wait()

    def open(self) -> None:
        """Let everybody in again."""
        self._open.set()

    def gone_unheard(self, times: int) -> None:
        """Wait until so many connections were made that are not heard."""
        for _ in range(times):
            assert self._unheard.acquire(timeout=60)

    async def serve(self, client: SocketStream) -> None:
        if self._silent:
            self._unheard.release()
        if not self._open.is_set():
            if self._answer:
                await client.send(self._answer)
            await client.aclose()
            self._away.set()
            return
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self._port) as server,
            anyio.create_task_group() as group,
        ):
            self._connections.append(connection := Carried())
            group.start_soon(self._carry, client, server, group.cancel_scope, connection)
            group.start_soon(self._carry, server, client, group.cancel_scope, connection)

    async def _carry(
        self,
        source: SocketStream,
        to: SocketStream,
        both: anyio.CancelScope,
        connection: Carried,
    ) -> None:
        born = -1 if self._silent else self._forgotten
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async for data in source:
                connection.said += data
                if self._last_words is not None and self._last_words.search(data):
                    connection.is_forgotten = True
                is_word = self._word is not None and self._word in data
                is_known = self._forgotten == born and not connection.is_forgotten
                if is_known and (self._is_carried or not is_word):
                    await to.send(data)
                if is_word:
                    self._word, self._open = None, anyio.Event()
                    self._cut.set()
                    self._cuts.release()
                    break
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
