"""Case files: what the log says of one run, and the case that it makes, without the whole board.

The run and its phases are folded from the run's own events, which an index finds; sessions,
breakers, accounts and days come from stored rows and the events after them.  So the time taken
grows with the run and not with the backlog.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from engine.events import (
    AttemptDeferred,
    BoundaryDetected,
    BudgetReached,
    Event,
    FailureFingerprinted,
    Seen,
    ZeroYieldExplained,
    event_type,
)
from engine.store.boards import feed, load_folds, seen_page
from engine.store.protocol import LogReader, Query
from engine.triage.case import Case, account_named, newest_session, seen_from
from engine.triage.hosts import open_on
from projections.accounts import ACCOUNTS, AccountStanding
from projections.backlog import BACKLOG, PhaseStanding
from projections.board import Board
from projections.breakers import BREAKERS, BreakerStanding
from projections.days import DAYS, Day, day_key
from projections.fold import Keyed
from projections.run_triage import RUN_TRIAGE, RunStanding
from projections.sessions import SESSIONS, SessionStanding

_MORE: frozenset[type[Event]] = frozenset(
    {
        FailureFingerprinted,
        BoundaryDetected,
        ZeroYieldExplained,
        AttemptDeferred,
        BudgetReached,
    }
)
TYPES = tuple(sorted(event_type(kind) for kind in BACKLOG.handles | RUN_TRIAGE.handles | _MORE))
"""What is read of a run: all that stands for, decides or explains something."""


class Around(NamedTuple):
    """What bears on every run alike."""

    sessions: Keyed[SessionStanding]
    breakers: Keyed[BreakerStanding]
    accounts: Keyed[AccountStanding]
    days: Keyed[Day]

    @classmethod
    def of(cls, board: Board) -> Around:
        """The same from a whole board."""
        return cls(board.sessions, board.breakers, board.accounts, board.days)

    @classmethod
    async def load(cls, reader: LogReader, end: int) -> Around:
        """As of position ``end``."""
        found = await load_folds(reader, (SESSIONS, BREAKERS, ACCOUNTS, DAYS), end)
        return cls(*(found[fold.name] for fold in (SESSIONS, BREAKERS, ACCOUNTS, DAYS)))

    def newest(self) -> SessionStanding | None:
        """The session that began or went on last."""
        return newest_session(tuple(self.sessions.values()))

    def case(self, run: RunStanding, phases: Iterable[PhaseStanding], now_us: int) -> Case:
        """The case of a run at ``now_us`` (Unix), seen from the newest session."""
        newest = self.newest()
        scope, session = seen_from(newest, now_us)
        return Case(
            scope=scope,
            session=session,
            run=run,
            phases=tuple(sorted(phases, key=lambda phase: phase.registered_pos)),
            breakers=tuple(sorted(self.breakers.values(), key=lambda b: b.fingerprint)),
            account=self.accounts.get(account_named(newest)),
            day=self.days.get(day_key(now_us)),
            now_us=now_us,
            host_open=open_on(self.sessions.values(), session.host),
            elsewhere=tuple(
                other
                for other in self.sessions.values()
                if other.is_at_work and other.session_id != session.session_id
            ),
            left=frozenset(s.session_id for s in self.sessions.values() if s.status == "lost"),
        )


class CaseFile(NamedTuple):
    """A case, and the run's events up to ``position`` that say how it came about, in order."""

    case: Case
    events: tuple[Seen, ...]
    position: int


async def case_file(
    reader: LogReader, around: Around, run_id: str, end: int, now_us: int
) -> CaseFile | None:
    """What the log says of a run up to position ``end``; None when it holds no such run."""
    events = await _events(reader, run_id, end)
    runs, backlog = Keyed(RUN_TRIAGE), Keyed(BACKLOG)
    for seen in events:
        feed(seen, runs, backlog)
    run = runs.get(run_id)
    if run is None:
        return None
    return CaseFile(around.case(run, backlog.values(), now_us), events, end)


async def _events(reader: LogReader, run_id: str, end: int) -> tuple[Seen, ...]:
    query = Query(run=run_id, until=end, types=TYPES)
    found: list[Seen] = []
    while True:
        after = found[-1].pos if found else 0
        page = await reader.records(query, after=after)
        if not page:
            return tuple(found)
        found += seen_page([(r.pos, r.recorded_us, r.type, r.schema, r.data) for r in page])


def case_on(board: Board, run_id: str, now_us: int) -> Case:
    """The case of a run on a whole board."""
    phases = (phase for phase in board.backlog.values() if phase.run_id == run_id)
    return Around.of(board).case(board.runs.states[run_id], phases, now_us)
