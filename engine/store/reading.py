"""Reading a log in SQL: what all databases are asked in the same words, but for a few of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Literal

from engine.events import COLUMNS, GENESIS, Head, Record
from engine.store.protocol import PAGE_ROWS, Query, StoredProjection, T
from projections.fold import Checkpoint

FOLD_COLUMNS = "pos, recorded_us, type, schema, data"
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM events"  # noqa: S608  fixed names


class SqlReader(ABC):
    """A reader of a log in a database; its dialect is a subclass's.

    ``session_order``: by which column a page of a session's events is found soonest.
    """

    session_order: ClassVar[Literal["pos", "version"]] = "pos"

    @abstractmethod
    async def execute(self, sql: str, *parameters: Any) -> list[Any]:
        """Run one statement; its rows."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection."""

    @abstractmethod
    async def has_table(self, name: str) -> bool:
        """Whether there is a table ``name``."""

    @staticmethod
    @abstractmethod
    def mark(number: int) -> str:
        """What stands for the parameter ``number``, counted from 1, in a statement."""

    @staticmethod
    @abstractmethod
    def types_condition(types: Sequence[str], number: int) -> tuple[str, list[Any]]:
        """That the type is one of ``types``, which may have stars; and its parameters.

        ``number``: of the first of these parameters.
        """

    async def head(self) -> Head:
        """The end of the log."""
        rows = await self.execute("SELECT pos, hash FROM events ORDER BY pos DESC LIMIT 1")
        return Head(*rows[0]) if rows else Head(0, GENESIS)

    async def last_epoch(self) -> int:
        """The epoch of the last event, 0 when there is none."""
        rows = await self.execute("SELECT epoch FROM events ORDER BY pos DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    async def records(self, query: Query, after: int = 0, limit: int = PAGE_ROWS) -> list[Record]:
        """The next records beyond position ``after``."""
        where, parameters = self._conditions(query, after)
        order = "DESC" if query.newest_first else "ASC"
        sql = f"{_SELECT} WHERE {where} ORDER BY {self._order(query)} {order} LIMIT {int(limit)}"
        return [Record(*row) for row in await self.execute(sql, *parameters)]

    async def hash_at(self, pos: int) -> bytes | None:
        """The chain hash at ``pos``."""
        sql = f"SELECT hash FROM events WHERE pos = {self.mark(1)}"  # noqa: S608  a mark
        rows = await self.execute(sql, pos)
        return rows[0][0] if rows else None

    async def projections(self) -> list[StoredProjection]:
        """Every stored projection version and its checkpoint."""
        rows = await self.execute(
            "SELECT name, version, pos, hash, digest FROM projections ORDER BY name, version"
        )
        return [StoredProjection(r[0], r[1], Checkpoint(r[2], r[3], r[4])) for r in rows]

    async def projection_rows(self, name: str, version: int) -> list[tuple[str, str]]:
        """All rows of a stored projection, in key order."""
        rows = await self.execute(rows_of(name, version))
        return [(key, data) for key, data in rows]

    async def read_projection(
        self, name: str, version: int, by: Callable[[Iterable[tuple[str, str]]], T]
    ) -> T:
        """What ``by`` makes of all rows of a stored projection, which come in key order."""
        return by(await self.projection_rows(name, version))

    async def projection_row(self, name: str, version: int, key: str) -> str | None:
        """One row of a stored projection, or None."""
        table = table_of(name, version)
        if not await self.has_table(table):
            return None
        sql = f"SELECT data FROM {table} WHERE key = {self.mark(1)}"  # noqa: S608
        rows = await self.execute(sql, key)
        return rows[0][0] if rows else None

    def _order(self, query: Query) -> str:
        """What tells the order of the log: in a stream its versions, which its index has."""
        if query.stream is not None:
            return "version"
        is_whole_session = query.session is not None and not (query.run or query.attempt)
        return self.session_order if is_whole_session else "pos"

    def _conditions(self, query: Query, after: int) -> tuple[str, list[Any]]:
        parts = ["1 = 1"]
        parameters: list[Any] = []

        def add(condition: str, value: Any) -> None:
            parameters.append(value)
            parts.append(f"{condition} {self.mark(len(parameters))}")

        for column in ("stream", "session", "run", "phase", "attempt"):
            value = getattr(query, column)
            if value is not None:
                add(f"{column} =", value)
        if query.session is not None:
            # All of a session stands in its stream, whose index finds it.
            add("stream =", f"drain/{query.session}")
        if after:
            add("pos <" if query.newest_first else "pos >", after)
        if query.until is not None:
            add("pos <=", query.until)
        if query.types:
            condition, types = self.types_condition(query.types, len(parameters) + 1)
            parts.append(condition)
            parameters += types
        return " AND ".join(parts), parameters


def rows_of(name: str, version: int) -> str:
    """The statement that reads the rows of a projection, in key order."""
    return f"SELECT key, data FROM {table_of(name, version)} ORDER BY key"  # noqa: S608


def table_of(name: str, version: int) -> str:
    """The table that holds the rows of a projection."""
    assert name.replace("_", "").isalnum(), name
    return f"projection_{name}_v{version}"
