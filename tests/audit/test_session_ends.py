"""The end of a session, found out again: which causes may be told, and which end cannot be."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.audit.session_ends import Between, causes
from engine.triage.scope import Scope
from engine.triage.select import Queue
from tests.rules.standings import (
    NOW_US,
    account,
    board,
    breaker,
    phase,
    policy,
    run,
    scope,
    session,
)

S_US = 1_000_000
LAST_US, END_US = NOW_US, NOW_US + 60 * S_US
WORK = (run(), phase())
PROBED = policy(breaker_runs=3, breaker_probes_max=0, breaker_cool_down_ms=30_000)


def told(of: Scope, *rows: msgspec.Struct, **fields: Any) -> set[str]:
    known = session(part_started_us=NOW_US, **fields)
    there = board(known, *rows)
    return set(causes(there, Queue(there, of), of, Between(LAST_US, END_US)))


def opened(us: int) -> msgspec.Struct:
    return breaker(opened_pos=5, opened_us=us)


@pytest.mark.parametrize("status", ["running", "draining"])
@pytest.mark.parametrize("rows", [(), WORK])
def test_a_stop_that_was_recorded_is_the_cause_and_no_other(
    status: str, rows: tuple[msgspec.Struct, ...]
) -> None:
    assert told(scope(), *rows, status=status, because="interrupted") == {"interrupted"}
    leased = {"status": status, "because": "day_budget", "leased_by": 3}
    assert told(scope(), *rows, **leased) == {"day_budget"}


def test_a_session_does_not_end_by_itself_while_there_is_work_for_it() -> None:
    assert told(scope(), *WORK) == set()
    assert told(scope(), *WORK, attempts=9) == set()  # a limit would be recorded
    assert told(scope(), run(), phase(state="COMPLETE")) == {"nothing_eligible"}


def test_a_session_that_others_write_beside_may_have_seen_either() -> None:
    assert told(scope(), *WORK, leased_by=3) == {"nothing_eligible", "held_back"}


def test_a_session_that_is_not_running_has_work_left_and_ends() -> None:
    assert told(scope(), *WORK, status="lost") == {"nothing_eligible"}


def test_what_was_held_back_at_any_moment_of_its_end_may_be_told_so() -> None:
    of = scope(PROBED)
    assert told(of, *WORK, opened(END_US)) == {"held_back"}
    assert told(of, *WORK, opened(LAST_US - 40 * S_US)) == set()  # a probe was due all along
    assert told(of, *WORK, opened(LAST_US)) == {"held_back", "nothing_eligible"}


def test_a_pause_that_ends_meanwhile_lets_a_session_end_and_one_that_is_over_does_not() -> None:
    of = scope(policy(provider_pause_ms=1000))
    for until_us in (LAST_US + S_US, END_US + S_US):
        assert told(of, *WORK, account(until_us=until_us)) == {"nothing_eligible"}
    assert told(of, *WORK, account(until_us=LAST_US)) == set()
