"""Faults: one engine's way to the shared log, which fails at a chosen append."""

from __future__ import annotations

from collections.abc import Sequence, Set as AbstractSet
from types import TracebackType
from typing import Literal, NamedTuple, Self, cast

import anyio

from engine.errors import StorageFailed
from engine.events import Record
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.store.protocol import EventStore, Found, Kept

When = Literal["before", "after", "refused"]


class Fault(NamedTuple):
    """What goes wrong at append number ``at`` of an engine.

    ``before``: the process is gone and nothing is written.  ``after``: it is written, and the
    process is gone before anybody hears of it.  ``refused``: nothing is written, now or later, and
    the process lives to see it.
    """

    when: When
    at: int


def _gone() -> StorageFailed:
    return StorageFailed("the simulated disk is gone.", remedy="start another engine.")


class Disk(MemoryStore):
    """The shared log."""

    @property
    def log(self) -> Sequence[Record]:
        return self._log

    @property
    def attempts(self) -> AbstractSet[str | None]:
        """Those that it holds as started."""
        return self._attempts


class Handle:
    """An event store over the shared log; of no use once its engine is ``lost``.

    ``delay_s`` passes between a commit and its acknowledgement.  ``appends`` counts them.
    ``struck``: the fault has happened.  ``killed_at_s``: when its process is gone, fault or not.
    """

    def __init__(self, disk: Disk, fault: Fault | None = None, delay_s: float = 0) -> None:
        self.disk = disk
        self.delay_s = delay_s
        self.lost = False
        self.struck: When | None = None
        self.killed_at_s: float | None = None
        self.appends = 0
        self._fault = fault

    @property
    def store(self) -> EventStore:
        """Itself, as engines see it."""
        return cast("EventStore", self)

    def __getattr__(self, name: str) -> object:
        # Whatever reads goes straight to the log.
        return getattr(self.disk, name)

    async def drop_projection(self, name: str, version: int) -> None:
        self.refuse_if_gone()
        await self.disk.drop_projection(name, version)

    def transaction(self) -> _Watched:
        return _Watched(self)

    def refuse_if_gone(self) -> None:
        if self.lost or self.struck:
            raise _gone()

    def strike(self, *whens: When) -> None:
        """Fail if the fault is due here."""
        fault = self._fault
        if fault is not None and fault.at == self.appends and fault.when in whens:
            self.struck = fault.when
            self.lost = fault.when != "refused"
            raise _gone()


class _Watched:
    """A transaction that fails as its handle is to."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._inner = handle.disk.transaction()
        self._transaction: MemoryTransaction | None = None

    async def __aenter__(self) -> Self:
        self._handle.refuse_if_gone()
        self._transaction = await self._inner.__aenter__()
        return self

    async def look(self, command_ids: Sequence[str], streams: Sequence[str]) -> Found:
        assert self._transaction is not None
        return await self._transaction.look(command_ids, streams)

    async def append(self, records: Sequence[Record], kept: Sequence[Kept] = ()) -> None:
        assert self._transaction is not None
        self._handle.appends += 1
        self._handle.strike("before", "refused")
        await self._transaction.append(records, kept)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        swallowed = await self._inner.__aexit__(kind, error, traceback)
        if error is None:
            self._handle.strike("after")
            if self._handle.delay_s:
                await anyio.sleep(self._handle.delay_s)
        return swallowed
