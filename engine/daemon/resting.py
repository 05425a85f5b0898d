"""Resting: why a daemon starts no attempts now, and until when.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from engine.daemon.settings import Plan
from engine.drain.adoptions import Adoption
from engine.drain.stopping import Hold
from engine.triage.budgets import of_day, sentence_of
from engine.triage.schedule import opening
from engine.triage.scope import Scope
from projections.board import Board
from projections.days import DAY_US, day_key
from projections.sessions import SessionStanding

RestCause = Literal["paused", "halted", "window_closed", "day_budget"]
ONCE_MORE = (
    "total_time",
    "zero_yield_streak",
    "nothing_eligible",
    "held_back",
    "run_budgets",
    "batch_size",
)
"""Ends of a session after which the next one begins with new counts."""

FOREVER_US = 1 << 63


class Pause(NamedTuple):
    """Who made the daemon rest, and why."""

    by: str
    why: str


class Rest(NamedTuple):
    """Why no attempt is started; ``until_us`` (Unix): when that ends by itself."""

    cause: RestCause
    sentence: str
    until_us: int | None = None


class Sight(NamedTuple):
    """What one that rests sees of dead engines: open attempts that it has to see to.

    ``adopt``: those that are over by now, though nobody can prove it; the others it finds out.
    """

    adopt: Sequence[Adoption]
    rest: Rest


def rest_of(
    plan: Plan, board: Board, pause: Pause | None, now_us: int, log_us: int, *, halted: bool
) -> Rest | None:
    """Why the daemon is to rest at ``now_us``: what a person said first; None when it is not.

    ``log_us``: the time by which attempts are picked.  Where the clock was set back it is ahead,
    and a day that is used up by it shall not be tried again and again.
    """
    if pause is not None:
        return Rest("paused", f"{pause.by} paused the daemon: {pause.why}")
    if halted:
        return Rest(
            "halted",
            "Too many attempts in a row yielded no usage; a person must look and resume.",
        )
    window = opening(plan.windows, plan.zone, now_us)
    if not window.is_open:
        return Rest("window_closed", "No schedule window is open.", window.until_us)
    return _day_budget(plan, board, log_us)


def _day_budget(plan: Plan, board: Board, now_us: int) -> Rest | None:
    day = board.days.get(day_key(now_us))
    for budget in plan.limits.budgets:
        if (
            day is not None
            and budget.scope == "day"
            and of_day(day, budget.measure) >= budget.limit
        ):
            spent = of_day(day, budget.measure)
            return Rest("day_budget", sentence_of(budget, spent), (now_us // DAY_US + 1) * DAY_US)
    return None


def closes_us(plan: Plan, now_us: int) -> int | None:
    """When the window that is open closes (Unix microseconds); None when it never does."""
    window = opening(plan.windows, plan.zone, now_us)
    return window.until_us if window.is_open else None


class Windows:
    """Whether a window is open, asked often.

    It is worked out anew for another plan, once the window has closed, and where the clock was set
    back to before the moment for which it was worked out.
    """

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._open = range(0)

    def leave_open(self, plan: Plan, now_us: int) -> bool:
        """Whether attempts may start at ``now_us`` (Unix)."""
        if plan is not self._plan or now_us not in self._open:
            window = opening(plan.windows, plan.zone, now_us)
            until_us = (window.until_us or FOREVER_US) if window.is_open else now_us
            self._plan, self._open = plan, range(now_us, until_us)
        return now_us in self._open


def session_to_go_on(
    board: Board, plan: Plan, mine: frozenset[str] | None = None, host: str = ""
) -> SessionStanding | None:
    """The session that a daemon goes on with: the newest of the log, if a daemon's and not over.

    ``mine``: on a log that others write, too, only these, and what engines that died left behind
    for one on this ``host``.
    """
    newest: SessionStanding | None = None
    for session in board.sessions.values():
        if mine is None or session.session_id in mine or _is_left(board, session, host):
            newest = session
    if newest is None or newest.limits is None or newest.because in ONCE_MORE:
        return None
    return newest if newest.limits.batch_size == plan.limits.batch_size else None


def _is_left(board: Board, session: SessionStanding, host: str) -> bool:
    """Whether a dead engine has left it, with all its room, or attempts that can be seen to here.

    What is open elsewhere, or with an engine of this host that has noticed the death, takes the
    session's room for as long as it lasts.
    """
    if session.status != "lost" or not session.open:
        return session.status == "lost"
    living = [each for each in board.sessions.values() if each.leased_by is not None]
    heirs = [each.host for each in living if each.leased_by == session.heir]
    return session.host == host and host not in heirs


def scope_for(session: SessionStanding | None, plan: Plan, new_id: str) -> Scope:
    """The scope of the session to go on with, or of a new one."""
    return Scope(session.session_id if session else new_id, plan.policy, plan.limits)


def hold_of(rest: Rest | None) -> Hold | None:
    """What a session is told of a rest; a day's budget it finds out by itself."""
    if rest is None:
        return None
    match rest.cause:
        case "paused":
            return Hold("paused", f"{rest.sentence}; running attempts may finish.")
        case "window_closed":
            return Hold("window_closed", f"{rest.sentence} Running attempts may finish.")
        case "halted":
            return Hold("paused", f"{rest.sentence} Running attempts may finish.")
        case "day_budget":
            return None
