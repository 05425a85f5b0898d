"""Audit: is the log whole, was it written by its rules, and do the projections follow from it.

Four levels.  ``structure``: positions, versions, commands, times, epochs, usage counts.  ``chain``:
every hash and every anchor.  Both are followed in another process, which takes diagnoses first.
``decisions``: every pick, verdict, stop, fingerprint, reason and boundary is taken again from its
prefix under the rule version recorded with it.  ``projections``: rebuilt on the way, and compared
with what is stored.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Literal, get_args

import msgspec

from engine.audit.ahead import Handed
from engine.audit.compared import Difference
from engine.audit.connection import connect
from engine.audit.diagnoses import CONTRADICTED, TakeAhead
from engine.audit.lines import Line, commands, read_lines, said_of
from engine.audit.local import local
from engine.audit.redecide import Redecision, Unverifiable
from engine.collector import without_collector
from engine.errors import LogUnreadable, StorageFailed, nothing_left
from engine.events import AttemptFinished
from engine.pace import Pace
from engine.store.blobs import Blobs
from engine.store.location import Location
from projections.board import FOLDS
from projections.fold import row_digest

Level = Literal["structure", "chain", "decisions", "projections"]
LEVELS: tuple[Level, ...] = get_args(Level)
_RULES: frozenset[Level] = frozenset({"decisions", "projections"})
_ROWS: frozenset[Level] = frozenset({"structure", "chain"})
_PARTS: Mapping[str, frozenset[Level]] = {"ahead": _RULES, "rows": _ROWS}
"""What is done in another process, and for which levels."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is not as it must be, and where it shows."""

    level: Level
    pos: int | None
    what: str


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit came to.

    ``ok`` only if nothing was found and nothing stayed unverifiable.  ``differences`` are decisions
    recorded otherwise than their rules say; ``findings`` everything else that is wrong.
    ``anchored``: the last position that an anchor holds, 0 for none.
    ``decided`` counts the decisions taken again, by type of event.
    """

    ok: bool
    levels: tuple[Level, ...]
    events: int
    head: str
    anchors: str
    anchored: int
    decided: dict[str, int]
    differences: tuple[Difference, ...]
    unverifiable: tuple[Unverifiable, ...]
    findings: tuple[Finding, ...]


def audit(location: Location, levels: Sequence[Level] = LEVELS, pace: Pace | None = None) -> Audit:
    """Audit the log at ``location``; synchronous, changes no byte.

    ``pace`` is told how far it has come.
    Raises LogUnreadable when it cannot be read to its end, UnknownEvent for what a newer program
    wrote.
    """
    with local(location, pace) as place:
        return _audited(place, levels, pace)


def _audited(location: Location, levels: Sequence[Level], pace: Pace | None) -> Audit:
    try:
        with closing(connect(location.path)) as connection:
            connection.execute("BEGIN")
            # Read once, so that this snapshot is the older one: the other process sees no less.
            connection.execute("SELECT 1 FROM events LIMIT 1").fetchone()
            rows: dict[str, Any] = {}
            with _beside(location, levels, rows) as ahead:
                follower = _Follower(connection, location, ahead, pace)
                if _RULES & set(levels):
                    with without_collector():
                        follower.run()
            return _concluded(follower, rows, levels)
    except sqlite3.Error as error:
        raise LogUnreadable(
            f"the log cannot be read: {error}.", remedy="restore the database from a backup."
        ) from error


@contextmanager
def _beside(
    location: Location, levels: Sequence[Level], rows: dict[str, Any]
) -> Generator[TakeAhead, None, None]:
    """Another process while the block runs: it takes diagnoses ahead, and follows the rows.

    What it found in ``rows`` is filled in when the block ends.
    """
    parts = [name for name, of in _PARTS.items() if of & set(levels)]
    # The URL says whether others write the log, too, also of a file that is a server's snapshot.
    place = (location.url, str(location.path))
    argv = [sys.executable, "-m", "engine.audit.rows_process", *place, *parts]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:  # noqa: S603  our own module
        assert process.stdout is not None
        handed = Handed(process.stdout)
        try:
            yield handed.take
            text = handed.rest()
        except BaseException:
            process.kill()
            handed.rest()  # the pipe is closed next, which must not happen under its reader
            raise
    if "rows" not in parts:
        return
    try:
        rows |= json.loads(text)
    except ValueError:
        if process.returncode == StorageFailed.exit_code:
            raise nothing_left("the rows could not be followed") from None
        raise LogUnreadable(
            f"the rows could not be followed (exit code {process.returncode}).",
            remedy="`runoff verify` reads them in this process and says more.",
        ) from None
    if "problem" in rows:
        raise LogUnreadable(rows["problem"], remedy=rows["remedy"])


def _concluded(follower: _Follower, rows: dict[str, Any], levels: Sequence[Level]) -> Audit:
    findings = [
        Finding(level="chain" if what.startswith("S2") else "structure", pos=pos, what=what)
        for pos, what in rows.get("violations", ())
    ]
    if rows and rows["count"] > len(findings):
        what = f"{rows['count'] - len(findings)} more violations, which are not listed"
        findings.append(Finding(level="structure", pos=None, what=what))
    if rows and follower.has_run:
        findings += follower.usage_findings(rows["usage"])
    findings += follower.findings
    found = follower.redecision
    decided = "decisions" in levels
    differences = tuple(found.differences) if decided else ()
    unverifiable = tuple(found.unverifiable) if decided else ()
    kept = tuple(f for f in findings if f.level in levels)
    return Audit(
        ok=not (differences or unverifiable or kept),
        levels=tuple(levels),
        events=rows.get("events", follower.last_pos),
        head=rows.get("head", ""),
        anchors=rows.get("anchors", "not looked at"),
        anchored=rows.get("anchored", 0),
        decided=found.decided if decided else {},
        differences=differences,
        unverifiable=unverifiable,
        findings=kept,
    )


class _Follower:
    """The rules' side: decisions taken again, and projections rebuilt, in one pass."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        location: Location,
        ahead: TakeAhead,
        pace: Pace | None,
    ) -> None:
        self._connection = connection
        self._pace = pace
        blobs = Blobs(location.beside("files") / "blobs")
        self.redecision = Redecision(blobs.get, partial(said_of, connection), ahead)
        self.findings: list[Finding] = []
        self.last_pos = 0
        self.has_run = False
        self._yields: dict[str, tuple[int, int]] = {}

    def run(self) -> None:
        """Follow every command to the head."""
        checkpoints = self._checkpoints()
        for group in commands(self._lines()):
            while checkpoints and checkpoints[0][0] < group[0].pos:
                self._compare_projection(*checkpoints.pop(0))
            if not self._take(group):
                return
        for checkpoint in checkpoints:
            self._compare_projection(*checkpoint)
        self.has_run = True

    def _take(self, group: list[Line]) -> bool:
        """Follow one command; False when it contradicts what stands before it."""
        try:
            self.redecision.take(group)
        except CONTRADICTED as error:
            what = f"S3: nothing can be decided again from here on: {error!r:.200}"
            self.findings.append(Finding(level="decisions", pos=group[0].pos, what=what))
            return False
        self.last_pos = group[-1].pos
        return True

    def _lines(self) -> Iterator[Line]:
        for line in read_lines(self._connection, pace=self._pace):
            event = line.event
            if type(event) is AttemptFinished:
                self._yields[event.attempt_id] = (line.pos, event.yield_events)
            yield line

    def usage_findings(self, usage: dict[str, int]) -> Iterator[Finding]:
        """Attempts whose yield is not the number of their usage records (S21)."""
        for attempt_id, (pos, claimed) in self._yields.items():
            counted = usage.get(attempt_id, 0)
            if counted != claimed:
                what = f"S21: {counted} usage records, {claimed} claimed"
                yield Finding(level="structure", pos=pos, what=what)

    def _checkpoints(self) -> list[tuple[int, str, bytes, bytes]]:
        """Position, name, hash and digest of every stored projection of today's versions."""
        rows = self._connection.execute("SELECT pos, name, hash, digest, version FROM projections")
        versions = {fold.name: fold.version for fold in FOLDS.values()}
        return sorted(tuple(r[:4]) for r in rows if versions.get(r[1]) == r[4])

    def _compare_projection(self, pos: int, name: str, chain: bytes, digest: bytes) -> None:
        fold = FOLDS[name]
        try:
            rows = self._connection.execute(f"SELECT key, data FROM {fold.table}")  # noqa: S608
            stored = dict(rows.fetchall())
        except sqlite3.DatabaseError as error:
            self._note(f"S29: {name} cannot be read: {error}", pos)
            return
        if self._hash_at(pos) != chain:
            self._note(f"S29: {name} has read another log", pos)
            return
        keyed = next(k for k in self.redecision.board.all if k.fold.name == name)
        expected = dict(keyed.rows())
        if stored != expected:
            odd = min(k for k in stored.keys() | expected if stored.get(k) != expected.get(k))
            self._note(f"S29: {name} differs at {odd!a}", pos)
        elif sum(row_digest(*row) for row in stored.items()) % (1 << 256) != int.from_bytes(digest):
            self._note(f"S29: {name} has another digest", pos)

    def _hash_at(self, pos: int) -> bytes | None:
        if pos == 0:
            return bytes(32)
        sql = "SELECT hash FROM events WHERE pos = ?"
        found = self._connection.execute(sql, (pos,)).fetchone()
        return found[0] if found else None

    def _note(self, what: str, pos: int) -> None:
        self.findings.append(Finding(level="projections", pos=pos, what=what))
