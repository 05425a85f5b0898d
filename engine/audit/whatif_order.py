"""What would have been attempted instead: the other policy's picks beside the recorded starts.

One index a session, kept current as the writer's is, and asked at every recorded start.  Another
pick is no horizon by itself: when the same attempts are made in the end, only their order differs.
It becomes one when what should have come first never came, when a bound of the session excludes
what was attempted in its place, or when a decision rests on what other runs did before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from engine.events import (
    AccountPaused,
    AccountRecovered,
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    BudgetReached,
    FingerprintStopped,
    RunJudged,
    RunStopped,
    SessionDraining,
)
from engine.triage.decide import Facts, seen_of
from engine.triage.provider import limit_met
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board
from projections.fingerprints import RUNS_MAX
from projections.fold import join
from projections.run_triage import RunStanding

IDLE_US = 1_000_000
"""An engine that leaves a worker idle for longer had nothing to start."""

_OVER_RUNS = (
    FingerprintStopped,
    BreakerOpened,
    BreakerProbed,
    BreakerClosed,
    SessionDraining,
    AccountPaused,
    AccountRecovered,
)


class Ahead(NamedTuple):
    """A run of which a phase would have been attempted before what was, and since where."""

    run_id: str
    pos: int


class SessionOrder:
    """The order of one session under the other policy, held against the recorded one.

    ``ahead``: what should have come first and has not come yet, by phase.  ``shifted``: the
    runs that were attempted before it, or that a free worker would have taken up earlier, and
    where first.  ``misplaced``: runs of which another phase would have been attempted first.
    ``touched``: where an attempt of each run first began or ended once one was shifted: when it
    would have is then unknown, and where several workers go side by side, before which others, too.
    ``failed``: where one of each run first failed since then, in a way not seen before.
    """

    def __init__(self, board: Board, scope: Scope) -> None:
        self._queue = Queue(board, scope)
        self.goes_side_by_side = scope.limits.workers > 1
        self._unheeded: list[AnyEvent] = []
        self.ahead: dict[str, Ahead] = {}
        self.shifted: dict[str, int] = {}
        self.misplaced: set[str] = set()
        self.touched: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self._unnamed: list[str] = []
        self._untold: dict[str, int] = {}
        self._untold_beside: dict[str, int] = {}

    @property
    def has_moved(self) -> bool:
        """Whether anything would have come at another time."""
        return bool(self.shifted or self.ahead)

    @property
    def beside(self) -> dict[str, int]:
        """What several workers touched side by side: which of it comes before which is unknown."""
        return self.touched if self.goes_side_by_side else {}

    def untold_beside(self) -> dict[str, int]:
        """Those of ``beside`` that this has not been asked about yet."""
        found, self._untold_beside = self._untold_beside, {}
        return found

    def untold_of(self, runs: Callable[[], Iterable[str]]) -> dict[str, int]:
        """Those of ``runs`` that were shifted, or are beside, since when first, each told once."""
        untold = self._untold
        if not untold:
            return {}  # mostly; and there may be many runs
        found = {run_id: untold[run_id] for run_id in runs() if run_id in untold}
        for run_id in found:
            del untold[run_id]
        return found

    def renew(self, scope: Scope) -> None:
        """The session goes on after an interruption."""
        self._unheeded.clear()
        self._queue.renew(scope)

    def take(self, event: AnyEvent) -> None:
        """Take notice of an event that was folded."""
        self._unheeded.append(event)

    def _heed(self) -> None:
        if self._unheeded:
            self._queue.heed_all(self._unheeded)
            self._unheeded.clear()

    def cool(self, now_us: int) -> RunStanding | None:
        """A run that the other policy would sample again now."""
        self._heed()
        return self._queue.cool(now_us)

    def was_due(self, now_us: int) -> bool:
        """Whether a worker would have had something to start already a while ago."""
        self._heed()
        then_us = now_us - IDLE_US
        return self._queue.cool(then_us) is not None or self._queue.pick(then_us) is not None

    def hasten(self, run_id: str, pos: int) -> None:
        """What was started at ``pos`` would have been started earlier."""
        if self.goes_side_by_side:
            self._shift(run_id, pos)

    def touch(self, run_id: str, pos: int) -> None:
        """An attempt of a run began or ended."""
        if self.shifted and run_id not in self.touched:
            self.touched[run_id] = pos
            if self.goes_side_by_side:
                self._untold_beside[run_id] = pos
                self._untold.setdefault(run_id, pos)

    def hold(self, pos: int, now_us: int, started: AttemptStarted | None) -> None:
        """Hold its pick against what was started at ``pos``; None when nothing was.

        Before the start is folded.  Where nothing would have been picked, the start is delayed.
        """
        self._heed()
        choice = self._queue.pick(now_us)
        if choice is not None:
            key = join(choice.run.run_id, choice.phase.phase_id)
            if started is not None and key == join(started.run_id, started.phase_id):
                return
            self.ahead.setdefault(key, Ahead(choice.run.run_id, pos))
            if started is None and self.goes_side_by_side:
                self._shift(choice.run.run_id, pos)
        if started is not None:
            self._shift(started.run_id, pos)
            if self._queue.first_of(started.run_id) not in (None, started.phase_id):
                self.misplaced.add(started.run_id)

    def _shift(self, run_id: str, pos: int) -> None:
        if run_id not in self.shifted:
            self.shifted[run_id] = pos
            self._unnamed.append(run_id)
            self._untold.setdefault(run_id, pos)

    def shifted_since(self) -> list[str]:
        """Those that were shifted since this was last asked for."""
        found, self._unnamed = self._unnamed, []
        return found

    def made(self, started: AttemptStarted) -> None:
        """What should have come first has come."""
        self.ahead.pop(join(started.run_id, started.phase_id), None)


def is_out_of_turn(order: SessionOrder, decided: Iterable[AnyEvent]) -> bool:
    """Whether a run is judged or stopped by what should have come behind another phase of it.

    Several workers may have had another of its phases under way by then, or no more.
    """
    return any(
        (isinstance(event, RunJudged | RunStopped) and event.run_id in order.misplaced)
        or (isinstance(event, RunStopped | BudgetReached) and event.run_id in order.beside)
        for event in decided
    )


def carriers(board: Board, facts: Facts) -> Iterable[str]:
    """The runs that have failed as an end did in its session, before it; all when they are many."""
    seen = seen_of(board, facts)
    if seen is None:
        return ()
    return seen.runs if len(seen.runs) < RUNS_MAX else [run.run_id for run in board.runs.values()]


def is_over_runs(decided: Iterable[AnyEvent]) -> bool:
    """Whether something was decided at an end that another run's would have had, had it come."""
    return any(isinstance(event, _OVER_RUNS) for event in decided)


def rests_on_order(board: Board, facts: Facts, decided: list[AnyEvent], scope: Scope) -> bool:
    """Whether what follows from an end depends on what other runs did before it.

    ``board`` stands before the end.
    """
    if scope.policy.consecutive_zero_yield_max:
        return True
    fingerprinted = facts.fingerprinted
    if fingerprinted is not None and fingerprinted.seen_before > 0:
        return True
    # A limit begins a pause, or falls into one that another end has begun.
    if limit_met(facts.finished, facts.boundaries, scope.policy) is not None:
        return True
    return is_over_runs(decided) or _may_relieve(board, facts.finished)


def _may_relieve(board: Board, finished: AttemptFinished) -> bool:
    """Whether an end does well that ends a row of pauses or closes a breaker, if it is there.

    When those begin and end is up to other runs.
    """
    if finished.ending != "succeeded" and finished.yield_events == 0:
        return False
    return any(True for known in (board.breakers, board.accounts) for _ in known.values())
