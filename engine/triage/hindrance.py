"""A hindrance: one thing that keeps a phase or a run from being attempted now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

Level = Literal["phase", "run", "samples", "account", "session"]
Kind = Literal[
    "done",
    "not_drained",
    "open",
    "exhausted",
    "lost_too_often",
    "tried_this_session",
    "over_budget",
    "label_missing",
    "waits",
    "filtered",
    "prefix_skipped",
    "deprioritized",
    "stopped",
    "sample_in_flight",
    "run_is_full",
    "breaker_open",
    "slow_start",
    "account_paused",
    "session_draining",
    "session_ended",
    "workers_full",
    "host_full",
    "batch_size",
    "total_time",
    "session_budget",
    "day_budget",
]


class Hindrance(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that keeps a phase or a run from being attempted now.

    ``of`` says what it lies in: the phase, its run, the sampling of runs without a verdict, the
    provider's account, or the session.  ``text`` is a clause for a person, ``change`` what would
    lift it.  ``id`` names what is meant beyond run and phase, ``pos`` where in the log it came
    about, ``until_us`` (Unix) when it lifts by itself; None where there is none.
    """

    kind: Kind
    of: Level
    text: str
    change: str
    id: str | None = None
    pos: int | None = None
    until_us: int | None = None


def filtered(of: Level, what: str, wanted: str | None) -> Hindrance:
    """The session is for another ``what``, named ``wanted``."""
    return Hindrance(
        kind="filtered",
        of=of,
        text=f"the session is for another {what} ({wanted})",
        change=f"A session for all, or for this {what}.",
        id=wanted,
    )


def moment(us: int, now_us: int) -> str:
    """A time for a person: in UTC, and how far it is from ``now_us`` (both Unix)."""
    at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=min(us, 253_402_300_799_000_000))
    how_far = span(abs(us - now_us))
    return f"{at:%Y-%m-%d %H:%M:%S} UTC ({f'in {how_far}' if us > now_us else f'{how_far} ago'})"


def span(us: int) -> str:
    """A duration for a person."""
    seconds = us / 1e6
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"
