"""What a what-if comes to: decisions that differ, attempts not made, and each run's horizon."""

from __future__ import annotations

import msgspec

from engine.events import (
    AccountPaused,
    AnyEvent,
    AttemptDeferred,
    BreakerProbed,
    BudgetReached,
    RunCooledDown,
    RunJudged,
    RunStopped,
    SessionDraining,
    event_type,
)
from engine.iso_time import iso


class NotMade(msgspec.Struct, frozen=True, kw_only=True):
    """A recorded attempt that the other policy would not have made, and what it came to.

    ``saved``: it would not have been made at another time either, as far as the record can tell.
    """

    pos: int
    attempt_id: str
    run_id: str
    phase_id: str
    because: str
    ending: str | None
    yield_events: int
    tokens: int
    duration_ms: int
    saved: bool = False


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions about one recorded fact that would have been others."""

    pos: int
    attempt_id: str
    run_id: str
    recorded: tuple[str, ...]
    instead: tuple[str, ...]


class Horizon(msgspec.Struct, frozen=True, kw_only=True):
    """Where the record of a run ends to tell: its first divergence, and what is unknown after."""

    run_id: str
    pos: int
    unknown: str


class WhatIf(msgspec.Struct, frozen=True, kw_only=True):
    """What another policy would have come to, as far as the record can tell.

    ``attempts_unknown`` lie beyond the horizon of their run: not made when they were, and perhaps
    at another time.  What was saved and lost leaves them out.
    """

    policy: str
    policy_sha256: str
    attempts: int
    attempts_made: int
    attempts_saved: int
    attempts_unknown: int
    tokens_saved: int
    minutes_saved: float
    successes_lost: int
    usage_lost: int
    differing: tuple[Differing, ...]
    not_made: tuple[NotMade, ...]
    horizons: tuple[Horizon, ...]
    notes: tuple[str, ...]


def said(event: AnyEvent, *, tells_demotion: bool = False) -> str:
    """A decision in short, without the numbers that depend on where it stands.

    ``tells_demotion``: whether to say that a stop had the last word over a verdict.  Between two
    policies by which it always has, a stop is the same whatever the verdict was.
    """
    match event:
        case RunJudged():
            return f"{event.run_id} is {event.verdict} ({event.because})"
        case RunStopped():
            demoted = ", and no longer promising" if event.demoted and tells_demotion else ""
            return f"{event.run_id} is stopped ({event.because}){demoted}"
        case SessionDraining():
            return f"the session stops ({event.because})"
        case BreakerProbed():
            return f"{event.fingerprint} was probed ({event.outcome})"
        case AccountPaused():
            return f"{event.account} pauses until {iso(event.until_us)} ({event.kind})"
        case AttemptDeferred():
            return f"{event.attempt_id} does not count ({event.kind})"
        case BudgetReached():
            about = event.phase_id or event.run_id
            return f"{about} has used its budget of {event.measure}"
        case RunCooledDown():
            return f"{event.run_id} has cooled down"
        case _:
            kind = event_type(type(event)).partition(".")[2].replace("_", " ")
            return f"{kind}: {getattr(event, 'fingerprint', getattr(event, 'account', ''))}"
