"""The time a session was active: what a crash costs is not counted."""

from __future__ import annotations

from engine.events import (
    AnyEvent,
    Input,
    Limits,
    PolicyAdopted,
    Reason,
    Seen,
    SessionDraining,
    SessionEnded,
    SessionResumed,
    SessionStarted,
)
from projections.fold import Keyed
from projections.sessions import SESSIONS, SessionStanding

LIMITS = Limits(batch_size=9, workers=1, per_run_max=1, phase_timeout_ms=1, grace_ms=1)
REASON = Reason(rule="r", version=1, policy="p", basis=0, inputs=(Input("a", 1),), sentence="")
ADOPTED = PolicyAdopted(session_id="s", policy="p", policy_sha256="", policy_json="{}")
STARTED = SessionStarted(session_id="s", executor="x", limits=LIMITS)
RESUMED = SessionResumed(session_id="s", executor="x", limits=LIMITS)
DRAINING = SessionDraining(session_id="s", because="interrupted", reason=REASON)


def after(*happened: tuple[int, AnyEvent]) -> SessionStanding:
    """The session after events at the given seconds."""
    keyed = Keyed(SESSIONS)
    for pos, (second, event) in enumerate(happened, 1):
        keyed.feed(Seen(pos, second * 1_000_000, event))
    state = keyed.get("s")
    assert state is not None
    return state


def test_a_part_that_crashed_counts_up_to_its_last_word() -> None:
    crashed = ((0, ADOPTED), (0, STARTED), (10, DRAINING))
    state = after(*crashed, (3600, ADOPTED), (3600, RESUMED))
    assert state.active_ms == 10_000
    again = after(*crashed, (3600, ADOPTED), (3600, RESUMED), (3605, DRAINING), (9000, RESUMED))
    assert again.active_ms == 15_000


def test_a_part_that_ended_counts_as_it_says() -> None:
    ended = SessionEnded(
        session_id="s", because="batch_size", active_ms=7_000, attempts=1, work_left=1
    )
    state = after((0, ADOPTED), (0, STARTED), (7, ended), (3600, ADOPTED), (3600, RESUMED))
    assert (state.active_ms, state.status) == (7_000, "running")
