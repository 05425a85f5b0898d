"""Handing over: one way to record things, whether this process writes the log or a daemon does.

SQLite has one writer.  While a daemon is it, what a command line wants recorded goes to it over its
control socket and is decided there, in the same transaction as everything else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

import anyio

from engine.backlog.batch import Registration
from engine.cli.context import ids, writing
from engine.cli.progress import read_board
from engine.daemon.client import Client, NobodyListens
from engine.daemon.messages import Operate, event_in, reclassify_of, register_of
from engine.daemon.sockets import control_path
from engine.detect.reclassification import Changed
from engine.drain.intake import operating, reclassify, register
from engine.errors import LogHeld
from engine.events import AnyEvent, event_of
from engine.store.boards import load_board
from engine.store.database import open_reader
from engine.store.location import Location, locate
from engine.store.lock import DAEMON, holder_of
from engine.store.protocol import LogReader
from engine.store.recorder import Recorder
from engine.triage.operating import Operation
from projections.board import Board

_START_S = 10.0
_PAUSE_S = 0.05


class Keeper(Protocol):
    """Whoever can record: ``board`` and ``reader`` show the log as it was when it was opened."""

    @property
    def location(self) -> Location:
        """Where the log is."""
        ...

    @property
    def reader(self) -> LogReader:
        """The log itself."""
        ...

    @property
    def board(self) -> Board:
        """What had become of it."""
        ...

    @property
    def next_step(self) -> str:
        """What a person does next to have it drained."""
        ...

    async def look(self) -> Board:
        """What has become of it by now."""
        ...

    async def register(self, group: Registration) -> int:
        """Take in a group of the backlog; a position at or behind its last event."""
        ...

    async def operate(self, operation: Operation) -> AnyEvent:
        """Record what a person asks for."""
        ...

    async def reclassify(self, changes: Sequence[Changed]) -> None:
        """Record what a rule set says of attempts."""
        ...


class Own:
    """For a process that is the writer itself."""

    next_step = "Next: runoff drain"

    def __init__(self, location: Location, recorder: Recorder) -> None:
        self.location = location
        self.reader: LogReader = recorder.store
        self._recorder = recorder

    @property
    def board(self) -> Board:
        """At the head."""
        return self._recorder.board

    async def look(self) -> Board:
        """At the head, too."""
        return self._recorder.board

    async def register(self, group: Registration) -> int:
        """Append it."""
        await register(self._recorder, group)
        return self._recorder.head.pos

    async def operate(self, operation: Operation) -> AnyEvent:
        """Append what comes of it."""
        receipt = await self._recorder.submit(operating(ids()("cmd"), operation))
        return event_of(receipt.records[0])

    async def reclassify(self, changes: Sequence[Changed]) -> None:
        """Append it."""
        await reclassify(self._recorder, changes)


class Handed:
    """For a log that a daemon writes; ``board`` and ``reader`` are our own look at the log."""

    next_step = "The daemon takes it up."

    def __init__(self, location: Location, reader: LogReader, board: Board, client: Client) -> None:
        self.location = location
        self.reader = reader
        self.board = board
        self._client = client

    async def look(self) -> Board:
        """Another look."""
        return await load_board(self.reader)

    async def register(self, group: Registration) -> int:
        """Hand it over."""
        return self._client.ask(register_of(group)).position or 0

    async def operate(self, operation: Operation) -> AnyEvent:
        """Hand it over."""
        return event_in(self._client.ask(Operate(operation=operation)))

    async def reclassify(self, changes: Sequence[Changed]) -> None:
        """Hand it over, each time anew: reading on in between may outlast a connection."""
        client = Client(control_path(self.location))
        try:
            for request in reclassify_of(changes):
                client.ask(request)
        finally:
            client.close()


@asynccontextmanager
async def keeping(
    url: str | None, program: str, *, create: bool = False
) -> AsyncGenerator[Keeper, None]:
    """Whoever can record in the log at ``url``: this process, or the daemon that holds it.

    Raises LogHeld, naming the holder, when that is something else.
    """
    async with AsyncExitStack() as stack:
        yield await _keeper(stack, url, program, create=create)


async def _keeper(stack: AsyncExitStack, url: str | None, program: str, *, create: bool) -> Keeper:
    try:
        own = await stack.enter_async_context(writing(url, program, create=create))
        return Own(*own)
    except LogHeld as held:
        location = locate(url)
        client = await _client(location, held)
    stack.callback(client.close)
    reader = await open_reader(location)
    stack.push_async_callback(reader.close)
    return Handed(location, reader, await read_board(reader), client)


async def _client(location: Location, held: LogHeld) -> Client:
    """A connection to the daemon that holds the log; it may be about to open its socket."""
    path = control_path(location)
    with anyio.move_on_after(_START_S):
        while True:
            try:
                return Client(path)
            except NobodyListens:
                if not (holder_of(location.beside("lock")) or "").startswith(DAEMON):
                    break
                await anyio.sleep(_PAUSE_S)
    raise held
