"""The timeline: what happened in each minute, by the writer's clock."""

from __future__ import annotations

from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AttemptFinished,
    AttemptStarted,
    FingerprintStopped,
    RunJudged,
    RunStopped,
    Seen,
)
from projections.fold import Fold

MINUTE_US = 60_000_000


class Minute(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counts of one minute; ``minute_us`` is its start in Unix microseconds."""

    minute_us: int
    started: int = 0
    succeeded: int = 0
    failed: int = 0
    timed_out: int = 0
    cut_short: int = 0
    yield_events: int = 0
    tokens: int = 0
    verdicts: int = 0
    stops: int = 0


Handled = AttemptStarted | AttemptFinished | RunJudged | RunStopped | FingerprintStopped


def _keys(seen: Seen) -> tuple[str, ...]:
    return (f"{seen.recorded_us // MINUTE_US:012d}",)


def _apply(state: Minute | None, seen: Seen) -> Minute:
    event = cast("Handled", seen.event)
    state = state or Minute(minute_us=seen.recorded_us // MINUTE_US * MINUTE_US)
    match event:
        case AttemptStarted():
            return replace(state, started=state.started + 1)
        case AttemptFinished():
            return _finished(state, event)
        case RunJudged():
            return replace(state, verdicts=state.verdicts + 1)
        case RunStopped() | FingerprintStopped():
            return replace(state, stops=state.stops + 1)
        case _:
            assert_never(event)


def _finished(state: Minute, event: AttemptFinished) -> Minute:
    return replace(
        state,
        succeeded=state.succeeded + (event.ending == "succeeded"),
        failed=state.failed + (event.ending in ("failed", "broke")),
        timed_out=state.timed_out + (event.ending == "timed_out"),
        cut_short=state.cut_short + (event.ending in ("abandoned", "orphaned")),
        yield_events=state.yield_events + event.yield_events,
        tokens=state.tokens + event.tokens,
    )


TIMELINE: Fold[Minute] = Fold(
    name="timeline",
    version=1,
    state=Minute,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
