"""A case: all that bears on whether a run may go on, at one moment.

What ``runoff why`` looks at.  It holds one run instead of the whole board, so that it can be loaded
without the rest of the backlog.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec.structs import replace

from engine.events import Limits
from engine.triage.policy import Policy, policy_named
from engine.triage.scope import Scope, scope_of
from projections.accounts import AccountStanding
from projections.backlog import PhaseStanding
from projections.breakers import BreakerStanding
from projections.days import Day
from projections.run_triage import RunStanding
from projections.sessions import RESTING, SessionStanding

NEW_SESSION = "new"
"""Stands for the id of a session that has not begun; ids that the log holds are longer."""

EXECUTOR = "command"
"""What a drain executes by unless told otherwise."""

LIMITS = Limits(batch_size=10, workers=4, per_run_max=2, phase_timeout_ms=900_000, grace_ms=5000)
"""Of a drain that was told nothing."""


class Case(NamedTuple):
    """One run, and what decides about it, seen from one session.

    ``phases``: all of the run.  ``account``: the session's, None when nothing was ever said of it.
    ``day``: what was spent on the day of ``now_us`` (Unix).  ``host_open``: how many attempts are
    open on the session's host, over all sessions of the log.  ``elsewhere``: the sessions of other
    engines that share the log and are at work.  ``left``: the sessions whose engine is gone.
    """

    scope: Scope
    session: SessionStanding
    run: RunStanding
    phases: tuple[PhaseStanding, ...]
    breakers: tuple[BreakerStanding, ...]
    account: AccountStanding | None
    day: Day | None
    now_us: int
    host_open: int = 0
    elsewhere: tuple[SessionStanding, ...] = ()
    left: frozenset[str] = frozenset()

    @property
    def is_new(self) -> bool:
        """Whether the session has not begun."""
        return self.scope.session_id == NEW_SESSION

    @property
    def is_over(self) -> bool:
        """Whether the session starts nothing any more, or has not begun."""
        return self.is_new or self.session.status in RESTING

    def anew(self) -> Case:
        """The same for a session that begins now: same policy, same limits, but for all runs."""
        if self.is_new:
            return self
        scope, session = beginning(self.session, self.scope.policy, self.now_us)
        return self._replace(scope=scope, session=session)


def newest_session(known: tuple[SessionStanding, ...]) -> SessionStanding | None:
    """The session that began or went on last; None when none has.

    In a shared log one that an engine is at stands before those that have ended or whose engine is
    gone: while any of them works, the log is not at rest.
    """
    begun = [session for session in known if session.limits is not None]
    return max(begun, key=lambda s: (s.is_at_work, s.part_started_us, s.session_id), default=None)


def seen_from(newest: SessionStanding | None, now_us: int) -> tuple[Scope, SessionStanding]:
    """The session to look from: the newest; one to come, under the default policy, without any."""
    if newest is None:
        return beginning(None, policy_named("default"), now_us)
    return scope_of(newest), newest


def account_named(newest: SessionStanding | None) -> str:
    """Whose provider limits pause the session."""
    if newest is None or newest.limits is None:
        return EXECUTOR
    return newest.limits.account or newest.executor


def beginning(
    before: SessionStanding | None, policy: Policy, now_us: int
) -> tuple[Scope, SessionStanding]:
    """A session that begins now, like the one ``before`` but without its filters."""
    limits = LIMITS if before is None or before.limits is None else before.limits
    limits = replace(
        limits, run_id=None, phase_id=None, skip_run_prefixes=(), account=account_named(before)
    )
    session = SessionStanding(
        session_id=NEW_SESSION,
        executor=before.executor if before is not None else EXECUTOR,
        limits=limits,
        policy=policy.label,
        policy_json=policy.json,
        started_us=now_us,
        part_started_us=now_us,
        host=before.host if before is not None else "",
    )
    return Scope(NEW_SESSION, policy, limits), session
