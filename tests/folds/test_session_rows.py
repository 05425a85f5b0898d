"""Sessions, accounts and days, whole: each event on a row whose every count is there already."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from msgspec.structs import replace

from engine.events import (
    AccountPaused,
    AccountRecovered,
    AccountResumed,
    AnyEvent,
    AttemptDeferred,
    Ended,
    Ending,
    Group,
    PolicyAdopted,
    RunCooledDown,
    RunJudged,
    Seen,
    SessionDraining,
    SessionEnd,
    SessionEnded,
    SessionLapsed,
    SessionLeased,
    SessionPartLost,
    SessionResumed,
    SessionStarted,
    Told,
)
from engine.events.diagnosis import Disposition
from engine.events.triage import VerdictCause
from projections.accounts import ACCOUNTS, AccountStanding
from projections.days import DAY_US, DAYS, Day, day_key
from projections.sessions import RESTING, SESSIONS, SessionStanding, part_ms
from tests.folds.rows import POS, US, after, changes, keys, taken
from tests.rules.standings import account, because, boundary, finished, limits, session, started

WHY = because("r", "")
LIMITS = limits(batch_size=77)

SESSION = session(
    status="draining",
    because="interrupted",
    executor="x0",
    policy="p0",
    policy_json="{}",
    started_us=1_000_000,
    part_started_us=5_000_000,
    last_us=8_000_999,
    active_ms=4,
    parts=5,
    open=6,
    attempts=7,
    succeeded=8,
    failed=9,
    timed_out=10,
    abandoned=11,
    orphaned=12,
    deferred=13,
    busy_ms=14,
    yield_events=15,
    tokens=16,
    zero_streak=17,
    streak_before=16,
    lossy_streak=27,
    lossy_streak_before=26,
    boundary_hits=18,
    open_samples=("a0", "a", "a1"),
    telling_samples=19,
    work_left=20,
)
ADOPTED = PolicyAdopted(session_id="s", policy="p9", policy_sha256="h", policy_json="{9}")
STARTED = SessionStarted(session_id="s", executor="x9", limits=LIMITS)
RESUMED = SessionResumed(session_id="s", executor="x9", limits=LIMITS)
ENDED = SessionEnded(
    session_id="s", because="batch_size", active_ms=100, attempts=200, work_left=300
)
LOST = SessionPartLost(session_id="s", active_ms=100)


def draining(because_: SessionEnd) -> SessionDraining:
    return SessionDraining(session_id="s", because=because_, reason=WHY)


def judged(because_: VerdictCause) -> RunJudged:
    return RunJudged(
        session_id="s",
        run_id="r",
        attempt_id="a",
        generation=1,
        verdict="inconclusive",
        because=because_,
        reason=WHY,
    )


def deferred(*, no_yield: bool = True, timed_out: bool = False) -> AttemptDeferred:
    return AttemptDeferred(
        session_id="s",
        run_id="r",
        phase_id="p",
        attempt_id="a",
        state="FAILED",
        kind="quota",
        no_yield=no_yield,
        timed_out=timed_out,
        reason=WHY,
    )


COOLED = RunCooledDown(session_id="s", run_id="r", generation=2, reason=WHY)
LEASED = SessionLeased(session_id="s", epoch=7, host="h", lease_ms=15_000)
LAPSED = SessionLapsed(session_id="s", epoch=7, host="h", noticed_by=8, proved=False)


def within(event: AnyEvent, before: SessionStanding = SESSION) -> dict[str, Any]:
    """What changes beside the time of the last word, which every event within a part is."""
    found = changes(SESSIONS, before, event)
    assert found.pop("last_us") == US
    return found


def test_a_session_is_touched_by_what_happens_in_it() -> None:
    events = (
        ADOPTED,
        LEASED,
        LAPSED,
        STARTED,
        RESUMED,
        LOST,
        draining("storage"),
        ENDED,
        started(),
        finished(),
        deferred(),
        judged("success"),
        COOLED,
        boundary(),
    )
    assert SESSIONS.name == "sessions"
    assert taken(SESSIONS) == {type(event).__name__ for event in events}
    assert {keys(SESSIONS, event) for event in events} == {("s",)}


# Whose it is, where several engines share a log.


def test_a_session_is_its_engines_until_that_lapses_or_ends_it() -> None:
    assert changes(SESSIONS, SESSION, LEASED) == {"leased_by": 7, "host": LEASED.host}
    leased = replace(SESSION, leased_by=7, part_started_us=1_000_000, last_us=3_000_000)
    lapsed = changes(SESSIONS, leased, LAPSED)
    at_it_ms = SESSION.active_ms + 2000
    assert lapsed == {"leased_by": None, "heir": 8, "status": "lost", "active_ms": at_it_ms}
    rests = replace(leased, status="ended")
    assert changes(SESSIONS, rests, LAPSED) == {"leased_by": None, "heir": 8}
    left = replace(SESSION, heir=8, host=LEASED.host)
    assert changes(SESSIONS, left, LEASED) == {"leased_by": 7, "heir": None}
    assert after(SESSIONS, leased, ENDED).leased_by is None


# How it begins and ends.


def test_a_policy_is_adopted_before_the_session_begins() -> None:
    adopted = SessionStanding(session_id="s", policy="p9", policy_json="{9}")
    assert after(SESSIONS, None, ADOPTED) == adopted
    begun = after(SESSIONS, adopted, STARTED)
    assert begun == SessionStanding(
        session_id="s",
        policy="p9",
        policy_json="{9}",
        status="running",
        executor="x9",
        limits=LIMITS,
        started_us=US,
        part_started_us=US,
        last_us=US,
        parts=1,
    )
    # The last word of the part before is still wanted: an adopted policy is not one.
    assert changes(SESSIONS, SESSION, ADOPTED) == {"policy": "p9", "policy_json": "{9}"}


def test_a_session_that_is_new_has_nothing_counted() -> None:
    fresh = SessionStanding(session_id="s")
    shown = {name: getattr(fresh, name) for name in fresh.__struct_fields__}
    none = ("because", "limits", "work_left", "leased_by", "heir")
    text = ("executor", "policy", "policy_json", "host")
    assert {name: shown.pop(name) for name in none} == dict.fromkeys(none)
    assert {name: shown.pop(name) for name in text} == dict.fromkeys(text, "")
    assert shown.pop("session_id") == "s"
    assert shown.pop("status") == "running"
    assert shown.pop("open_samples") == ()
    assert set(shown.values()) == {0}


BEGUN: dict[str, Any] = {
    "status": "running",
    "because": None,
    "executor": "x9",
    "limits": LIMITS,
    "part_started_us": US,
    "last_us": US,
    "parts": 6,
    "work_left": None,
}


@pytest.mark.parametrize("event", [STARTED, RESUMED])
def test_a_part_that_crashed_counts_to_its_last_word_and_one_that_ended_as_it_said(
    event: SessionStarted | SessionResumed,
) -> None:
    # From 5.000000 s to 8.000999 s it was at it, which is 3000 whole milliseconds.
    assert changes(SESSIONS, SESSION, event) == {**BEGUN, "active_ms": 3004}
    for status, parts, last_us, active_ms in (
        ("running", 5, 8_000_999, 3004),
        ("running", 5, 5_001_000, 5),
        ("running", 5, 5_000_999, 4),
        ("running", 5, 3_000_000, 4),  # a clock that went back costs nothing
        ("draining", 5, 8_000_999, 3004),
        ("ended", 5, 8_000_999, 4),
        ("lost", 5, 8_000_999, 4),
        ("running", 0, 8_000_999, 4),  # nothing had begun
        ("running", 1, 8_000_999, 3004),
    ):
        row = session(
            status=status,
            parts=parts,
            last_us=last_us,
            part_started_us=5_000_000,
            active_ms=4,
            started_us=9,
        )
        found = after(SESSIONS, row, event)
        assert found.active_ms == active_ms, (status, parts, last_us)
        assert (found.parts, found.started_us) == (parts + 1, 9)


def test_what_ends_a_session_is_kept_until_it_goes_on() -> None:
    assert within(draining("storage")) == {"because": "storage"}
    row = session(status="running")
    assert within(draining("batch_size"), row) == {"status": "draining", "because": "batch_size"}
    # A part whose engine died is over, whatever is said of it behind.
    assert within(draining("batch_size"), session(status="lost")) == {"because": "batch_size"}
    assert within(ENDED) == {
        "status": "ended",
        "because": "batch_size",
        "active_ms": 100,
        "work_left": 300,
    }


def test_a_part_whose_engine_died_counts_as_another_session_found_it() -> None:
    assert within(LOST) == {"status": "lost", "active_ms": 100}
    assert {"lost", "ended"} == RESTING


def test_a_part_lasts_to_the_last_thing_that_it_recorded() -> None:
    for last_us, expected in ((5_000_000, 0), (5_000_999, 0), (5_001_000, 1), (4_000_000, 0)):
        row = session(part_started_us=5_000_000, last_us=last_us, started_us=1, active_ms=7)
        assert part_ms(row) == expected


# Attempts.


@pytest.mark.parametrize("probe_of", [None, "f"])
@pytest.mark.parametrize("group", get_args(Group))
def test_a_start_counts_and_is_a_sample_where_its_run_has_no_verdict(
    group: Group, probe_of: str | None
) -> None:
    expected: dict[str, Any] = {"open": 7, "attempts": 8}
    if group == "unsampled":
        expected["open_samples"] = ("a0", "a", "a1", "a9")
    assert within(started(group=group, attempt_id="a9", probe_of=probe_of)) == expected


@pytest.mark.parametrize("ending", get_args(Ending))
@pytest.mark.parametrize("usage", [0, 1, 2])
def test_an_end_counts_by_how_it_ended_and_whether_it_yielded(ending: Ending, usage: int) -> None:
    event = finished(ending=ending, yield_events=usage, tokens=200, duration_ms=300)
    counted = {
        "succeeded": {"succeeded": 9},
        "failed": {"failed": 10},
        "broke": {"failed": 10},
        "timed_out": {"timed_out": 11},
        "abandoned": {"abandoned": 12},
        "orphaned": {"orphaned": 13},
    }
    expected: dict[str, Any] = {
        "open": 5,
        "tokens": 216,
        "busy_ms": 314,
        "open_samples": ("a0", "a1"),
        "streak_before": 17,
        "lossy_streak_before": 27,
        **counted[ending],
    }
    if usage:
        expected |= {"yield_events": 15 + usage, "zero_streak": 0, "lossy_streak": 0}
    elif ending not in ("abandoned", "orphaned"):
        expected |= {"zero_streak": 18, "lossy_streak": 28}
    assert within(event) == expected


def test_an_end_of_no_sample_leaves_the_samples_alone() -> None:
    found = within(finished(attempt_id="other", duration_ms=0))
    assert found == {
        "open": 5,
        "failed": 10,
        "zero_streak": 18,
        "streak_before": 17,
        "lossy_streak": 28,
        "lossy_streak_before": 27,
    }


@pytest.mark.parametrize("ended", get_args(Ended))
@pytest.mark.parametrize("usage", [0, 1, 2])
def test_usage_before_a_deadline_ends_no_lossy_streak(ended: Ended, usage: int) -> None:
    event = finished(ending="timed_out", yield_events=usage, told=Told(ended=ended))
    found = after(SESSIONS, SESSION, event)
    assert found.zero_streak == (0 if usage else 18)
    assert found.lossy_streak == (0 if usage and ended != "timed_out" else 28)
    back = after(SESSIONS, found, deferred(timed_out=True))
    assert (back.zero_streak, back.lossy_streak) == (17, 27)


@pytest.mark.parametrize("usage", [0, 1, 3])
@pytest.mark.parametrize("streak", [0, 1, 17])
def test_a_deferred_attempt_counts_not_as_failed_and_leaves_the_streak(
    usage: int, streak: int
) -> None:
    row = session(zero_streak=streak, failed=9, deferred=13, open=6)
    ended = after(SESSIONS, row, finished(yield_events=usage))
    assert ended.zero_streak == (0 if usage else streak + 1)
    back = after(SESSIONS, ended, deferred(no_yield=not usage))
    assert (back.zero_streak, back.failed, back.deferred) == (streak, 9, 14)


def test_a_deferred_timeout_is_taken_out_of_the_timeouts() -> None:
    row = session(failed=9, timed_out=10, deferred=13, deferred_timeouts=3)
    assert within(deferred(timed_out=True), row) == {
        "timed_out": 9,
        "deferred": 14,
        "deferred_timeouts": 4,
    }


@pytest.mark.parametrize("because_", get_args(VerdictCause))
def test_a_sample_tells_something_unless_it_fails_as_an_earlier_one_did(
    because_: VerdictCause,
) -> None:
    tells = because_ != "repeated_failure"
    assert within(judged(because_)) == ({"telling_samples": 20} if tells else {})


def test_a_run_that_cools_down_with_nothing_to_start_is_a_sign_of_life_and_no_more() -> None:
    assert within(COOLED) == {}


@pytest.mark.parametrize("disposition", get_args(Disposition))
def test_a_limit_counts_that_stopped_an_attempt(disposition: Disposition) -> None:
    hit = disposition == "stopped_by"
    assert within(boundary(disposition=disposition)) == ({"boundary_hits": 19} if hit else {})


# Accounts.

ACCOUNT = account("x", kind="quota", until_us=99, stated=True, consecutive=2, pauses=3, pos=4)
PAUSED = AccountPaused(
    session_id="s",
    account="x",
    kind="overloaded",
    until_us=50,
    stated=False,
    consecutive=60,
    reason=WHY,
)
RECOVERED = AccountRecovered(session_id="s", account="x", attempt_id="a", reason=WHY)
GOES_ON = AccountResumed(account="x", by="x", why="y")


def test_an_account_is_touched_by_its_pauses() -> None:
    assert ACCOUNTS.name == "accounts"
    assert taken(ACCOUNTS) == {"AccountPaused", "AccountRecovered", "AccountResumed"}
    assert {keys(ACCOUNTS, event) for event in (PAUSED, RECOVERED, GOES_ON)} == {("x",)}


def test_a_pause_says_all_of_an_account() -> None:
    paused = {"kind": "overloaded", "until_us": 50, "stated": False, "consecutive": 60, "pos": POS}
    assert changes(ACCOUNTS, ACCOUNT, PAUSED) == {**paused, "pauses": 4}
    first = AccountStanding(
        account="x", kind="overloaded", until_us=50, consecutive=60, pauses=1, pos=POS
    )
    assert after(ACCOUNTS, None, PAUSED) == first
    assert AccountStanding(account="x") == AccountStanding(
        account="x", kind=None, until_us=0, stated=False, consecutive=0, pauses=0, pos=0
    )


def test_doing_well_ends_the_row_of_pauses_and_an_operator_ends_the_pause() -> None:
    assert changes(ACCOUNTS, ACCOUNT, RECOVERED) == {"consecutive": 0}
    assert changes(ACCOUNTS, ACCOUNT, GOES_ON) == {"until_us": 0, "consecutive": 0, "pos": POS}
    assert after(ACCOUNTS, None, GOES_ON) == AccountStanding(account="x", pos=POS)


# Days.


def test_a_day_counts_what_began_and_ended_on_it() -> None:
    day = Day(day=20_454, attempts=1, succeeded=2, yield_events=3, tokens=4, busy_ms=5)
    assert changes(DAYS, day, started()) == {"attempts": 2}
    for ending in get_args(Ending):
        event = finished(ending=ending, yield_events=100, tokens=200, duration_ms=300)
        expected = {"yield_events": 103, "tokens": 204, "busy_ms": 305}
        if ending == "succeeded":
            expected["succeeded"] = 3
        assert changes(DAYS, day, event) == expected
    assert DAYS.name == "days"
    assert taken(DAYS) == {"AttemptStarted", "AttemptFinished"}


def test_a_day_begins_at_midnight_by_the_writers_clock() -> None:
    assert DAY_US == 24 * 3600 * 1_000_000
    assert after(DAYS, None, started()) == Day(day=US // DAY_US, attempts=1)
    assert after(DAYS, None, finished(duration_ms=0)) == Day(day=US // DAY_US)
    assert keys(DAYS, started()) == (day_key(US),) == (f"{US // DAY_US:06d}",)
    assert day_key(0) == "000000"
    assert [day_key(7 * DAY_US + off) for off in (-1, 0, 1)] == ["000006", "000007", "000007"]
    for off, day in ((-1, 6), (0, 7), (1, 7)):
        seen = Seen(1, 7 * DAY_US + off, started())
        assert DAYS.keys(seen) == (f"{day:06d}",)
        assert DAYS.apply(None, seen) == Day(day=day, attempts=1)
    assert Day(day=1) == Day(day=1, attempts=0, succeeded=0, yield_events=0, tokens=0, busy_ms=0)
