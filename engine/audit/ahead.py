"""Diagnoses taken in another process, ahead of the walk that needs them: both ends of the pipe.

Texts are searched for long, and nothing but the end itself and two settings go into it.  What is
not handed over, or rests on other settings, the walk finds out by itself.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from queue import SimpleQueue
from threading import Thread
from typing import IO

import msgspec

from engine.audit.connection import connect
from engine.audit.diagnoses import CONTRADICTED, Ahead, Diagnoses
from engine.collector import without_collector
from engine.detect import DETECTORS
from engine.errors import LogUnreadable, RunoffError
from engine.events import AttemptFinished, PolicyAdopted, decode_page
from engine.store.blobs import Blobs
from engine.store.location import Location
from engine.triage.policy import Policy, policy_from_json

PAGE_ROWS = 2000
END = b"\n"
_ENDS = """
SELECT pos, recorded_us, type, schema, data FROM events
 WHERE type IN ('attempt.finished', 'session.policy_adopted') ORDER BY pos"""
_decoder: msgspec.json.Decoder[Ahead] = msgspec.json.Decoder(Ahead)


def tell_ahead(location: Location, out: IO[bytes]) -> None:
    """Write every diagnosis on a line of its own."""
    # Whatever stops it here, the walk meets by itself, and says so.
    with (
        suppress(RunoffError, sqlite3.Error, *CONTRADICTED),
        closing(connect(location.path)) as connection,
        without_collector(),
    ):
        _tell(connection, Diagnoses(Blobs(location.beside("files") / "blobs").get), out)


def _tell(connection: sqlite3.Connection, diagnoses: Diagnoses, out: IO[bytes]) -> None:
    policies: dict[str, Policy] = {}
    cursor = connection.execute(_ENDS)
    while rows := cursor.fetchmany(PAGE_ROWS):
        for row, event in zip(rows, decode_page(rows), strict=True):
            if isinstance(event, PolicyAdopted):
                with suppress(LogUnreadable):
                    policies[event.session_id] = policy_from_json(event.policy_json)
            elif isinstance(event, AttemptFinished):
                policy = policies.get(event.session_id)
                told = None if policy is None else _told(diagnoses, row[0], event, policy)
                if told is not None:
                    out.write(msgspec.json.encode(told) + b"\n")
        out.flush()


def _told(
    diagnoses: Diagnoses, pos: int, finished: AttemptFinished, policy: Policy
) -> Ahead | None:
    """What to hand over; nothing that the walk remembers as well as this does."""
    if policy.detectors not in DETECTORS:
        return None
    found = diagnoses.of(pos, finished, policy)
    if isinstance(found, str) or diagnoses.remembered:
        return None
    timeouts = policy.timeout_fingerprints
    return Ahead(pos=pos, detectors=policy.detectors, timeouts=timeouts, found=found)


class Handed:
    """The walk's end of the pipe, where an empty line stands behind the diagnoses.

    A thread empties it, so that the other process never waits for a walk that is slower.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        self._rest = b""
        self._is_over = False
        self._next: Ahead | None = None
        self._thread = Thread(target=self._empty, args=(pipe,), daemon=True)
        self._thread.start()

    def _empty(self, pipe: IO[bytes]) -> None:
        line = pipe.readline()
        while line not in (b"", END):
            self._lines.put(line)
            line = pipe.readline()
        self._lines.put(END)
        self._rest = pipe.read()

    def take(self, pos: int) -> Ahead | None:
        """The diagnosis of the end at ``pos``; positions are asked for in order."""
        while not self._is_over and (self._next is None or self._next.pos < pos):
            line = self._lines.get()
            self._is_over = line == END
            self._next = None if self._is_over else _decoder.decode(line)
        return self._next if self._next is not None and self._next.pos == pos else None

    def rest(self) -> bytes:
        """What the other process wrote behind the diagnoses, when it is through."""
        self._thread.join()
        return self._rest
