"""Waking: the first moment at which time alone may change a pick, whatever it would change."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.triage.scope import Scope
from engine.triage.select import Queue
from engine.triage.waking import LONGEST_WAIT_S, wait_s, wakes_us
from tests.rules.standings import (
    NOW_US,
    account,
    board,
    breaker,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)

S_US, HOUR_US = 1_000_000, 3_600_000_000


def wakes(of: Scope, *rows: msgspec.Struct, since_us: int = NOW_US) -> int | None:
    """Seconds after NOW_US."""
    there = board(session(), *rows)
    found = wakes_us(there, Queue(there, of), of, since_us)
    return None if found is None else (found - NOW_US) // S_US


PAUSES = policy(provider_pause_ms=1000)
COOLS = policy(cool_down_ms=3_600_000)
PROBES = policy(breaker_runs=3, breaker_probes_max=2, breaker_cool_down_ms=3_600_000)


def resting(seconds: int) -> msgspec.Struct:
    return account(until_us=NOW_US + seconds * S_US)


def cooling(seconds: int, run_id: str = "r") -> list[msgspec.Struct]:
    due = {"standing": "deprioritized", "verdict_us": NOW_US - HOUR_US + seconds * S_US}
    return [run(run_id=run_id, **due), phase(run_id=run_id)]


def broken(seconds: int, fingerprint: str = "f", **fields: Any) -> msgspec.Struct:
    last_us = NOW_US - HOUR_US + seconds * S_US
    known: dict[str, Any] = {"opened_pos": 5, "opened_us": 1, "probes": 2}
    return breaker(fingerprint, **{**known, "last_probe_us": last_us, **fields})


def test_nothing_wakes_a_session_for_which_nothing_is_due() -> None:
    assert wakes(scope(policy())) is None
    assert wakes(scope(policy()), resting(5), *cooling(6), broken(7)) is None


def test_a_pause_a_cool_down_and_a_probe_wake_it_each_by_itself() -> None:
    assert wakes(scope(PAUSES), resting(5)) == 5
    assert wakes(scope(COOLS), *cooling(6)) == 6
    assert wakes(scope(PROBES), broken(7)) == 7


@pytest.mark.parametrize("first", [0, 1, 2])
def test_the_first_of_them_wakes_it(first: int) -> None:
    every = msgspec.structs.replace(PROBES, provider_pause_ms=1000, cool_down_ms=3_600_000)
    due = [20, 20, 20]
    due[first] = 10
    rows = [resting(due[0]), *cooling(due[1]), broken(due[2])]
    assert wakes(scope(every), *rows) == 10


def test_any_open_breaker_may_be_the_next_to_be_probed() -> None:
    first, second = broken(20, "a", opened_pos=3), broken(10, "b", opened_pos=4)
    assert wakes(scope(PROBES), first, second) == 10
    assert wakes(scope(PROBES), first, broken(10, "b", opened_pos=None)) == 20


def test_a_probe_that_is_out_is_waited_for_and_not_for_the_next_one() -> None:
    out = broken(10, "a", probe="a9")
    assert wakes(scope(PROBES), out) is None
    assert wakes(scope(PROBES), out, broken(20, "b")) == 20


def test_breakers_wake_nobody_whose_policy_knows_none() -> None:
    deaf = policy(breaker_cool_down_ms=3_600_000)
    assert wakes(scope(deaf), broken(10)) is None


def test_a_moment_that_has_passed_when_the_last_pick_was_asked_for_is_over() -> None:
    of, rows = scope(COOLS), cooling(6)
    assert wakes(of, *rows, since_us=NOW_US + 6 * S_US - 1) == 6
    assert wakes(of, *rows, since_us=NOW_US + 6 * S_US) is None


def test_a_phase_that_a_person_named_waits_for_no_account() -> None:
    assert wakes(named(PAUSES), resting(5)) is None


@pytest.mark.parametrize(
    ("due_us", "wait"),
    [
        (None, LONGEST_WAIT_S),
        (NOW_US - 1, 0),
        (NOW_US, 0),
        (NOW_US + 1_500_000, 1.5),
        (NOW_US + 60 * S_US, 60),
        (NOW_US + 61 * S_US, 60),
    ],
)
def test_a_wait_is_in_seconds_and_never_so_long_that_a_set_clock_would_matter(
    due_us: int | None, wait: float
) -> None:
    assert wait_s(due_us, NOW_US) == wait
