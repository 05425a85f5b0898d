"""The envelope: where an event stands in the log, and who put it there."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from engine.events.codec import AnyEvent, decode

GENESIS = bytes(32)
"""The hash before the first event."""


class Record(NamedTuple):
    """One row of the log, in the column order of the database and of the hash.

    ``pos`` is 1..n without gaps and the only order there is.  ``version`` counts within
    ``stream``; ``idx`` within ``command_id``; ``request`` is the sha256 of what the command asked.
    ``occurred_us`` is claimed, ``recorded_us`` the writer's (never decreasing).  ``cause`` is the
    position of the fact a decision belongs to.  ``schema`` is the version of the type, ``epoch``
    the writer's (one more with each that begins), ``actor`` which part of the program spoke, and
    ``code`` the program's version.  ``session`` to ``attempt`` say what it is about, if they can.
    ``hash`` chains every column to the row before.
    """

    pos: int
    stream: str
    version: int
    command_id: str
    idx: int
    request: bytes
    type: str
    schema: int
    occurred_us: int
    recorded_us: int
    cause: int | None
    epoch: int
    session: str | None
    run: str | None
    phase: str | None
    attempt: str | None
    actor: str
    code: str
    data: str
    hash: bytes


COLUMNS = Record._fields


class Seen(msgspec.Struct, frozen=True, gc=False):
    """What a fold is handed: the event, and the little of its envelope that folds may read."""

    pos: int
    recorded_us: int
    event: AnyEvent


class Head(NamedTuple):
    """The end of the log: its last position (0 when empty) and chain hash."""

    pos: int
    hash: bytes


def event_of(record: Record) -> AnyEvent:
    """The event in a record of the log; raises UnknownEvent like ``decode``."""
    return decode(record.data, event_type=record.type, schema=record.schema, pos=record.pos)


def chain_hash(previous: bytes, columns: tuple[str | int | bytes | None, ...]) -> bytes:
    """sha256 over the previous hash and every stored column but the hash itself.

    Each column is written so that no two rows read alike: ``n;`` for none, ``i<decimal>;`` for an
    integer, ``s<length>:`` and the UTF-8 bytes for text, ``b<length>:`` and the bytes for bytes.
    """
    digest = hashlib.sha256(previous)
    texts: list[str] = []
    for value in columns:
        if value is None:
            texts.append("n;")
        elif isinstance(value, str):
            # The length of ASCII text is known without encoding it; encoding all at once is cheap.
            size = len(value) if value.isascii() else len(value.encode())
            texts.append(f"s{size}:{value}")
        elif isinstance(value, int):
            texts.append(f"i{value};")
        else:
            texts.append(f"b{len(value)}:")
            digest.update("".join(texts).encode())
            digest.update(value)
            texts.clear()
    digest.update("".join(texts).encode())
    return digest.digest()
