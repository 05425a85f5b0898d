"""Fingerprints: how often each failure was seen, one row per session and fingerprint."""

from __future__ import annotations

from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import AttemptDeferred, FailureFingerprinted, FingerprintStopped, Seen
from projections.fold import Fold, join

RUNS_MAX = 20
"""How many of the runs that a fingerprint touched are listed; ``run_count`` counts them all
up to there and says "at least" beyond."""


class FingerprintCount(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One failure within one session as of one position.

    ``count`` leaves out attempts that were deferred.
    """

    session_id: str
    fingerprint: str
    template: str
    count: int = 0
    first_pos: int = 0
    last_pos: int = 0
    runs: tuple[str, ...] = ()
    deferred: int = 0
    stopped_pos: int | None = None


Handled = FailureFingerprinted | FingerprintStopped | AttemptDeferred


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    return () if event.fingerprint is None else (join(event.session_id, event.fingerprint),)


def _apply(state: FingerprintCount | None, seen: Seen) -> FingerprintCount:
    event = cast("Handled", seen.event)
    if state is None:
        state = _unseen(event)
    match event:
        case FailureFingerprinted():
            return _counted(state, event, seen.pos)
        case FingerprintStopped():
            return replace(state, stopped_pos=seen.pos)
        case AttemptDeferred():
            return replace(state, count=state.count - 1, deferred=state.deferred + 1)
        case _:
            assert_never(event)


def _unseen(event: Handled) -> FingerprintCount:
    """The row before its first event."""
    assert event.fingerprint is not None, "keys name only events with a fingerprint"
    return FingerprintCount(session_id=event.session_id, fingerprint=event.fingerprint, template="")


def _counted(state: FingerprintCount, event: FailureFingerprinted, pos: int) -> FingerprintCount:
    return replace(
        state,
        template=event.template,
        count=state.count + 1,
        first_pos=state.first_pos or pos,
        last_pos=pos,
        runs=_with(state.runs, event.run_id),
    )


def _with(runs: tuple[str, ...], run_id: str) -> tuple[str, ...]:
    return runs if run_id in runs or len(runs) >= RUNS_MAX else (*runs, run_id)


FINGERPRINTS: Fold[FingerprintCount] = Fold(
    name="fingerprints",
    version=3,
    state=FingerprintCount,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
