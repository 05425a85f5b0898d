"""Zero-yield statistics: why attempts produced no usage, in all, per session and per run."""

from __future__ import annotations

from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AttemptFinished,
    BoundaryDetected,
    Classified,
    Reclassified,
    Seen,
    UsageImported,
    ZeroYieldExplained,
)
from projections.fold import Fold, join

TOTAL = "total"


class YieldCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Counts of one scope as of one position.

    ``zero_yield`` maps each reason to its attempts, and sums to ``finished`` - ``with_yield``;
    ``boundaries`` maps each kind to the attempts that it stopped.  ``usage_recorded`` is the sum of
    the attempts' yields, which the log guarantees to be the number of their usage records.
    """

    finished: int = 0
    with_yield: int = 0
    zero_yield: dict[str, int] = {}
    boundaries: dict[str, int] = {}
    usage_recorded: int = 0
    usage_imported: int = 0
    tokens: int = 0


Handled = AttemptFinished | ZeroYieldExplained | BoundaryDetected | Reclassified | UsageImported


def session_key(session_id: str) -> str:
    """The row of a session."""
    return join("session", session_id)


def run_key(run_id: str) -> str:
    """The row of a run."""
    return join("run", run_id)


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    if isinstance(event, UsageImported):
        return (TOTAL,) if event.run_id is None else (TOTAL, run_key(event.run_id))
    return (TOTAL, session_key(event.session_id), run_key(event.run_id))


def _apply(state: YieldCounts | None, seen: Seen) -> YieldCounts:
    event = cast("Handled", seen.event)
    state = state or YieldCounts()
    match event:
        case AttemptFinished():
            return replace(
                state,
                finished=state.finished + 1,
                with_yield=state.with_yield + (event.yield_events > 0),
                usage_recorded=state.usage_recorded + event.yield_events,
                tokens=state.tokens + event.tokens,
            )
        case ZeroYieldExplained():
            return replace(state, zero_yield=_one_more(state.zero_yield, event.reason))
        case BoundaryDetected(disposition="stopped_by"):
            return replace(state, boundaries=_one_more(state.boundaries, event.kind))
        case BoundaryDetected():
            return state
        case Reclassified():
            return _moved(state, event)
        case UsageImported():
            return replace(state, usage_imported=state.usage_imported + 1)
        case _:
            assert_never(event)


def _moved(state: YieldCounts, event: Reclassified) -> YieldCounts:
    """An attempt is counted where the newest word on it says."""
    if event.what == "zero_yield":
        return replace(state, zero_yield=_counted_anew(state.zero_yield, event))
    if event.what == "boundary":
        return replace(state, boundaries=_counted_anew(state.boundaries, event))
    return state


def _counted_anew(counts: dict[str, int], event: Reclassified) -> dict[str, int]:
    before, after = _counted_as(event, event.before), _counted_as(event, event.after)
    if before is not None:
        counts = {**counts, before: counts.get(before, 0) - 1}
    if after is not None:
        counts = _one_more(counts, after)
    return {name: count for name, count in counts.items() if count}


def _counted_as(event: Reclassified, said: Classified | None) -> str | None:
    """Under which name a word counts: limits only where they stopped the attempt."""
    if said is None or (event.what == "boundary" and said.detail != "stopped_by"):
        return None
    return said.name


def _one_more(counts: dict[str, int], name: str) -> dict[str, int]:
    return {**counts, name: counts.get(name, 0) + 1}


ZERO_YIELD: Fold[YieldCounts] = Fold(
    name="zero_yield",
    version=2,
    state=YieldCounts,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
