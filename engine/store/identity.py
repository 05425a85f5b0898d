"""Which database this is: what every command shows before it touches one (T2)."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import msgspec

from engine.amounts import counted
from engine.events import Head
from engine.store.location import Location
from projections.board import Board
from projections.zero_yield import TOTAL, YieldCounts


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A database's identity as of ``head``, its last position; ``digest`` is the hash there.

    ``modified``: of the file or its write-ahead log, whichever is newer, ISO 8601 in UTC.  Of a
    database on a server ``file`` is the folder for files that stand here, and ``modified`` empty.
    """

    url: str
    file: str
    modified: str
    runs: int
    phases: int
    phases_by_state: dict[str, int]
    usage_events: int
    events: int
    head: int
    digest: str

    def banner(self) -> str:
        """Four lines for a person."""
        states = ", ".join(f"{n} {state}" for state, n in self.phases_by_state.items()) or "none"
        return (
            f"database  {self.url}\n"
            f"{_file_line(self.file, self.modified)}\n"
            f"holds     {counted(self.runs, 'run')}, {counted(self.phases, 'phase')} ({states}),"
            f" {counted(self.usage_events, 'usage event')}\n"
            f"log       {counted(self.events, 'event')}, head {self.head} {self.digest[:16]}"
        )


def identify(location: Location, board: Board) -> Identity:
    """The identity of the log up to where ``board`` stands."""
    counts = board.zero_yield.get(TOTAL) or YieldCounts()
    states = Counter(phase.state for phase in board.backlog.values())
    return Identity(
        url=location.url,
        file=_file(location),
        modified=_modified(location),
        runs=len(board.runs),
        phases=len(board.backlog),
        phases_by_state=dict(sorted(states.items())),
        usage_events=counts.usage_recorded + counts.usage_imported,
        events=board.head.pos,
        head=board.head.pos,
        digest=board.head.hash.hex(),
    )


def short_banner(location: Location, head: Head) -> str:
    """The lines that name a database, without what takes reading all of its backlog."""
    return (
        f"database  {location.url}\n"
        f"{_file_line(_file(location), _modified(location))}\n"
        f"log       {counted(head.pos, 'event')}, head {head.pos} {head.hash.hex()[:16]}"
    )


def _file(location: Location) -> str:
    """The database file; of a server's database the folder that stands here."""
    if location.address is None:
        return str(location.path.resolve())
    return str(location.beside("files"))


def _file_line(file: str, modified: str) -> str:
    return f"file      {file} (modified {modified})" if modified else f"files     {file}"


def _modified(location: Location) -> str:
    if location.address is not None:
        return ""
    times = [p.stat().st_mtime for p in (location.path, location.beside("wal")) if p.exists()]
    return datetime.fromtimestamp(max(times, default=0), UTC).isoformat(timespec="seconds")
