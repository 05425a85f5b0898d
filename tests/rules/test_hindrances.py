"""Hindrances, word by word: what keeps a phase back, what would lift it, and until when.

That a hindrance is named exactly where the rules see one is held against simulated drains in
``tests/audit/test_why.py``; here is what it says.
"""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from engine.triage.hindrance import Hindrance, moment, span
from engine.triage.hindrances import of_account, of_run, of_samples, of_session
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from projections.days import Day
from projections.run_triage import InSession
from tests.rules.cases import HOUR_US, NEW_SESSION, case, told
from tests.rules.standings import (
    NOW_US,
    account,
    breaker,
    budget,
    named,
    phase,
    policy,
    run,
    scope,
    session,
)

# The run.


def run_held(of: Scope, **fields: Any) -> list[Hindrance]:
    return list(
        of_run(case(of, phase(), phase(phase_id="q", open_attempt="a9"), run=run(**fields)))
    )


COOLS = policy(cool_down_ms=3_600_000)
CONDEMNED: dict[str, Any] = {
    "standing": "deprioritized",
    "because": "repeated_failure",
    "verdict_pos": 7,
    "verdict_us": NOW_US - HOUR_US,
    "stopped_pos": 8,
}
ANEW = "`runoff run reinstate r --why TEXT` has it sampled again"


def condemned(text: str, change: str, until_us: int | None) -> Hindrance:
    text = f"its run is deprioritized (repeated_failure){text}"
    return told("deprioritized", "run", text, change, pos=7, until_us=until_us)


def test_a_run_that_is_deprioritized_says_when_it_cools_down_if_ever() -> None:
    for_ever = ", and does not cool down by itself"
    assert run_held(scope(), **CONDEMNED) == [
        condemned(for_ever, f"{ANEW}; nothing else does.", None)
    ]
    due = ", and has cooled down, so that the next pick has it sampled again"
    assert run_held(scope(COOLS), **CONDEMNED) == [condemned(due, f"{ANEW} at once.", NOW_US)]
    later = {**CONDEMNED, "verdict_us": NOW_US - HOUR_US + 1_000_000}
    in_a_second = ", and cools down at 2026-01-01 00:00:01 UTC (in 1 s)"
    assert run_held(scope(COOLS), **later) == [
        condemned(in_a_second, f"{ANEW} at once.", NOW_US + 1_000_000)
    ]


@pytest.mark.parametrize(
    ("fields", "first"),
    [
        ({"attempts": 2}, "`runoff phase requeue r p --why TEXT` gives it new attempts. Then: "),
        ({"open_attempt": "a9"}, ""),
    ],
)
def test_a_run_without_a_phase_to_sample_does_not_cool(fields: dict[str, Any], first: str) -> None:
    (held,) = of_run(case(scope(COOLS), phase(**fields), run=run(**CONDEMNED)))
    text = ", and does not cool down while it has no phase to sample"
    assert held == condemned(text, f"{first}{ANEW} at once.", None)


def test_a_stop_is_told_of_the_session_that_is_looked_from() -> None:
    stopped = InSession(session_id="s", stopped="timeouts", stopped_pos=5)
    text = "its run is stopped for the rest of the session (timeouts)"
    held = told("stopped", "run", text, NEW_SESSION, pos=5)
    assert run_held(scope(), session_id="t", others=(stopped,), stopped_pos=9) == [held]
    mine = {"session_id": "s", "stopped": "timeouts", "stopped_pos": 5}
    assert run_held(scope(), **mine) == [held]
    assert run_held(scope(), **{**mine, "session_id": "t"}) == []


def test_a_run_over_its_budget_counts_anew_only_once_it_has_a_verdict() -> None:
    of = scope(budgets=(budget("phase", "tokens", 1), budget("run", "tokens", 50)))
    assert run_held(of, spent_tokens=49) == []
    text = "its run has used 50 tokens of the 50 that it may use"
    (fresh,) = run_held(of, spent_tokens=50)
    assert fresh == told("over_budget", "run", text, "A higher budget.")
    (known,) = run_held(of, spent_tokens=50, standing="promising")
    higher = "A higher budget, or `runoff run reinstate r --why TEXT`, which counts anew."
    assert known == told("over_budget", "run", text, higher)


def test_attempts_in_flight_are_told_by_whether_the_run_has_a_verdict() -> None:
    sample = told(
        "sample_in_flight",
        "run",
        "the sample of its run is under way and the verdict is not in yet",
        "The end of the sample brings the verdict.",
        id="a9",
    )
    full = told(
        "run_is_full",
        "run",
        "its run has 2 attempts open, as many as it may at once",
        "The end of one of its attempts.",
    )
    of = scope(per_run_max=2)
    assert run_held(of, open=1) == [sample]
    assert run_held(of, open=2) == [sample, full]
    assert run_held(of, open=2, standing="promising") == [full]
    assert run_held(of, open=1, standing="promising") == []


def test_a_filter_holds_for_a_named_phase_too_and_triage_does_not() -> None:
    other = told(
        "filtered",
        "run",
        "the session is for another run (r)",
        "A session for all, or for this run.",
        id="r",
    )
    assert run_held(named(), run_id="q", **CONDEMNED) == [other]
    assert run_held(named(), open=9, **CONDEMNED) == []
    prefix = told(
        "prefix_skipped",
        "run",
        "the session skips its run by prefix",
        "A session without that prefix.",
    )
    assert run_held(scope(skip_run_prefixes=("x", "r"))) == [prefix]
    assert run_held(scope(skip_run_prefixes=("x",))) == []


# The sampling of runs without a verdict, and the account.

PROBED = policy(breaker_runs=3, breaker_probes_max=2, breaker_cool_down_ms=3_600_000)


def broken(fingerprint: str, now: str, of: Policy = PROBED, **fields: Any) -> None:
    known: dict[str, Any] = {"runs": 3, "opened_pos": 5, "opened_us": NOW_US, "closed_pos": 2}
    open_one = breaker(fingerprint, **{**known, **fields})
    held = case(scope(of), breakers=(open_one, breaker("shut")), now_us=NOW_US + HOUR_US - 1)
    found = list(
        of_samples(
            held._replace(
                breakers=(*held.breakers, breaker("other", opened_pos=9, probe="a1", runs=4))
            )
        )
    )
    assert [each.id for each in found] == [fingerprint, "other"]
    is_out = fields.get("probe") is not None
    cools = of.breaker_cool_down_ms is not None and not is_out
    last_us = fields["last_probe_us"] if fields.get("probes") else NOW_US
    assert found[0] == told(
        "breaker_open",
        "samples",
        f"the breaker of {fingerprint} is open: it failed the samples of 3 runs,"
        f" {fields.get('probes', 0)} probes failed since, {now}",
        f"A probe that does well, or `runoff breaker reset {fingerprint} --why TEXT` once the"
        " cause is gone.",
        id=fingerprint,
        pos=5,
        until_us=last_us + HOUR_US if cools else None,
    )


def test_every_open_breaker_says_what_its_next_probe_waits_for() -> None:
    spent: dict[str, Any] = {"probes": 2, "last_probe_us": NOW_US + 1}
    broken("f", "and the next probe waits for that of another breaker")
    broken("f", "and a7 probes it now", probe="a7")
    broken("f", "and the next probe is due at 2026-01-01 01:00:00 UTC (in 0 s)", **spent)
    never = policy(breaker_runs=3, breaker_probes_max=2)
    broken("f", "and no further probe goes", never, **spent)


def test_the_slow_start_counts_samples_and_not_attempts() -> None:
    of = scope(policy(samples_at_first=2))
    busy = session(open_samples=("a", "b", "c", "d"), telling_samples=1, open=7)
    held = told(
        "slow_start",
        "samples",
        "4 samples of runs are under way, and 4 may be until more is known",
        "The end of one of these samples.",
    )
    assert list(of_samples(case(of, session=busy))) == [held]
    assert list(of_samples(case(of, session=busy, run=run(standing="promising")))) == []
    named_one = named(policy(samples_at_first=2))
    assert list(of_samples(case(named_one, session=busy))) == []


PAUSES = policy(provider_pause_ms=1000)


@pytest.mark.parametrize(
    ("stated", "said"), [(True, "as the provider said"), (False, "for no time could be read")]
)
def test_a_pause_is_told_with_its_end_and_who_said_so(said: str, *, stated: bool) -> None:
    rests = account("the key", kind="quota", until_us=NOW_US + HOUR_US, stated=stated, pos=33)
    held = told(
        "account_paused",
        "account",
        "the account the key met its quota and is paused until"
        f" 2026-01-01 01:00:00 UTC (in 60 min), {said}",
        "The end of the pause, or `runoff account resume 'the key' --why TEXT`.",
        id="the key",
        pos=33,
        until_us=NOW_US + HOUR_US,
    )
    assert list(of_account(case(scope(PAUSES), account=rests))) == [held]
    over = replace(rests, until_us=NOW_US)
    for free in (
        case(scope(PAUSES), account=over),
        case(scope(PAUSES)),
        case(scope(), account=rests),
        case(named(PAUSES), account=rests),
    ):
        assert list(of_account(free)) == []


# The session.

DRAIN = "`runoff drain` begins a new session."


def session_held(of: Scope, day: Day | None = None, **fields: Any) -> list[tuple[str, str, str]]:
    known: dict[str, Any] = {"part_started_us": NOW_US - 90_000_000}
    found = of_session(case(of, session=session(**{**known, **fields}), day=day, host_open=3))
    return [(each.kind, each.text, each.change) for each in found]


@pytest.mark.parametrize(
    ("fields", "kind", "text"),
    [
        ({"status": "ended", "because": "storage"}, "session_ended",
         "the session has ended, because the log could not be written"),
        ({"status": "lost"}, "session_ended", "the engine of the session has died"),
        ({"status": "draining", "because": "paused"}, "session_draining",
         "the session starts nothing more, because a person paused the daemon"),
        ({"status": "draining"}, "session_draining",
         "the session starts nothing more, because it was told to"),
    ],
)  # fmt: skip
def test_a_session_that_starts_nothing_says_why(
    fields: dict[str, Any], kind: str, text: str
) -> None:
    assert session_held(scope(batch_size=0, workers=0), **fields) == [(kind, text, DRAIN)]


@pytest.mark.parametrize(
    ("of", "fields", "found"),
    [
        (scope(), {"attempts": 8, "open": 1}, []),
        (
            scope(),
            {"attempts": 9},
            [("batch_size", "the session has made 9 attempts, its limit", DRAIN)],
        ),
        (scope(total_ms_max=90_001), {}, []),
        (
            scope(total_ms_max=90_000),
            {},
            [("total_time", "the session has run for 1.5 minutes, its limit", DRAIN)],
        ),
        (
            scope(),
            {"open": 2},
            [("workers_full", "all 2 workers of the session are busy", "The end of an attempt.")],
        ),
        (
            scope(workers=1),
            {"open": 1},
            [("workers_full", "the one worker of the session is busy", "The end of an attempt.")],
        ),
        (scope(host_workers=4), {}, []),
    ],
)
def test_what_a_session_may_not_exceed(
    of: Scope, fields: dict[str, Any], found: list[tuple[str, str, str]]
) -> None:
    assert session_held(of, **fields) == found


def test_budgets_of_the_session_and_the_day_are_told_all_that_are_reached() -> None:
    of = scope(
        budgets=(
            budget("day", "tokens", 30),
            budget("session", "attempts", 5),
            budget("day", "attempts", 8),
            budget("session", "tokens", 20),
            budget("run", "tokens", 1),
        )
    )
    assert session_held(of, Day(day=1, tokens=29, attempts=7), attempts=4, tokens=19) == []
    assert session_held(of, attempts=4) == []
    found = session_held(of, Day(day=1, tokens=30, attempts=8), attempts=5, tokens=20)
    tomorrow = "The next day (UTC), or a higher budget."
    assert found == [
        ("day_budget", "this day has used 30 tokens of the 30 that it may use", tomorrow),
        ("session_budget", "the session has used 5 attempts of the 5 that it may use", DRAIN),
        ("day_budget", "this day has used 8 attempts of the 8 that it may use", tomorrow),
        ("session_budget", "the session has used 20 tokens of the 20 that it may use", DRAIN),
    ]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "120 min"), (7200, "2 h"),
        (172_799, "48 h"), (172_800, "2 d"),
    ],
)  # fmt: skip
def test_a_duration_has_the_largest_unit_of_which_there_are_two(seconds: int, words: str) -> None:
    assert span(seconds * 1_000_000) == words


def test_a_moment_says_how_far_it_is_and_on_which_side() -> None:
    at = "2026-01-01 00:00:00 UTC"
    assert moment(NOW_US, NOW_US - 5_000_000) == f"{at} (in 5 s)"
    assert moment(NOW_US, NOW_US) == f"{at} (0 s ago)"
    assert moment(NOW_US, NOW_US + 180_000_000) == f"{at} (3 min ago)"
