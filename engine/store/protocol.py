"""What a store must do: read in pages, and append inside one transaction.

A store knows rows, not what they mean.  Positions, versions and hashes are computed by the
recorder; the store refuses rows that do not continue the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import msgspec

from engine.events import Head, Record
from engine.store.leaving import Leaving
from projections.fold import Change, Checkpoint

T = TypeVar("T")

PAGE_ROWS = 2000
"""How many rows a reader takes at once: a million events by ``fetchall`` take 555 MB, in pages
24 MB."""


FoldRow = tuple[int, int, str, int, str]
"""The columns a fold needs: pos, recorded_us, type, schema, data."""


class Shape(NamedTuple):
    """A type and version of events, and where the first one stands."""

    type: str
    schema: int
    first_pos: int


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which records to read; every given tag must match.  ``types`` may end in ``*``.

    A stream, a session, an attempt or a run is found by an index; types alone are not, so that a
    log of millions of events may have to be read to its other end for one of a rare type.
    """

    stream: str | None = None
    session: str | None = None
    run: str | None = None
    phase: str | None = None
    attempt: str | None = None
    types: tuple[str, ...] = ()
    until: int | None = None
    newest_first: bool = False


class Prior(NamedTuple):
    """What a command id did before."""

    request: bytes
    first_pos: int
    last_pos: int


class StoredProjection(NamedTuple):
    """One version of a projection as stored."""

    name: str
    version: int
    checkpoint: Checkpoint


class Kept(NamedTuple):
    """Rows of a projection to write, and how far it has read with them.

    ``is_whole``: they are all that it has; rows that are stored beside them go.
    """

    name: str
    version: int
    changes: Sequence[Change]
    checkpoint: Checkpoint
    is_whole: bool = False


class End(NamedTuple):
    """Where a shared log ends, and in which epoch, while a transaction holds it still."""

    head: Head
    epoch: int


class Found(NamedTuple):
    """What the log holds already of a batch to come; ``end`` of a shared log alone."""

    prior: dict[str, Prior]
    versions: dict[str, int]
    end: End | None = None


class Transaction(Protocol):
    """One atomic append.  Everything in it becomes visible together, or nothing does."""

    async def look(self, command_ids: Sequence[str], streams: Sequence[str]) -> Found:
        """Those of ``command_ids`` that the log holds, and the last version of each stream."""
        ...

    async def append(self, records: Sequence[Record], kept: Sequence[Kept] = ()) -> None:
        """Add rows that continue the log, and rows of projections with their checkpoints.

        May wait for the end of the block.  Then or now raises Fenced when another writer has moved
        the head or an epoch is newer, AppendRefused when the rows break a rule of the log (a
        second open attempt of a phase, a reused key).
        """
        ...


class LogReader(Protocol):
    """Reading; never changes a byte of the log."""

    async def head(self) -> Head:
        """The end of the log."""
        ...

    async def last_epoch(self) -> int:
        """The epoch of the last event, 0 when there is none."""
        ...

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        """The next records beyond position ``after`` (before it when newest first; 0 = all)."""
        ...

    async def fold_rows(
        self, after: int, until: int, types: frozenset[str] | None = None
    ) -> list[FoldRow]:
        """The next page of at most PAGE_ROWS rows in ``after`` < pos <= ``until``."""
        ...

    async def hash_at(self, pos: int) -> bytes | None:
        """The chain hash at ``pos``, None when the log has no such position."""
        ...

    async def shapes(self) -> list[Shape]:
        """Every type and version of event in the log, with the position of its first."""
        ...

    async def projections(self) -> list[StoredProjection]:
        """Every stored projection version and its checkpoint."""
        ...

    async def projection_rows(self, name: str, version: int) -> list[tuple[str, str]]:
        """All rows of a stored projection, in key order."""
        ...

    async def read_projection(
        self, name: str, version: int, by: Callable[[Iterable[tuple[str, str]]], T]
    ) -> T:
        """What ``by`` makes of all rows of a stored projection, which come in key order.

        Raises LogUnreadable when it is not stored.  Where the log is a file, rows are read while
        ``by`` asks for them, so that there are never many in memory.
        """
        ...

    async def projection_row(self, name: str, version: int, key: str) -> str | None:
        """One row of a stored projection; None when it, or the projection, is not stored."""
        ...

    async def close(self) -> None:
        """Let go of files and threads."""
        ...


class EventStore(LogReader, Protocol):
    """Reading and appending.

    ``is_shared``: others may append between two transactions of this one, but never during one
    that has looked; reading during it shows all that they have appended.
    """

    @property
    def is_shared(self) -> bool:
        """Whether several writers may have the log open."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Begin; commit at the end of the block, roll back if it raises.

        Raises StorageFailed when the commit did not happen or may not have: the caller must stop,
        not try again.
        """
        ...

    async def drop_projection(self, name: str, version: int) -> None:
        """Forget a projection, which can always be rebuilt.

        A shared store may keep its rows until they are replaced: others are at work with them.
        """
        ...


@runtime_checkable
class OnServer(Protocol):
    """A store whose server may go away and come back."""

    @property
    def leaving(self) -> Leaving:
        """Until when its server is waited for."""
        ...

    async def until_back(self) -> None:
        """Wait for the server.  Raises ServerLost when closed, or the process leaves."""
        ...
