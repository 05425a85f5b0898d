"""A connection pooler of the tests' own, as far as PgBouncer's ways matter to a log.

It greets clients with keys of its own and passes on no settings of theirs.  The protocol:
https://www.postgresql.org/docs/current/protocol-message-formats.html.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count

import anyio
from anyio.abc import SocketAttribute, SocketStream, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

PASSED_ON = (b"user", b"database", b"application_name", b"client_encoding")
_TLS_ASKED = (80877103).to_bytes(4, "big")
_VERSION = (196608).to_bytes(4, "big")
_GONE = (
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


class Wire:
    """One side of a connection, message by message."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._buffer = BufferedByteReceiveStream(stream)

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def close(self) -> None:
        await self._stream.aclose()

    async def startup(self) -> dict[bytes, bytes]:
        """What a client asks for first."""
        while True:
            body = await self._body()
            if body != _TLS_ASKED:
                words = body[4:].rstrip(b"\0").split(b"\0")
                return dict(zip(words[::2], words[1::2], strict=True))
            await self.send(b"N")

    async def messages(self) -> AsyncIterator[tuple[bytes, bytes]]:
        with suppress(*_GONE):
            while True:
                kind = await self._buffer.receive_exactly(1)
                yield kind, await self._body()

    async def _body(self) -> bytes:
        size = int.from_bytes(await self._buffer.receive_exactly(4), "big")
        return await self._buffer.receive_exactly(size - 4) if size > 4 else b""


class Pooler:
    """``ignores``: drops settings instead of refusing who asks for them.

    ``shares``: lends its one session for a transaction at a time.  ``names``: then keeps apart what
    each client has prepared, as PgBouncer does since 1.21.
    """

    def __init__(self, port: int, *, ignores: bool, shares: bool, names: bool) -> None:
        self._port = port
        self._ignores, self._shares, self._names = ignores, shares, names
        self._session: Session | None = None
        self._numbers = count(1)
        self.refused = 0

    async def serve(self, stream: SocketStream, group: TaskGroup) -> None:
        client, number = Wire(stream), next(self._numbers)
        async with stream:
            with suppress(*_GONE):
                asked = await client.startup()
                unknown = [name for name in asked if name not in PASSED_ON]
                if unknown and not self._ignores:
                    self.refused += 1
                    said = b"unsupported startup parameter: " + unknown[0]
                    await client.send(message(b"E", b"SFATAL\0C08P01\0M" + said + b"\0\0"))
                    return
                session = await self._lent(client, asked, number, group)
                await session.carry(client, number if self._names else 0)
                if not self._shares:
                    await session.close()

    async def _lent(
        self, client: Wire, asked: dict[bytes, bytes], number: int, group: TaskGroup
    ) -> Session:
        if self._session is not None:
            await client.send(b"".join(self._session.greeting(number)))
            return self._session
        session = Session(Wire(await anyio.connect_tcp("127.0.0.1", self._port)), number)
        words = [w for name in asked if name in PASSED_ON for w in (name, asked[name])]
        body = _VERSION + b"".join(word + b"\0" for word in words) + b"\0"
        await session.begin(client, message(b"", body), group)
        if self._shares:
            self._session = session
        return session


class Session:
    """A session of the server, which answers whoever has it just now."""

    def __init__(self, server: Wire, number: int) -> None:
        self._server = server
        self._number = number
        self._told: list[bytes] = []
        self._owner: Wire | None = None
        self._free = anyio.Semaphore(1, max_value=1)

    def greeting(self, number: int) -> list[bytes]:
        """What a client hears that is not the first."""
        welcome = message(b"R", bytes(4))
        return [welcome, *self._told, message(b"K", _key(number)), message(b"Z", b"I")]

    async def begin(self, client: Wire, startup: bytes, group: TaskGroup) -> None:
        """Lead ``client`` in; the server asks it for its password itself."""
        await self._free.acquire()
        self._owner = client
        await self._server.send(startup)
        group.start_soon(self._answer)

    async def close(self) -> None:
        """Hang up on the server."""
        await self._server.close()

    async def carry(self, client: Wire, number: int) -> None:
        """Take what ``client`` says to the server, a transaction at a time."""
        async for kind, body in client.messages():
            if kind == b"X":
                return
            if self._owner is not client:
                await self._free.acquire()
                self._owner = client
            await self._server.send(message(kind, _owned(kind, body, number)))

    async def _answer(self) -> None:
        try:
            await self._pass_on()
        finally:
            with anyio.CancelScope(shield=True):
                await self._server.close()

    async def _pass_on(self) -> None:
        async for kind, body in self._server.messages():
            is_key = kind == b"K"
            if kind == b"S":
                self._told.append(message(kind, body))
            answered = message(kind, _key(self._number) if is_key else body)
            if self._owner is not None:
                with suppress(*_GONE):
                    await self._owner.send(answered)
            if kind == b"Z" and body == b"I":
                self._owner = None
                self._free.release()


def _key(number: int) -> bytes:
    """No process of the server has such a number."""
    return (0x7FFF0000 + number).to_bytes(4, "big") + bytes(4)


def _owned(kind: bytes, body: bytes, number: int) -> bytes:
    """A message with the name of what was prepared made the client's own."""
    mark = b"%d" % number if number else b""
    if kind == b"P":
        name, _, rest = body.partition(b"\0")
        return (mark + name if name else name) + b"\0" + rest
    if kind == b"B":
        portal, name, rest = body.split(b"\0", 2)
        return portal + b"\0" + (mark + name if name else name) + b"\0" + rest
    if kind in (b"D", b"C") and body[:1] == b"S" and len(body) > 2:
        return b"S" + mark + body[1:]
    return body


@asynccontextmanager
async def pooling(
    port: int, *, ignores: bool = False, shares: bool = False, names: bool = False
) -> AsyncGenerator[tuple[Pooler, int], None]:
    """A pooler before the server at ``port``, and where it listens, while the block runs."""
    pooler = Pooler(port, ignores=ignores, shares=shares, names=names)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async with listener, anyio.create_task_group() as group:

        async def serve(stream: SocketStream) -> None:
            await pooler.serve(stream, group)

        group.start_soon(listener.serve, serve)
        yield pooler, listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()
