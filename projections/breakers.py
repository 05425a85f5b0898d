"""Circuit breakers: causes that failed the samples of many runs, one row a cause."""

from __future__ import annotations

from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AttemptStarted,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    BreakerReset,
    Seen,
)
from projections.fold import Fold


class BreakerStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One cause as of one position.

    Open from ``opened_pos`` on, None while closed; ``session_id`` opened it last, and it holds back
    every session of the log.
    ``probe`` is the attempt that probes it now; ``probes`` of them failed since it opened, the
    last one at ``last_probe_us`` (Unix).
    """

    fingerprint: str
    session_id: str
    template: str = ""
    runs: int = 0
    opened_pos: int | None = None
    opened_us: int = 0
    probe: str | None = None
    probes: int = 0
    last_probe_us: int = 0
    closed_pos: int | None = None


Handled = BreakerOpened | BreakerProbed | BreakerClosed | BreakerReset | AttemptStarted


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    if isinstance(event, AttemptStarted):
        return () if event.probe_of is None else (event.probe_of,)
    return (event.fingerprint,)


def _apply(state: BreakerStanding | None, seen: Seen) -> BreakerStanding:
    event = cast("Handled", seen.event)
    if isinstance(event, BreakerOpened):
        return state if event.carried and state is not None else _opened(event, seen)
    assert state is not None, "a breaker opens before anything else happens to it"
    match event:
        case AttemptStarted():
            return replace(state, probe=event.attempt_id)
        case BreakerProbed(outcome="unproved"):
            return replace(state, probe=None)
        case BreakerProbed():
            probes = state.probes + 1
            return replace(state, probe=None, probes=probes, last_probe_us=seen.recorded_us)
        case BreakerClosed() | BreakerReset():
            return replace(state, opened_pos=None, probe=None, closed_pos=seen.pos)
        case _:
            assert_never(event)


def _opened(event: BreakerOpened, seen: Seen) -> BreakerStanding:
    return BreakerStanding(
        fingerprint=event.fingerprint,
        session_id=event.session_id,
        template=event.template,
        runs=event.runs,
        opened_pos=seen.pos,
        opened_us=seen.recorded_us,
    )


BREAKERS: Fold[BreakerStanding] = Fold(
    name="breakers",
    version=2,
    state=BreakerStanding,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
