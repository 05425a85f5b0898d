"""Verify: check a log against its invariants, sharing no code with those who write it.

It reads rows with the standard library alone, recomputes the chain, and follows attempts, runs and
sessions through the log in one pass.  What it finds is named with the position where it shows.
Source of the invariants: docs/reference/invariants.md.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

from engine.audit.histories import Histories
from engine.errors import LogUnreadable
from engine.store.location import Location

VIOLATIONS_MAX = 1000
_PAGE_ROWS = 2000
_COLUMNS = (
    "pos, stream, version, command_id, idx, request, type, schema, occurred_us, recorded_us,"
    " cause, epoch, session, run, phase, attempt, actor, code, data, hash"
)
_TAGS = (("session", "session_id"), ("run", "run_id"), ("phase", "phase_id"))
KNOWN_TYPES = frozenset(
    {
        "attempt.adopted",
        "attempt.finished",
        "attempt.spawned",
        "attempt.started",
        "backlog.import_finished",
        "backlog.phase_registered",
        "backlog.phase_requeued",
        "backlog.run_registered",
        "backlog.tier_registered",
        "diagnosis.boundary_detected",
        "diagnosis.fingerprinted",
        "diagnosis.zero_yield_explained",
        "engine.started",
        "operator.run_reinstated",
        "session.draining",
        "session.ended",
        "session.policy_adopted",
        "session.resumed",
        "session.started",
        "triage.fingerprint_stopped",
        "triage.run_judged",
        "triage.run_stopped",
        "usage.estimate_imported",
        "usage.imported",
        "usage.recorded",
        "usage.rejected",
    }
)


class Violation(NamedTuple):
    """Something that does not hold, and the log position where it shows."""

    what: str
    pos: int | None


@dataclass
class Verification:
    """What was found; ``ok`` when nothing was."""

    violations: list[Violation] = field(default_factory=list[Violation])
    found: int = 0
    events: int = 0
    open_attempts: int = 0
    head: str = "00" * 32
    anchors: str = "none"

    @property
    def ok(self) -> bool:
        """Whether every invariant holds."""
        return self.found == 0

    def report(self, what: str, pos: int | None) -> None:
        """Note a violation; beyond the first thousand they are only counted."""
        self.found += 1
        if len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(Violation(what, pos))


def verify(location: Location) -> Verification:
    """Check the log at ``location``; synchronous, one pass, little memory.

    Raises LogUnreadable when the file cannot be read to its end, or holds an event of a type or
    version that this program does not know.
    """
    result = Verification()
    chain = _Chain(result)
    histories = Histories(result.report, location.beside("files") / "blobs")
    try:
        with closing(_connect(location.path)) as connection:
            for row in _rows(connection):
                chain.take(row)
                event = _parsed(row, result)
                if event is not None:
                    histories.take(int(row["pos"]), row["cause"], event)
    except sqlite3.Error as error:
        raise LogUnreadable(
            f"the log cannot be read beyond position {result.events}: {error}.",
            remedy="restore the database from a backup; up to there it was read.",
        ) from error
    histories.close()
    result.open_attempts = histories.open_attempts
    _check_anchors(location.beside("anchors"), chain.hashes, result)
    result.violations.sort(key=lambda violation: violation.pos or 0)
    return result


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)
    connection.row_factory = sqlite3.Row
    return connection


def _rows(connection: sqlite3.Connection) -> Iterator[sqlite3.Row]:
    sql = f"SELECT {_COLUMNS} FROM events NOT INDEXED ORDER BY pos"  # noqa: S608  fixed names
    cursor = connection.execute(sql)
    while page := cursor.fetchmany(_PAGE_ROWS):
        yield from page


class _Chain:
    """Positions, versions, command ids, times, epochs and hashes, row by row."""

    def __init__(self, result: Verification) -> None:
        self._result = result
        self._hash = bytes(32)
        self._pos = 0
        self._versions: dict[str, int] = {}
        self._command: tuple[str, int] = ("", -1)
        self._commands: set[str] = set()
        self._epoch = 0
        self._recorded_us = 0
        self.hashes: dict[int, str] = {}

    def take(self, row: sqlite3.Row) -> None:
        """Check one row against the ones before it."""
        pos, report = int(row["pos"]), self._result.report
        if pos != self._pos + 1:
            report(f"S1: position {pos} follows {self._pos}", pos)
        self._check_keys(row, pos)
        self._check_times(row, pos)
        computed = _hash(self._hash, tuple(row)[:-1])
        if computed != row["hash"]:
            report("S2: the hash does not follow from the row and the one before", pos)
        self._hash, self._pos = row["hash"], pos
        self.hashes[pos] = self._hash.hex()
        self._result.events += 1
        self._result.head = self._hash.hex()

    def _check_keys(self, row: sqlite3.Row, pos: int) -> None:
        report, stream = self._result.report, row["stream"]
        self._versions[stream] = self._versions.get(stream, 0) + 1
        if row["version"] != self._versions[stream]:
            report(f"S1: version {row['version']} of {stream} is out of order", pos)
            self._versions[stream] = row["version"]
        command, idx = row["command_id"], row["idx"]
        if command == self._command[0]:
            if idx != self._command[1] + 1:
                report(f"S1: event {idx} of command {command} is out of order", pos)
        elif idx != 0 or command in self._commands:
            report(f"S1: command {command} is not whole", pos)
        self._commands.add(command)
        self._command = (command, idx)

    def _check_times(self, row: sqlite3.Row, pos: int) -> None:
        report, epoch = self._result.report, row["epoch"]
        if row["recorded_us"] < self._recorded_us:
            report("S1: the writer's time goes back", pos)
        self._recorded_us = row["recorded_us"]
        if epoch < self._epoch:
            report(f"S4: epoch {epoch} after {self._epoch}", pos)
        elif epoch > self._epoch and row["type"] != "engine.started":
            report(f"S4: epoch {epoch} does not begin with engine.started", pos)
        self._epoch = max(epoch, self._epoch)
        if row["cause"] is not None and not 0 < row["cause"] < pos:
            report(f"S16: the cause {row['cause']} is not earlier", pos)


def _hash(previous: bytes, columns: tuple[Any, ...]) -> bytes:
    digest = hashlib.sha256(previous)
    for value in columns:
        if value is None:
            digest.update(b"n;")
        elif isinstance(value, int):
            digest.update(f"i{value};".encode())
        elif isinstance(value, str):
            text = value.encode()
            digest.update(f"s{len(text)}:".encode() + text)
        else:
            digest.update(f"b{len(value)}:".encode() + value)
    return digest.digest()


def _parsed(row: sqlite3.Row, result: Verification) -> dict[str, Any] | None:
    pos = int(row["pos"])
    if row["type"] not in KNOWN_TYPES or row["schema"] != 1:
        raise LogUnreadable(
            f"the event at position {pos} is of type {row['type']} version {row['schema']},"
            " which this program does not know.",
            remedy="upgrade runoff to the version that wrote this log.",
        )
    try:
        loaded = json.loads(row["data"])
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        result.report("S2: the data is not a JSON object", pos)
        return None
    event = cast("dict[str, Any]", loaded)
    if event.get("type") != row["type"]:
        result.report("S2: the type of the data is not that of the row", pos)
    for column, name in (*_TAGS, ("attempt", "attempt_id")):
        if row[column] != event.get(name):
            result.report(f"S6: the tag {column} is not that of the data", pos)
    return event


def _check_anchors(path: Path, hashes: dict[int, str], result: Verification) -> None:
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        result.anchors = "missing" if hashes else "none"
        return
    except OSError as error:
        result.report(f"S2: the anchors cannot be read: {error.strerror}", None)
        return
    result.anchors = "ok"
    for line in lines:
        pos_text, _, digest = line.decode(errors="replace").partition(" ")
        pos = int(pos_text) if pos_text.isdigit() else 0
        if hashes.get(pos) != digest:
            result.anchors = "broken"
            what = "cut short" if pos > len(hashes) else "changed"
            result.report(f"S2: the log was {what}: anchor {pos_text[:20]!a} does not hold", pos)
            return
