"""The rows of a log as they stand: one pass over every stored column, fast (S1 to S4, S21, S36).

A row that plainly continues the chain is taken as it goes by; any other is read again by itself
and given to ``Chain`` and ``Origins``, which say what is wrong with it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple, cast

from engine.audit.anchored import Anchors, AnchorsState, End
from engine.audit.chain import Chain, Report, Row
from engine.audit.connection import connect, last_pos
from engine.audit.origins import Origins
from engine.audit.parts import PAGE, Parts, Tags, checked
from engine.errors import LogUnreadable, RunoffError, StorageFailed
from engine.pace import Pace
from engine.store.location import Location

_FIRST_POS, _LAST_POS = -(2**63), 2**63 - 1
_BELOW = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_NOMEM)
_BYTES = ("request", "hash")
_INTEGERS = ("pos", "version", "idx", "schema", "occurred_us", "recorded_us", "cause", "epoch")
_NULLABLE = ("cause", "session", "run", "phase", "attempt")
_WIDE = f"SELECT {', '.join(Row._fields)} FROM events NOT INDEXED WHERE pos"  # noqa: S608  fixed


class Asked(NamedTuple):
    """The command that a row belongs to, the digest of what it asked for, and the row's cause."""

    command_id: str
    request: bytes
    cause: int | None


Each = Callable[[int, str, Tags, str, Asked], None]
"""Takes every row in turn: position, type, tags, data, and how it came there."""


@dataclass
class Followed:
    """What the rows came to; ``hash`` is the last one's, 32 zeros for an empty log.

    ``anchored``: the last position that an anchor holds, 0 for none.  ``usage`` counts the rows of
    type ``usage.recorded`` by the attempt they are tagged with.
    """

    events: int = 0
    pos: int = 0
    hash: bytes = bytes(32)
    epoch: int = 0
    anchors: AnchorsState = "none"
    anchored: int = 0
    usage: dict[str, int] = field(default_factory=dict[str, int])


def follow(
    location: Location,
    known: Mapping[str, int],
    report: Report,
    each: Each | None = None,
    pace: Pace | None = None,
) -> Followed:
    """Check the rows of the log at ``location`` and its anchors; changes no byte.

    ``known``: the newest version of every type of event.  Of the data only the beginning is read,
    which names the type; that it is JSON to its end is left to whoever reads it.  ``each`` is
    handed every row, a doubtful one before anything is said about it, and says itself what is
    wrong with its data (S3).  ``pace`` is told how far it has come.

    Raises LogUnreadable when the file cannot be read to its end, or holds an event of a type or
    version that is not known; StorageFailed when it cannot be opened.
    """
    # Before the log, so that what is anchored while the log is read does not seem to be missing.
    anchors = Anchors(location.beside("anchors"), report, is_shared=location.is_shared)
    followed = Followed()
    try:
        with closing(connect(location.path)) as connection:
            connection.execute("BEGIN")
            follower = _Follower(
                connection, followed, anchors, known=known, report=report, each=each
            )
            follower.run(pace)
    except sqlite3.Error as error:
        raise not_read(error, f"beyond position {followed.events}") from error
    return followed


def not_read(error: sqlite3.Error, where: str) -> RunoffError:
    """What to say of a log that could be read up to ``where`` alone, because of ``error``."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _BELOW:
        return StorageFailed(
            f"the database could not be used: {error}.",
            remedy="check its permissions, and the limits of this user or machine"
            " (`ulimit -a`), then run this again.",
        )
    return LogUnreadable(
        f"the log cannot be read {where}: {error}.",
        remedy="restore the database from a backup; up to there it was read.",
    )


class _Follower:
    """One pass over the rows."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        followed: Followed,
        anchors: Anchors,
        *,
        known: Mapping[str, int],
        report: Report,
        each: Each | None,
    ) -> None:
        self._connection = connection
        self._followed = followed
        self._anchors = anchors
        self._known = known
        self._report = report
        self._each = each
        self._chain = Chain(report)
        self._origins = Origins(report)
        self._parts = Parts(known)
        self._usage: dict[bytes | None, int] = {}
        self._right_kinds: set[tuple[type, ...]] = set()

    def run(self, pace: Pace | None) -> None:
        """Follow all rows and note what they came to."""
        start, last = _FIRST_POS, last_pos(self._connection) if pace is not None else 0
        try:
            while page := self._page(start):
                self._take(page)
                if pace is not None:
                    pace(self._chain.pos, last)
                start = max(start, *(row[0] for row in page)) + 1
        except sqlite3.Error:
            # Whatever can still be read counts; then this meets the error again.
            for row in self._rows(">= ? ORDER BY pos", max(start, self._chain.pos + 1)):
                self._look_at(row)
            raise
        chain, followed = self._chain, self._followed
        followed.pos, followed.hash, followed.epoch = chain.pos, chain.hash, chain.epoch
        followed.usage = {k.decode(): n for k, n in self._usage.items() if k is not None}
        end = End(chain.pos, chain.recorded_us, chain.epoch)
        followed.anchors = self._anchors.close(end, self._hash_at)
        followed.anchored = self._anchors.reach

    def _page(self, start: int) -> list[Any]:
        if start > _LAST_POS:
            return []
        self._connection.text_factory = bytes
        return self._connection.execute(PAGE, (*self._parts.turn_page(), start)).fetchall()

    def _take(self, page: list[Any]) -> None:  # noqa: C901  calls would take longer than work
        """Follow a page; a row that is plainly right costs little, others are read again."""
        parts, chain, followed = self._parts, self._chain, self._followed
        usage, origins, commands, due = self._usage, self._origins, chain.commands, self._due()
        for (
            pos, version, command, idx, request, kind, schema, occurred_us, recorded_us,
            cause, run, phase, attempt, data, digest, key,
        ) in page:  # fmt: skip
            try:
                if key != parts.key:
                    parts.share(key)
                if attempt != parts.attempt or phase != parts.phase or run != parts.run:
                    parts.tag(run, phase, attempt)
                if kind != parts.kind or schema != parts.schema:
                    parts.become(kind, schema)
                if command != parts.command or request != parts.request:
                    parts.ask(command, request)
                if recorded_us != parts.recorded_us or occurred_us != parts.occurred_us:
                    parts.date(occurred_us, recorded_us)
                shared, command_id = parts.shared, parts.command_id
                origin = (request, shared.place)
                hashed = sha256(
                    b"%bi%d;%bi%d;%bi%d;%b%b%b%b%bs%d:%b"
                    % (
                        chain.hash, pos, shared.stream_part, version, parts.command_part, idx,
                        parts.request_part, parts.kind_part, parts.times_part,
                        b"n;" if cause is None else b"i%d;" % cause, parts.tags_part,
                        len(data), data if data.isascii() else checked(data),
                    )
                ).digest()  # fmt: skip
                again = command_id == chain.command
                if not (
                    hashed == digest
                    and pos == chain.pos + 1
                    and version == chain.versions.get(shared.stream, 0) + 1
                    and idx == (chain.idx + 1 if again else 0)
                    and (origin == origins.last if again else hash(command_id) not in commands)
                    and recorded_us >= chain.recorded_us
                    and shared.epoch == chain.epoch
                    and (cause is None or (type(cause) is int and 0 < cause < pos))
                    and int is type(version) is type(idx) is type(schema)
                    and int is type(recorded_us) is type(occurred_us)
                    and data.startswith(parts.start)
                    and (parts.name in shared.plain or parts.is_at_home(origins.programs))
                    and (not (parts.lag_us or parts.is_dated) or parts.is_timely(data))
                ):
                    raise ValueError  # noqa: TRY301  treated like what cannot be put together
            except (TypeError, ValueError, AttributeError):
                due = self._look_again(pos)
                continue
            if not again:
                commands.add(hash(command_id))
                chain.command, origins.command, origins.last = command_id, command_id, origin
            chain.versions[shared.stream] = version
            chain.pos, chain.hash, chain.idx, chain.recorded_us = pos, digest, idx, recorded_us
            if parts.is_usage:
                usage[parts.attempt] = usage.get(parts.attempt, 0) + 1
            if pos >= due:
                due = self._hand_on(cause, data)
            followed.events += 1

    def _due(self) -> int:
        """From which position on someone else wants to see the rows, too."""
        return self._anchors.next_pos if self._each is None else _FIRST_POS

    def _hand_on(self, cause: int | None, data: bytes) -> int:
        """Show the last row to those who wait for it; where the next one is due."""
        chain, parts = self._chain, self._parts
        self._anchors.take(chain.pos, chain.hash.hex(), chain.recorded_us)
        if self._each is not None:
            asked = Asked(parts.command_id, parts.request, cause)
            self._each(chain.pos, parts.name, parts.tags, data.decode(), asked)
        return self._due()

    def _look_again(self, pos: int) -> int:
        """Take the row at ``pos`` by itself; where the next one is due."""
        self._look_at(self._row(pos))
        return self._due()

    def _look_at(self, row: Row) -> None:
        """Take any row, and say what is wrong with it."""
        if not 1 <= row.schema <= self._known.get(row.type, 0):
            raise LogUnreadable(
                f"the event at position {row.pos} is of type {row.type[:100]!a} version"
                f" {row.schema}, which this program does not know.",
                remedy="upgrade runoff to the version that wrote this log.",
            )
        event = _object(row.data)
        if self._each is not None:
            tags = Tags(row.session, row.run, row.phase, row.attempt)
            asked = Asked(row.command_id, row.request, row.cause)
            self._each(row.pos, row.type, tags, row.data, asked)
        elif event is None:
            self._report("S3: the data is not a JSON object", row.pos)
        elif event.get("type") != row.type:
            self._report("S3: the type of the data is not that of the row", row.pos)
        self._chain.take(row, event)
        self._origins.take(row, event)
        self._anchors.take(row.pos, row.hash.hex(), row.recorded_us)
        if row.type == "usage.recorded":
            attempt = None if row.attempt is None else row.attempt.encode()
            self._usage[attempt] = self._usage.get(attempt, 0) + 1
        self._followed.events += 1

    def _row(self, pos: int) -> Row:
        for row in self._rows("= ?", pos):
            return row
        raise sqlite3.DatabaseError("database disk image is malformed")

    def _rows(self, where: str, pos: int) -> Iterator[Row]:
        """Whole rows one by one, each with columns of the right kind."""
        self._connection.text_factory = str
        for values in self._connection.execute(f"{_WIDE} {where}", (pos,)):
            kinds = tuple(map(type, values))
            if kinds not in self._right_kinds:
                _check_kinds(kinds, self._chain.pos)
                self._right_kinds.add(kinds)
            yield Row._make(values)

    def _hash_at(self, pos: int) -> str | None:
        sql = "SELECT hash FROM events WHERE pos = ?"
        found = self._connection.execute(sql, (pos,)).fetchone()
        return None if found is None else found[0].hex()


def _check_kinds(kinds: tuple[type, ...], last: int) -> None:
    for name, kind in zip(Row._fields, kinds, strict=True):
        expected = bytes if name in _BYTES else int if name in _INTEGERS else str
        if kind is not expected and not (kind is type(None) and name in _NULLABLE):
            raise LogUnreadable(
                f"the event behind position {last} has a {kind.__name__} for {name}.",
                remedy="restore the database from a backup; up to there it was read.",
            )


def _object(data: str) -> dict[str, Any] | None:
    """The JSON object in ``data``, None when there is none."""
    try:
        loaded = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else None
