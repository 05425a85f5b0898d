"""The board: every projection side by side, at one position of the log.

The writer keeps one at the head and decides against it; a reader builds one from stored rows and
the events after them; an auditor builds one from nothing.  All three are the same folds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.events import GENESIS, AnyEvent, Event, Head, Seen
from projections.accounts import ACCOUNTS, AccountStanding
from projections.backlog import BACKLOG, PhaseStanding
from projections.breakers import BREAKERS, BreakerStanding
from projections.causes import CAUSES, CauseStanding
from projections.days import DAYS, Day
from projections.fingerprints import FINGERPRINTS, FingerprintCount
from projections.fold import Checkpoint, Fold, Keyed
from projections.run_triage import RUN_TRIAGE, RunStanding
from projections.sessions import SESSIONS, SessionStanding
from projections.timeline import TIMELINE, Minute
from projections.zero_yield import ZERO_YIELD, YieldCounts

FOLDS: Mapping[str, Fold[Any]] = {
    fold.name: fold
    for fold in (
        BACKLOG,
        RUN_TRIAGE,
        FINGERPRINTS,
        SESSIONS,
        BREAKERS,
        CAUSES,
        ACCOUNTS,
        DAYS,
        ZERO_YIELD,
        TIMELINE,
    )
}
"""Every projection there is, by name; the last ones are for people, no rule reads them."""

_REPORTS = 2

Stored = Mapping[str, tuple[Checkpoint, Keyed[Any]]]


class Board:
    """All projections at ``head``.

    ``stored``: what stood in a database, with its checkpoint, by projection name; whatever is
    missing starts empty.
    All checkpoints handed in must stand at the same position.  ``is_rebuilt`` says that nothing
    was handed in, so that rows stored somewhere are not the ones this board stands on.
    ``reports`` False leaves those projections empty that no rule reads.
    """

    def __init__(self, stored: Stored | None = None, *, reports: bool = True) -> None:
        stored = stored or {}
        self.backlog: Keyed[PhaseStanding] = _keyed(BACKLOG, stored)
        self.runs: Keyed[RunStanding] = _keyed(RUN_TRIAGE, stored)
        self.fingerprints: Keyed[FingerprintCount] = _keyed(FINGERPRINTS, stored)
        self.sessions: Keyed[SessionStanding] = _keyed(SESSIONS, stored)
        self.breakers: Keyed[BreakerStanding] = _keyed(BREAKERS, stored)
        self.causes: Keyed[CauseStanding] = _keyed(CAUSES, stored)
        self.accounts: Keyed[AccountStanding] = _keyed(ACCOUNTS, stored)
        self.days: Keyed[Day] = _keyed(DAYS, stored)
        self.zero_yield: Keyed[YieldCounts] = _keyed(ZERO_YIELD, stored)
        self.timeline: Keyed[Minute] = _keyed(TIMELINE, stored)
        self.all: tuple[Keyed[Any], ...] = (
            self.backlog,
            self.runs,
            self.fingerprints,
            self.sessions,
            self.breakers,
            self.causes,
            self.accounts,
            self.days,
            self.zero_yield,
            self.timeline,
        )
        self._takers: dict[type[Event], list[Keyed[Any]]] = {}
        for keyed in self.all if reports else self.all[:-_REPORTS]:
            for kind in keyed.fold.handles:
                self._takers.setdefault(kind, []).append(keyed)
        heads = {(point.pos, point.hash) for point, _ in stored.values()}
        assert len(heads) <= 1, "projections of one board stand at one position"
        self.head = Head(*heads.pop()) if heads else Head(0, GENESIS)
        self.is_rebuilt = not stored

    def fold_next(self, event: AnyEvent, now_us: int) -> None:
        """Fold ``event`` as if it were recorded next, which nothing need have done.

        For looking ahead, and for looking at what might have been: from here on the board is no
        log's.
        """
        pos = self.head.pos + 1
        self.head = Head(pos, GENESIS)
        self.feed(Seen(pos, now_us, event))

    def become(self, other: Board) -> None:
        """Stand where ``other`` stands, which is used no more, for all who look at this board."""
        for mine, others in zip(self.all, other.all, strict=True):
            mine.become(others)
        self.head = other.head

    def feed(self, seen: Seen) -> None:
        """Fold one event into every projection it touches."""
        for keyed in self._takers.get(type(seen.event), ()):
            keyed.fold_in(seen)


def _keyed(fold: Fold[Any], stored: Stored) -> Keyed[Any]:
    return stored[fold.name][1] if fold.name in stored else Keyed(fold)
