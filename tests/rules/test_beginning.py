"""The beginning of a session, whole: what it finds of others, and what it takes over."""

from __future__ import annotations

from engine.events import SessionPartLost
from engine.triage.beginning import taken_over
from tests.rules.standings import board, ground, policy, session


def test_a_session_says_of_every_other_that_nobody_ended_how_long_it_was_at_it() -> None:
    rows = board(
        session(session_id="a", status="running", part_started_us=1000, last_us=8000, active_ms=5),
        session(session_id="b", status="draining", part_started_us=1000, last_us=2999),
        session(session_id="c", status="lost", part_started_us=1000, last_us=9000),
        session(session_id="d", status="ended", part_started_us=1000, last_us=9000),
        session(session_id="s", status="running", part_started_us=1000, last_us=9000),
    )
    assert list(taken_over(rows, ground())) == [
        SessionPartLost(session_id="a", active_ms=12),
        SessionPartLost(session_id="b", active_ms=1),
    ]


def test_a_session_that_another_engine_holds_a_lease_on_is_left_to_it() -> None:
    rows = board(session(session_id="a", leased_by=3), session(session_id="b"))
    assert list(taken_over(rows, ground())) == [SessionPartLost(session_id="b", active_ms=0)]


def test_a_first_session_finds_nothing() -> None:
    assert list(taken_over(board(session()), ground(policy(breaker_runs=3)))) == []
