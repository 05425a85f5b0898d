"""Provider limits, whole: what counts as one, what is deferred, and how long an account rests."""

from __future__ import annotations

from itertools import product
from typing import Literal, get_args

import pytest

from engine.events import (
    AccountPaused,
    AccountRecovered,
    AttemptDeferred,
    BoundaryKind,
    ClockTime,
    Disposition,
    Ending,
    Evidence,
    PhaseState,
    Stream,
)
from engine.triage.policy import POLICIES
from engine.triage.provider import (
    LIMITS,
    STATED_MAX_MS,
    deferral,
    is_deferred,
    limit_met,
    pause_ms,
    paused,
    recovered,
    stated_reset_us,
)
from tests.rules.standings import (
    NOW_US,
    account,
    because,
    boundary,
    finished,
    ground,
    phase,
    policy,
)

ON = policy(provider_pause_ms=60_000, provider_pause_max_ms=200_000)
WEEK_US = 7 * 24 * 3600 * 1_000_000


# What counts as a provider's limit.


def test_an_attempt_that_a_providers_limit_stopped_or_held_up_met_it() -> None:
    lifted = {"rate_limit", "quota", "spend_limit", "overloaded"}
    assert lifted == LIMITS
    met = 0
    for ending, kind, disposition, on in product(
        get_args(Ending), get_args(BoundaryKind), get_args(Disposition), (ON, policy())
    ):
        limit = boundary(kind=kind, disposition=disposition, declared="result file")
        found = limit_met(finished(ending=ending), [limit], on)
        expected = (
            on is ON
            and ending in ("failed", "timed_out")
            and disposition == "stopped_by"
            and kind in lifted
        )
        assert (found is limit) == expected
        assert found is limit or found is None
        met += expected
    assert met == 8


STREAMS = {
    "stdout": Stream(digest="d", total_bytes=99_999, head_bytes=5000, tail_bytes=3000),
    "stderr": Stream(digest="e", total_bytes=100, head_bytes=100),
}


@pytest.mark.parametrize(
    ("stream", "byte_end", "is_last"),
    [
        ("stdout", 8000, True),
        ("stdout", 6000, True),
        ("stdout", 5999, False),  # it went on to print more
        ("stdout", 50, False),
        ("stderr", 50, True),
        ("stderr", 100, True),
    ],
)
def test_a_timeout_met_a_limit_that_was_its_last_word(
    stream: Literal["stdout", "stderr"], byte_end: int, *, is_last: bool
) -> None:
    where = Evidence(stream=stream, digest="d", byte_start=0, byte_end=byte_end, excerpt="")
    limit = boundary(evidence=where)
    assert limit_met(finished(**STREAMS), [limit], ON) is limit
    waited = finished(ending="timed_out", **STREAMS)
    assert limit_met(waited, [limit], ON) is (limit if is_last else None)


def test_a_limit_that_stands_nowhere_is_nobodys_last_word() -> None:
    limit = boundary(evidence=None, declared=None)
    assert limit_met(finished(ending="timed_out"), [limit], ON) is None
    assert limit_met(finished(), [limit], ON) is limit


def test_a_deferral_says_that_the_attempt_timed_out() -> None:
    for ending in ("failed", "timed_out"):
        found = deferral(finished(ending=ending), boundary(), "f", phase(), ground(ON))
        assert found.timed_out == (ending == "timed_out")


def test_the_first_limit_that_counts_is_the_one_that_was_met() -> None:
    suspected = boundary(disposition="suspected")
    window = boundary(kind="context_window")
    first, second = boundary(kind="quota"), boundary(kind="overloaded")
    assert limit_met(finished(), [suspected, window, first, second], ON) is first
    assert limit_met(finished(), [suspected, window], ON) is None
    assert limit_met(finished(), [], ON) is None


def test_a_pause_of_nothing_is_a_pause_all_the_same() -> None:
    assert limit_met(finished(), [boundary()], policy(provider_pause_ms=0)) is not None


# What is deferred.


def test_a_phase_is_deferred_so_often_and_then_fails_like_any_other() -> None:
    for limit, before in product((None, 0, 1, 2), (0, 1, 2, 3)):
        expected = limit is None or before in range(limit)
        found = is_deferred(phase(deferrals=before), policy(deferrals_per_phase_max=limit))
        assert found == expected, (limit, before)


@pytest.mark.parametrize("state", ["QUEUED", "FAILED", "EXECUTING", "GATE"])
def test_a_deferral_goes_back_to_whatever_state_was_attempted(state: PhaseState) -> None:
    standing = phase(state="EXECUTING", state_before=state)
    assert deferral(finished(), boundary(), None, standing, ground(ON)).state == state


@pytest.mark.parametrize(("usage", "no_yield"), [(0, True), (1, False), (2, False)])
@pytest.mark.parametrize("fingerprint", [None, "f1"])
def test_a_deferral_names_the_state_to_go_back_to_and_what_is_not_counted(
    usage: int, *, no_yield: bool, fingerprint: str | None
) -> None:
    end = finished(session_id="s9", run_id="r9", phase_id="p9", attempt_id="a9", yield_events=usage)
    standing = phase(state="EXECUTING", state_before="FAILED", deferrals=2)
    limit = boundary(kind="quota")
    assert deferral(end, limit, fingerprint, standing, ground(ON)) == AttemptDeferred(
        session_id="s9",
        run_id="r9",
        phase_id="p9",
        attempt_id="a9",
        state="FAILED",
        kind="quota",
        fingerprint=fingerprint,
        no_yield=no_yield,
        reason=because(
            "provider_pause",
            "The provider's quota ended the attempt, which says nothing about the phase; it stands"
            " as before.",
            kind="quota",
            deferrals_before=2,
        ),
    )


# When a limit is lifted, as the provider says.


@pytest.mark.parametrize(
    ("at_us", "in_ms", "stated_us"),
    [
        (None, None, None),
        (NOW_US - 1, None, None),  # in the past
        (NOW_US, None, None),  # now is no use either
        (NOW_US + 1, None, NOW_US + 1),
        (None, -1, None),
        (None, 0, None),
        (None, 1, NOW_US + 1000),
        (None, 20_000, NOW_US + 20_000_000),
        (NOW_US + 5, 9, NOW_US + 5),  # a point in time is better than a span
        (NOW_US - 5, 9, None),  # and is taken at its word
        (NOW_US + WEEK_US - 1, None, NOW_US + WEEK_US - 1),
        (NOW_US + WEEK_US, None, NOW_US + WEEK_US),
        (NOW_US + WEEK_US + 1, None, NOW_US + WEEK_US),
        (None, 7 * 24 * 3_600_000 + 1, NOW_US + WEEK_US),
        (None, 7 * 24 * 3_600_000 - 1, NOW_US + WEEK_US - 1000),
        (0, 9, None),
    ],
)
def test_what_a_provider_states_is_used_when_it_lies_ahead_and_within_a_week(
    at_us: int | None, in_ms: int | None, stated_us: int | None
) -> None:
    assert STATED_MAX_MS * 1000 == WEEK_US
    limit = boundary(resets_at_us=at_us, resets_in_ms=in_ms)
    assert stated_reset_us(limit, NOW_US, 0) == stated_us


HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("minute", "zone", "duration_ms", "hours"),
    [  # it is midnight, UTC
        (15, "UTC", 0, 0.25),
        (60, "UTC", 0, 1),
        (60, "utc", 9_000_000, 1),
        (20 * 60, "EST", 0, 1),
        (60, "+02:00", 0, 23),
        (19 * 60 + 15, "America/New_York", 0, 0.25),
        (19 * 60, "America/New_York", 0, 24),
        (0, "UTC", 0, 24),
        # came round within the attempt: it may have been the one that was meant
        (1425, "UTC", 899_999, 23.75),
        (1425, "UTC", 900_000, 23.75),
        (1425, "UTC", 900_001, None),
        (1425, "UTC", 90_000_000, None),
        # nobody knows where
        (60, None, 0, None),
        (60, "XYZ", 0, None),
        (60, "Atlantis/Capital", 0, None),
    ],
)
def test_a_time_of_day_is_the_next_one_since_the_attempt_began(
    minute: int, zone: str | None, duration_ms: int, hours: float | None
) -> None:
    clock = ClockTime(minute=minute, zone=zone)
    expected = None if hours is None else NOW_US + round(hours * HOUR_US)
    assert stated_reset_us(boundary(resets_clock=clock), NOW_US, duration_ms) == expected


def test_a_time_of_day_is_asked_last() -> None:
    clock = ClockTime(minute=0, zone="UTC")
    assert stated_reset_us(boundary(resets_clock=clock, resets_in_ms=1), NOW_US, 0) == NOW_US + 1000
    assert stated_reset_us(boundary(resets_clock=clock, resets_at_us=NOW_US), NOW_US, 0) is None


def test_a_pause_ends_at_the_time_of_day_that_the_attempt_was_told() -> None:
    limit = boundary(kind="overloaded", resets_clock=ClockTime(minute=1425, zone="UTC"))
    for duration_ms, stated in ((10, True), (9_000_000, False)):
        end = finished(duration_ms=duration_ms)
        (found,) = paused(account("key"), end, limit, ground(ON))
        assert (found.stated, found.until_us) == (
            (True, NOW_US + 95 * HOUR_US // 4) if stated else (False, NOW_US + 60_000_000)
        )


# How long an account rests.


@pytest.mark.parametrize(
    ("consecutive", "expected"),
    [(0, 60_000), (1, 120_000), (2, 200_000), (3, 200_000), (31, 200_000), (10**9, 200_000)],
)
def test_pauses_double_up_to_their_bound(consecutive: int, expected: int) -> None:
    assert pause_ms(consecutive, ON) == expected


def test_the_default_pauses_double_from_a_minute_to_an_hour() -> None:
    minutes = [pause_ms(n, POLICIES["default"]) / 60_000 for n in range(9)]
    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.parametrize(("consecutive", "expected"), [(29, 2**29), (30, 2**30), (31, 2**30)])
def test_doubling_ends_before_it_costs_anything(consecutive: int, expected: int) -> None:
    endless = policy(provider_pause_ms=1, provider_pause_max_ms=2**62)
    assert pause_ms(consecutive, endless) == expected


def pause(
    until_us: int,
    *,
    stated: bool,
    consecutive: int,
    stated_us: int | None,
    before: int,
    seconds: int,
) -> AccountPaused:
    said = "the provider says so" if stated else "no time that could be read"
    return AccountPaused(
        session_id="s",
        account="key",
        kind="overloaded",
        until_us=until_us,
        stated=stated,
        consecutive=consecutive,
        reason=because(
            "provider_pause",
            f"The account key met its overloaded and rests for {seconds} s ({said}).",
            kind="overloaded",
            now_us=NOW_US,
            stated_us=stated_us,
            consecutive_before=before,
        ),
    )


@pytest.mark.parametrize("until_us", [0, NOW_US - 1, NOW_US])
@pytest.mark.parametrize(("before", "rest_s"), [(0, 60), (1, 120), (2, 200), (3, 200)])
def test_an_account_that_is_awake_rests_longer_each_time(
    until_us: int, before: int, rest_s: int
) -> None:
    known = account("key", until_us=until_us, consecutive=before)
    found = list(paused(known, finished(), boundary(kind="overloaded"), ground(ON)))
    assert found == [
        pause(
            NOW_US + rest_s * 1_000_000,
            stated=False,
            consecutive=before + 1,
            stated_us=None,
            before=before,
            seconds=rest_s,
        )
    ]


@pytest.mark.parametrize("before", [0, 1, 5])
def test_a_stated_reset_wins_over_the_doubling(before: int) -> None:
    known = account("key", consecutive=before)
    for in_ms, seconds in ((1_000, 1), (500_000, 500)):
        limit = boundary(kind="overloaded", resets_in_ms=in_ms)
        until_us = NOW_US + in_ms * 1000
        assert list(paused(known, finished(), limit, ground(ON))) == [
            pause(
                until_us,
                stated=True,
                consecutive=before + 1,
                stated_us=until_us,
                before=before,
                seconds=seconds,
            )
        ]


def test_a_stated_reset_in_the_past_is_no_stated_reset() -> None:
    limit = boundary(kind="overloaded", resets_at_us=NOW_US)
    assert list(paused(account("key"), finished(), limit, ground(ON))) == [
        pause(
            NOW_US + 60_000_000,
            stated=False,
            consecutive=1,
            stated_us=None,
            before=0,
            seconds=60,
        )
    ]


@pytest.mark.parametrize("before", [0, 3])
def test_while_it_rests_only_a_later_stated_time_lengthens_the_pause(before: int) -> None:
    resting = account("key", until_us=NOW_US + 10_000, consecutive=before)
    for at_us in (None, NOW_US + 1, NOW_US + 9_999, NOW_US + 10_000):
        limit = boundary(kind="overloaded", resets_at_us=at_us)
        assert list(paused(resting, finished(), limit, ground(ON))) == []
    later = boundary(kind="overloaded", resets_at_us=NOW_US + 10_001)
    assert list(paused(resting, finished(), later, ground(ON))) == [
        pause(
            NOW_US + 10_001,
            stated=True,
            consecutive=before,
            stated_us=NOW_US + 10_001,
            before=before,
            seconds=0,
        )
    ]


def test_the_last_microsecond_of_a_pause_still_belongs_to_it() -> None:
    last = account("key", until_us=NOW_US + 1, consecutive=1)
    assert list(paused(last, finished(), boundary(), ground(ON))) == []
    over = account("key", until_us=NOW_US, consecutive=1)
    assert [each.consecutive for each in paused(over, finished(), boundary(), ground(ON))] == [2]


# How a row of pauses ends.


def test_an_attempt_that_does_well_ends_the_row_once() -> None:
    for ending, usage, consecutive in product(get_args(Ending), (0, 1), (0, 1, 2)):
        end = finished(ending=ending, yield_events=usage, attempt_id="a9")
        found = list(recovered(account("key", consecutive=consecutive), end, ground(ON)))
        if consecutive == 0 or not (ending == "succeeded" or usage > 0):
            assert found == []
            continue
        assert found == [
            AccountRecovered(
                session_id="s",
                account="key",
                attempt_id="a9",
                reason=because(
                    "provider_pause",
                    "An attempt on the account key did well again.",
                    ending=ending,
                    consecutive_before=consecutive,
                ),
            )
        ]


def test_an_account_that_nobody_knows_does_not_recover() -> None:
    assert list(recovered(None, finished(ending="succeeded"), ground(ON))) == []


def test_a_policy_without_pauses_says_nothing_of_accounts() -> None:
    known = account("key", consecutive=2)
    assert list(recovered(known, finished(ending="succeeded"), ground(policy()))) == []
