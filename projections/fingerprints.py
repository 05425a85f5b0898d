"""Fingerprints: how often each failure was seen, one row per session and fingerprint."""

from __future__ import annotations

from typing import get_args

import msgspec
from msgspec.structs import replace

from engine.events import FailureFingerprinted, FingerprintStopped, Seen
from projections.fold import Fold, join

RUNS_MAX = 20
"""How many of the runs that a fingerprint touched are listed; ``run_count`` counts them all
up to there and says "at least" beyond."""


class FingerprintCount(msgspec.Struct, frozen=True, kw_only=True):
    """One failure within one session as of one position."""

    session_id: str
    fingerprint: str
    template: str
    count: int = 0
    first_pos: int = 0
    last_pos: int = 0
    runs: tuple[str, ...] = ()
    stopped_pos: int | None = None


Handled = FailureFingerprinted | FingerprintStopped


def _keys(seen: Seen) -> tuple[str, ...]:
    event = seen.event
    assert isinstance(event, Handled)
    return (join(event.session_id, event.fingerprint),)


def _apply(state: FingerprintCount | None, seen: Seen) -> FingerprintCount:
    event = seen.event
    match event:
        case FailureFingerprinted():
            return _counted(state, event, seen.pos)
        case FingerprintStopped():
            assert state is not None, "a fingerprint is stopped after it was seen"
            return replace(state, stopped_pos=seen.pos)
        case _:
            raise AssertionError(event)


def _counted(
    state: FingerprintCount | None, event: FailureFingerprinted, pos: int
) -> FingerprintCount:
    if state is None:
        state = FingerprintCount(
            session_id=event.session_id,
            fingerprint=event.fingerprint,
            template=event.template,
            first_pos=pos,
        )
    runs = state.runs
    if event.run_id not in runs and len(runs) < RUNS_MAX:
        runs = (*runs, event.run_id)
    return replace(state, count=state.count + 1, last_pos=pos, runs=runs)


FINGERPRINTS: Fold[FingerprintCount] = Fold(
    name="fingerprints",
    version=1,
    state=FingerprintCount,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
