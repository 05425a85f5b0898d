"""What a row adds to the hash, column by column: rows repeat most of what the last one said.

The database compares the columns that hardly ever change and hands them out only where they do;
of the others, what they add to the hash is written anew only when they change.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from engine.audit.origins import DATED, IN_DATA, is_dated, is_plain, run_of

PAGE_ROWS = 256
_SHARED_KEPT_MAX = 4096
_NOTHING: Any = object()
_SHARED = ("stream", "session", "actor", "code", "epoch")
# A plus takes a column's affinity away: what is stored is compared, as it is.  Text stands before
# every blob, and x'' is the first blob.  Only integers divide without a rest, and only a call of
# typeof says so in other words, which takes ten times as long.
_ODD = " OR ".join(
    [f"+{name} >= x''" for name in ("command_id", "type", "run", "phase", "attempt", "data")]
    + [f"+{name} < x''" for name in ("request", "hash")]
)
_SHARED_KINDS = ([str, str, str, str, int], [str, type(None), str, str, int])
_SAME = " AND ".join(
    [f"+{name} COLLATE BINARY IS ?" for name in _SHARED] + ["(2 * epoch + 1) / 2 IS ?"]
)
_SHARED_ODD = " OR ".join(f"+{name} >= x''" for name in _SHARED)
PAGE = f"""
SELECT pos, version, command_id, idx, request, type, schema, occurred_us, recorded_us, cause,
       run, phase, attempt, data, hash,
       CASE WHEN {_ODD} THEN 0 WHEN {_SAME} THEN NULL WHEN {_SHARED_ODD} THEN 0
            ELSE json_array({", ".join(_SHARED)}) END
  FROM events NOT INDEXED WHERE pos >= ? ORDER BY pos LIMIT {PAGE_ROWS}"""  # noqa: S608  fixed names
"""One page of rows; the last column is None for one that shares the columns that were bound, 0 for
one with text for bytes or bytes for text, else those columns as JSON."""


class Tags(NamedTuple):
    """What a row says its event is about."""

    session: str | None
    run: str | None
    phase: str | None
    attempt: str | None


class _Shared(NamedTuple):
    """The columns that many rows share, and what each adds to the hash.

    ``columns``: what the database is given to compare with.  ``run``: the only one that its stream
    is about, if it says so.  ``plain``: types that are known to come from here.
    """

    columns: tuple[Any, ...]
    place: tuple[str, str, str]
    plain: set[str]
    stream: str
    run: bytes | None
    session: str | None
    epoch: int
    stream_part: bytes
    first_part: bytes
    last_part: bytes


def _shared_of(key: bytes) -> _Shared:
    """From the database's JSON of them; raises ValueError when a column is of the wrong kind."""
    columns: list[Any] = json.loads(key.decode())
    if [type(column) for column in columns] not in _SHARED_KINDS:
        raise ValueError
    stream, session, actor, code, epoch = columns
    run = run_of(stream)
    return _Shared(
        (*columns, epoch),
        (stream, actor, code),
        set[str](),
        stream,
        None if run is None else run.encode(),
        session,
        epoch,
        _part(stream.encode()),
        b"i%d;" % epoch + _part(None if session is None else session.encode()),
        _part(actor.encode()) + _part(code.encode()),
    )


class _Kind(NamedTuple):
    """A type of event; ``start`` is how the data of such a row has to begin.

    ``is_dated``: the data may say when it occurred.
    """

    name: str
    part: bytes
    start: bytes | tuple[()]
    is_usage: bool
    is_dated: bool


class Parts:
    """What the columns of the row at hand add to the hash, and what those columns are."""

    def __init__(self, known: Mapping[str, int]) -> None:
        self._known = known
        self._kept: dict[bytes, _Shared] = {}
        self._kinds: dict[tuple[bytes, int], _Kind] = {}
        self.shared = self._base = _shared_of(b'["",null,"","",0]')
        self.key: bytes | None = None
        self.request = self.command = self.run = self.phase = self.attempt = self.kind = _NOTHING
        self.schema = self.occurred_us = self.recorded_us = -1
        self.lag_us = 0
        self.command_id = self.name = ""
        self.command_part = self.request_part = self.kind_part = b""
        self.times_part = self.tags_part = b""
        self.start: bytes | tuple[()] = ()
        self.is_usage = self.is_dated = False

    @property
    def tags(self) -> Tags:
        """The tags of the row."""
        named = (self.run, self.phase, self.attempt)
        return Tags(self.shared.session, *(None if x is None else x.decode() for x in named))

    def turn_page(self) -> tuple[Any, ...]:
        """What to compare the shared columns of the next page with: those of the last row."""
        self._base, self.key = self.shared, None
        return self.shared.columns

    def share(self, key: bytes | None) -> None:
        """Take the columns that many rows share: those in ``key``, the page's for None."""
        shared = self._base if key is None else self._kept.get(key)
        if shared is None:
            if not isinstance(key, bytes):
                raise TypeError
            if len(self._kept) >= _SHARED_KEPT_MAX:
                self._kept.clear()
            shared = self._kept[key] = _shared_of(key)
        self.shared, self.key = shared, key
        self.attempt = _NOTHING

    def tag(self, run: bytes | None, phase: bytes | None, attempt: bytes | None) -> None:
        """Take what the row is about."""
        if run is None or phase is None or attempt is None:
            tags = _part(run) + _part(phase) + _part(attempt)
        else:
            sized = (len(run), run, len(phase), phase, len(attempt), attempt)
            tags = b"s%d:%bs%d:%bs%d:%b" % sized
        shared = self.shared
        if shared.run is not None and shared.run != run:
            raise ValueError
        self.tags_part = b"".join((shared.first_part, checked(tags), shared.last_part))
        self.run, self.phase, self.attempt = run, phase, attempt

    def become(self, kind: bytes, schema: int) -> None:
        """Take the type."""
        found = self._kinds.get((kind, schema))
        if found is None:
            found = self._kinds[kind, schema] = self._kind(kind, schema)
        self.name, self.kind_part, self.start, self.is_usage, self.is_dated = found
        self.kind, self.schema = kind, schema

    def _kind(self, kind: bytes, schema: int) -> _Kind:
        name = kind.decode()
        plain = 1 <= schema <= self._known.get(name, 0) and name not in IN_DATA
        # Nothing begins with nothing: what is unknown, or opens an epoch, has to be looked at.
        start = b'{"type":"%b"' % kind if plain else ()
        part = _part(kind) + b"i%d;" % schema
        return _Kind(name, part, start, name == "usage.recorded", name in DATED)

    def is_at_home(self, programs: Collection[str]) -> bool:
        """Whether rows of this type come from here, where engines of ``programs`` have begun."""
        shared = self.shared
        stream, actor, code = shared.place
        if not (code in programs and is_plain(self.name, stream, shared.session, actor)):
            return False
        shared.plain.add(self.name)
        return True

    def is_timely(self, data: bytes) -> bool:
        """Whether the event occurred when it was recorded, or when its data says."""
        if self.is_dated:
            return is_dated(data, self.occurred_us, self.recorded_us)
        return not self.lag_us

    def ask(self, command: bytes, request: bytes) -> None:
        """Take the command."""
        part, self.command_id = b"b%d:%b" % (len(request), request), command.decode()
        self.command_part, self.request_part = _part(command), part
        self.command, self.request = command, request

    def date(self, occurred_us: int, recorded_us: int) -> None:
        """Take the times."""
        self.times_part = b"i%d;i%d;" % (occurred_us, recorded_us)
        self.occurred_us, self.recorded_us = occurred_us, recorded_us
        self.lag_us = recorded_us - occurred_us


def _part(text: bytes | None) -> bytes:
    return b"n;" if text is None else b"s%d:%b" % (len(text), text)


def checked(text: bytes) -> bytes:
    """``text``; raises UnicodeDecodeError when it is not UTF-8."""
    if not text.isascii():
        text.decode()
    return text
