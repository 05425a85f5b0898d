"""The data of every row, held against how this program writes it, also where no rule reads it.

In the process that follows the rows, a page at a time: only a page that is not written plainly is
looked at row by row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from engine.audit.chain import Report
from engine.collector import without_collector
from engine.errors import LogUnreadable, UnknownEvent
from engine.events import (
    AnyEvent,
    CoefficientsAdopted,
    CoefficientsInForce,
    PolicyAdopted,
    decode,
    decode_page,
    encode,
    tags_of,
)
from engine.events.codec import SCHEMAS
from engine.triage.policy import policy_from_json

PAGE_ROWS = 1000
_ROWS = """
SELECT pos, recorded_us, type, schema, data, session, run, phase, attempt
  FROM events ORDER BY pos"""
_DIGESTED = (PolicyAdopted, CoefficientsInForce, CoefficientsAdopted)
_encoder = msgspec.json.Encoder()


def check_written(connection: sqlite3.Connection, report: Report) -> None:
    """Report every row whose data, tags or digests are not as they would be written."""
    cursor = connection.execute(_ROWS)
    with without_collector():
        while rows := cursor.fetchmany(PAGE_ROWS):
            plain = _plainly_written(rows)
            _check(rows, plain or [_read(row, report) for row in rows], report)


def _plainly_written(rows: Sequence[Any]) -> Sequence[AnyEvent] | None:
    """The events of a page that is today's writing to the last byte; None for any other."""
    try:
        events = decode_page([row[:5] for row in rows])
        text = ",".join([row[4] for row in rows])
        return events if _encoder.encode(events) == f"[{text}]".encode() else None
    except (UnknownEvent, ValueError):
        return None


def _read(row: Any, report: Report) -> AnyEvent | None:
    """The event of one row, and whether it is written otherwise; None (and a report) without."""
    pos, _, kind, schema, data = row[:5]
    try:
        event = decode(data, event_type=kind, schema=schema, pos=pos)
    except (UnknownEvent, ValueError):
        report(f"S3: the data does not read as {kind} version {schema}", pos)
        return None
    # An older version was written without what has been added since.
    if schema == SCHEMAS[kind] and encode(event) != data:
        report("S3: the data is not written as this program writes it", pos)
    return event


def _check(rows: Sequence[Any], events: Sequence[AnyEvent | None], report: Report) -> None:
    for row, event in zip(rows, events, strict=True):
        if event is None:
            continue
        if row[5:] != tags_of(event):
            report("S6: the tags of the row are not those of the data", row[0])
        if isinstance(event, _DIGESTED):
            for what in _odd(event):
                report(f"S33: {what}", row[0])


def _odd(event: PolicyAdopted | CoefficientsInForce | CoefficientsAdopted) -> Iterator[str]:
    """Where digest or label are not those of the text beside them."""
    if isinstance(event, PolicyAdopted):
        text, digest = event.policy_json, event.policy_sha256
    else:
        text, digest = event.coefficients_json, event.coefficients_sha256
    if sha256(text.encode()).hexdigest() != digest:
        yield "the sha256 is not that of the JSON beside it"
    label = _label(event)
    named = event.policy if isinstance(event, PolicyAdopted) else event.coefficient_version
    if label is not None and label != named:
        yield f"it is called {named!a:.80}, and the JSON beside it {label!a:.80}"


def _label(event: PolicyAdopted | CoefficientsInForce | CoefficientsAdopted) -> str | None:
    """What the text calls itself; None where it cannot be read here."""
    if isinstance(event, PolicyAdopted):
        try:
            return policy_from_json(event.policy_json).label
        except LogUnreadable:
            return None
    try:
        return msgspec.json.decode(event.coefficients_json, type=_Versioned).version
    except msgspec.MsgspecError:
        return None


class _Versioned(msgspec.Struct):
    version: str
