"""Causes: which runs' samples each failure spoiled, one row a failure, whatever the session."""

from __future__ import annotations

from typing import cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import BreakerClosed, BreakerReset, RunJudged, Seen
from projections.fold import Fold

RUNS_MAX = 1000
"""So many are listed; no circuit breaker can be asked to wait for more."""


class CauseStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One failure as of one position.

    ``runs``: those whose sample failed this way without usage, in any session, since the circuit
    breaker of this failure last closed.
    """

    fingerprint: str
    runs: tuple[str, ...] = ()


Handled = RunJudged | BreakerClosed | BreakerReset


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    fingerprint = event.barren if isinstance(event, RunJudged) else event.fingerprint
    return () if fingerprint is None else (fingerprint,)


def _apply(state: CauseStanding | None, seen: Seen) -> CauseStanding:
    event = cast("Handled", seen.event)
    if not isinstance(event, RunJudged):
        return CauseStanding(fingerprint=event.fingerprint)
    state = state or CauseStanding(fingerprint=event.barren or "")
    if event.run_id in state.runs or len(state.runs) >= RUNS_MAX:
        return state
    return replace(state, runs=(*state.runs, event.run_id))


CAUSES: Fold[CauseStanding] = Fold(
    name="causes",
    version=1,
    state=CauseStanding,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
