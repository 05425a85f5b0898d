"""Words of hindrances that are looked up: one for every end of a session, and odd times."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from engine.cli.drain import drain
from engine.events import SessionEnd
from engine.triage.case import LIMITS, Case
from engine.triage.end_words import ENDS, LARGER
from engine.triage.hindrance import moment
from engine.triage.hindrances import of_samples, of_session
from engine.triage.picking import limit_reached
from tests.rules.standings import (
    NOW_US,
    board,
    breaker,
    budget,
    ground,
    policy,
    run,
    scope,
    session,
)

TELLING: dict[SessionEnd, str] = {
    "nothing_eligible": "nothing was left",
    "held_back": "breaker",
    "run_budgets": "budgets of runs",
    "batch_size": "as many attempts",
    "total_time": "time was up",
    "zero_yield_streak": "no usage",
    "interrupted": "interrupted",
    "storage": "log",
    "session_budget": "its budget",
    "day_budget": "the day's budget",
    "paused": "paused",
    "window_closed": "window",
}


@pytest.mark.parametrize("because", get_args(SessionEnd))
def test_every_end_of_a_session_is_told_in_its_own_words(because: SessionEnd) -> None:
    ended = Case(
        scope(), session(status="ended", because=because), run(), (), (), None, None, NOW_US
    )
    (told,) = of_session(ended)
    assert told.text == f"the session has ended, because {ENDS[because]}"
    assert [end for end, word in TELLING.items() if word in told.text] == [because]


@pytest.mark.parametrize(
    ("bounds", "reached", "option"),
    [
        ({"batch_size": 5}, {"attempts": 5}, "--batch-size"),
        ({"total_ms_max": 1}, {"part_started_us": NOW_US - 1000}, "--max-total-minutes"),
        ({"budgets": (budget("session", "tokens", 5),)}, {"tokens": 5}, None),
    ],
)
def test_a_session_that_reached_a_limit_is_told_the_option_that_raises_it(
    bounds: dict[str, Any], reached: dict[str, Any], option: str | None
) -> None:
    of = scope(**bounds)
    begun = session(**({"part_started_us": NOW_US} | reached))
    ended = limit_reached(board(begun), ground(of))
    assert ended is not None
    assert LARGER.get(ended.because) == option
    assert option in {None, *(each for known in drain.params for each in known.opts)}


def test_a_drain_that_was_told_nothing_has_the_limits_that_its_options_have() -> None:
    default = {each.name: each.default for each in drain.params}
    assert {
        "batch_size": LIMITS.batch_size,
        "workers": LIMITS.workers,
        "max_per_run": LIMITS.per_run_max,
        "phase_timeout_seconds": LIMITS.phase_timeout_ms / 1000,
        "grace_seconds": LIMITS.grace_ms / 1000,
    }.items() <= default.items()


@pytest.mark.parametrize("probes", [2, 3, 9])
def test_a_breaker_that_has_had_its_first_probes_waits_for_its_cool_down(probes: int) -> None:
    rules = policy(breaker_runs=3, breaker_probes_max=2, breaker_cool_down_ms=60_000)
    waiting = breaker(opened_pos=5, probes=probes, last_probe_us=NOW_US)
    out = breaker("other", opened_pos=9, probe="a1")
    held = Case(scope(rules), session(), run(), (), (waiting, out), None, None, NOW_US)
    told = next(of_samples(held))
    assert told.text.endswith("and the next probe is due at 2026-01-01 00:01:00 UTC (in 60 s)")
    assert told.until_us == NOW_US + 60_000_000


def test_of_a_host_of_which_nothing_is_known_nothing_is_open() -> None:
    alone = Case(scope(host_workers=1), session(), run(), (), (), None, None, NOW_US)
    assert list(of_session(alone)) == []
    assert [each.kind for each in of_session(alone._replace(host_open=1))] == ["host_full"]


@pytest.mark.parametrize("us", [253_402_300_799_000_000, 253_402_300_800_000_000, 2**63 - 1])
def test_a_moment_that_no_calendar_reaches_is_told_as_the_last_one(us: int) -> None:
    assert moment(us, NOW_US).startswith("9999-12-31 23:59:59 UTC (in ")
