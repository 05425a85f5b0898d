"""Days: what was spent on each, by the writer's clock in UTC, one row a day."""

from __future__ import annotations

from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import AttemptFinished, AttemptStarted, Seen
from projections.fold import Fold

DAY_US = 86_400_000_000


class Day(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What began and ended on a day; ``day`` counts from 1970-01-01."""

    day: int
    attempts: int = 0
    succeeded: int = 0
    yield_events: int = 0
    tokens: int = 0
    busy_ms: int = 0


Handled = AttemptStarted | AttemptFinished


def day_key(us: int) -> str:
    """The row of the day that holds Unix time ``us``."""
    return f"{us // DAY_US:06d}"


def _keys(seen: Seen) -> tuple[str, ...]:
    return (day_key(seen.recorded_us),)


def _apply(state: Day | None, seen: Seen) -> Day:
    event = cast("Handled", seen.event)
    state = state or Day(day=seen.recorded_us // DAY_US)
    match event:
        case AttemptStarted():
            return replace(state, attempts=state.attempts + 1)
        case AttemptFinished():
            return replace(
                state,
                succeeded=state.succeeded + (event.ending == "succeeded"),
                yield_events=state.yield_events + event.yield_events,
                tokens=state.tokens + event.tokens,
                busy_ms=state.busy_ms + event.duration_ms,
            )
        case _:
            assert_never(event)


DAYS: Fold[Day] = Fold(
    name="days",
    version=1,
    state=Day,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
