"""The log in memory: for tests, simulations and dry runs; same rules, no disk."""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext

import anyio

from engine.errors import AppendRefused, Fenced, LogUnreadable
from engine.events import GENESIS, Head, Record
from engine.store.protocol import (
    PAGE_ROWS,
    End,
    FoldRow,
    Found,
    Kept,
    Prior,
    Query,
    Shape,
    StoredProjection,
    T,
)
from projections.fold import Checkpoint


class MemoryStore:
    """An event store that lives as long as the object.  One transaction at a time.

    ``is_shared`` as if it were a server's, for simulations of several writers.
    """

    def __init__(self, *, is_shared: bool = False) -> None:
        self.is_shared = is_shared
        self._turn = anyio.Lock() if is_shared else nullcontext()
        self._log: list[Record] = []
        self.commands: dict[str, Prior] = {}
        self.versions: dict[str, int] = {}
        self._open: dict[tuple[str | None, str | None], str | None] = {}
        self._attempts: set[str | None] = set()
        self._projections: dict[tuple[str, int], tuple[Checkpoint, dict[str, str]]] = {}

    async def head(self) -> Head:
        """The end of the log."""
        return Head(self._log[-1].pos, self._log[-1].hash) if self._log else Head(0, GENESIS)

    @property
    def end(self) -> End | None:
        """Where a shared log ends; None when it is not shared."""
        last = self._log[-1] if self._log else None
        end = End(Head(last.pos, last.hash), last.epoch) if last else End(Head(0, GENESIS), 0)
        return end if self.is_shared else None

    async def last_epoch(self) -> int:
        """The epoch of the last event, 0 when there is none."""
        return self._log[-1].epoch if self._log else 0

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        """The next records beyond position ``after``."""
        if query.newest_first:
            rows = reversed(self._log[: after - 1] if after else self._log)
        else:
            rows = iter(self._log[after:])
        found: list[Record] = []
        for record in rows:
            if len(found) == limit:
                break
            if _matches(query, record):
                found.append(record)
        return found

    async def fold_rows(
        self, after: int, until: int, types: frozenset[str] | None = None
    ) -> list[FoldRow]:
        """The next page of rows in ``after`` < pos <= ``until``."""
        rows = (r for r in self._log[after:until] if types is None or r.type in types)
        return [
            (r.pos, r.recorded_us, r.type, r.schema, r.data)
            for r, _ in zip(rows, range(PAGE_ROWS), strict=False)
        ]

    async def hash_at(self, pos: int) -> bytes | None:
        """The chain hash at ``pos``."""
        return self._log[pos - 1].hash if 0 < pos <= len(self._log) else None

    async def shapes(self) -> list[Shape]:
        """Every type and version of event in the log, with the position of its first."""
        first: dict[tuple[str, int], int] = {}
        for record in self._log:
            first.setdefault((record.type, record.schema), record.pos)
        return [Shape(kind, schema, pos) for (kind, schema), pos in first.items()]

    async def projections(self) -> list[StoredProjection]:
        """Every stored projection version and its checkpoint."""
        return [
            StoredProjection(name, version, point)
            for (name, version), (point, _) in sorted(self._projections.items())
        ]

    async def projection_rows(self, name: str, version: int) -> list[tuple[str, str]]:
        """All rows of a stored projection, in key order."""
        stored = self._projections.get((name, version))
        if stored is None:
            raise LogUnreadable(f"there is no projection {name}.", remedy="build it again.")
        return sorted(stored[1].items())

    async def read_projection(
        self, name: str, version: int, by: Callable[[Iterable[tuple[str, str]]], T]
    ) -> T:
        """What ``by`` makes of all rows of a stored projection, which come in key order."""
        return by(await self.projection_rows(name, version))

    async def projection_row(self, name: str, version: int, key: str) -> str | None:
        """One row of a stored projection, or None."""
        stored = self._projections.get((name, version))
        return None if stored is None else stored[1].get(key)

    async def drop_projection(self, name: str, version: int) -> None:
        """Forget a projection."""
        self._projections.pop((name, version), None)

    async def close(self) -> None:
        """Nothing to let go of."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        """Begin; what was appended is taken back if the block raises."""
        async with self._turn:
            transaction = MemoryTransaction(self)
            with self._whole(transaction):
                yield transaction

    @contextmanager
    def _whole(self, transaction: MemoryTransaction) -> Generator[None, None, None]:
        length = len(self._log)
        try:
            yield
        except BaseException:
            del self._log[length:]
            self._reindex()
            raise
        for name, version, changes, checkpoint, is_whole in transaction.kept:
            before = None if is_whole else self._projections.get((name, version))
            rows = before[1] if before else {}
            rows.update(changes)
            self._projections[name, version] = (checkpoint, rows)

    def _reindex(self) -> None:
        log, self._log = self._log, []
        self.commands, self.versions, self._open, self._attempts = {}, {}, {}, set()
        for record in log:
            self.add(record)

    def add(self, record: Record) -> None:
        """Append one row, or refuse it; for the transaction."""
        self._refuse(record)
        prior = self.commands.get(record.command_id)
        first = prior.first_pos if prior else record.pos
        self.commands[record.command_id] = Prior(record.request, first, record.pos)
        self.versions[record.stream] = record.version
        phase = (record.run, record.phase)
        if record.type == "attempt.started":
            self._open[phase] = record.attempt
            self._attempts.add(record.attempt)
        elif record.type == "attempt.finished":
            del self._open[phase]
        self._log.append(record)

    def _refuse(self, record: Record) -> None:
        last = self._log[-1] if self._log else None
        if record.pos != len(self._log) + 1 or (
            last and (record.epoch < last.epoch or record.recorded_us < last.recorded_us)
        ):
            raise Fenced.overtaken()
        rule = self._broken_rule(record)
        if rule is not None:
            raise AppendRefused(f"the log refused an append: {rule}.", remedy="read the log again.")

    def _broken_rule(self, record: Record) -> str | None:
        """The rule that a row in its right place would break."""
        if record.version != self.versions.get(record.stream, 0) + 1:
            return "a stream's version is taken"
        prior = self.commands.get(record.command_id)
        if prior is not None and prior.last_pos - prior.first_pos >= record.idx:
            return "the key of an event is taken"
        if record.cause is not None and record.cause >= record.pos:
            return "a cause is earlier than what it caused"
        phase = (record.run, record.phase)
        if record.type == "attempt.started" and phase in self._open:
            return "the phase has an open attempt"
        if record.type == "attempt.started" and record.attempt in self._attempts:
            return "the attempt was started before"
        not_open = phase not in self._open or self._open[phase] != record.attempt
        if record.type == "attempt.finished" and not_open:
            return "the attempt is not open"
        return None


class MemoryTransaction:
    """One atomic append to a MemoryStore."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.kept: list[Kept] = []

    async def look(self, command_ids: Sequence[str], streams: Sequence[str]) -> Found:
        """Those of ``command_ids`` that the log holds, and the last version of each stream."""
        commands, versions = self._store.commands, self._store.versions
        return Found(
            {name: commands[name] for name in command_ids if name in commands},
            {name: versions.get(name, 0) for name in streams},
            self._store.end,
        )

    async def append(self, records: Sequence[Record], kept: Sequence[Kept] = ()) -> None:
        """Add rows that continue the log, and rows of projections."""
        for record in records:
            self._store.add(record)
        self.kept.extend(kept)


def _matches(query: Query, record: Record) -> bool:
    tags = (
        (query.stream, record.stream),
        (query.session, record.session),
        (query.run, record.run),
        (query.phase, record.phase),
        (query.attempt, record.attempt),
    )
    if any(wanted is not None and wanted != found for wanted, found in tags):
        return False
    if query.until is not None and record.pos > query.until:
        return False
    return not query.types or any(fnmatch.fnmatchcase(record.type, t) for t in query.types)
