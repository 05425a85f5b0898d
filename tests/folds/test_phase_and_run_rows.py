"""Phases and runs, whole: each event on a row whose every count is there already."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from engine.events import (
    Deliverable,
    Ending,
    PhaseRegistered,
    PhaseRequeued,
    PhaseState,
    RunCooledDown,
    RunJudged,
    RunRegistered,
    RunReinstated,
    RunStopped,
)
from engine.events.triage import AttemptDeferred, Verdict
from projections.backlog import BACKLOG, REASON_CHARS_MAX, UNFINISHED, PhaseStanding
from projections.run_triage import RUN_TRIAGE, SESSIONS_KEPT, InSession, RunStanding, Standing
from tests.folds.rows import POS, US, after, changes, keys, taken
from tests.rules.standings import because, finished, phase, run, started

WHY = because("r", "")

PHASE = phase(
    state="EXECUTING",
    state_before="GATE",
    reason="older",
    reason_before="oldest",
    incident_token_cap=3,
    number=4,
    attempts=5,
    orphans=6,
    deferrals=7,
    spent_tokens=8,
    spent_ms=9,
    attempts_total=10,
    open_attempt="a0",
    last_session="s0",
    last_ending="broke",
    last_pos=11,
    yield_events=12,
    tokens=13,
)
REGISTERED = PhaseRegistered(
    run_id="r",
    phase_id="p",
    tier_id="T7",
    tier_index=7,
    phase_index=8,
    name="n",
    state="FAILED",
    category="tests",
    complexity="high",
    order="free",
    after=("q",),
    needs=("gpu",),
    deliverables=(Deliverable(path="one"), Deliverable(path="two")),
    incident_token_cap=99,
    last_failure_reason="why",
)
DEFERRED = AttemptDeferred(
    session_id="s",
    run_id="r",
    phase_id="p",
    attempt_id="a",
    state="FAILED",
    kind="quota",
    reason=WHY,
)
REQUEUED = PhaseRequeued(run_id="r", phase_id="p", by="x", why="y")


# Phases.


def test_a_phase_is_touched_by_what_happens_to_it() -> None:
    assert BACKLOG.name == "backlog"
    assert taken(BACKLOG) == {
        "PhaseRegistered",
        "PhaseRequeued",
        "AttemptStarted",
        "AttemptFinished",
        "AttemptDeferred",
    }
    for event in (REGISTERED, REQUEUED, started(), finished(), DEFERRED):
        assert keys(BACKLOG, event) == ("r\np",)
    assert {"QUEUED", "EXECUTING", "FAILED"} == UNFINISHED


def test_a_deliverable_counts_as_often_as_it_is_named() -> None:
    thrice = replace(REGISTERED, deliverables=(Deliverable(path="q"),) * 3, after=("q",))
    assert after(BACKLOG, None, thrice).deliverables == 3


def test_a_phase_is_registered_as_it_came() -> None:
    expected = PhaseStanding(
        run_id="r",
        phase_id="p",
        tier_id="T7",
        tier_index=7,
        phase_index=8,
        order="free",
        after=("q",),
        needs=("gpu",),
        deliverables=2,
        state="FAILED",
        category="tests",
        complexity="high",
        reason="why",
        registered_pos=POS,
        incident_token_cap=99,
        last_pos=POS,
    )
    assert after(BACKLOG, None, REGISTERED) == expected
    # Everything else begins at nothing.
    assert (expected.number, expected.attempts, expected.attempts_total) == (0, 0, 0)
    assert (expected.orphans, expected.deferrals) == (0, 0)
    assert (expected.spent_tokens, expected.spent_ms) == (0, 0)
    assert (expected.yield_events, expected.tokens) == (0, 0)
    assert (expected.open_attempt, expected.last_session, expected.last_ending) == (None,) * 3
    assert expected.state_before == "QUEUED"
    bare = phase(last_pos=1)
    assert (bare.incident_token_cap, phase().last_pos) == (None, 0)


@pytest.mark.parametrize("length", [REASON_CHARS_MAX - 1, REASON_CHARS_MAX, REASON_CHARS_MAX + 1])
def test_a_reason_is_bounded(length: int) -> None:
    said = "".join(chr(ord("a") + n % 26) for n in range(length))  # no two ends of it are alike
    registered = PhaseRegistered(
        **{f: getattr(REGISTERED, f) for f in REGISTERED.__struct_fields__},
    )
    assert registered == REGISTERED
    event = replace(REGISTERED, last_failure_reason=said)
    assert after(BACKLOG, None, event).reason == said[:4096]
    failed = finished(error=said)
    assert after(BACKLOG, PHASE, failed).reason == said[:4096]
    assert after(BACKLOG, None, replace(REGISTERED, last_failure_reason=None)).reason is None
    assert after(BACKLOG, None, replace(REGISTERED, last_failure_reason="")).reason == ""


def test_a_requeued_phase_begins_anew_but_keeps_what_it_ever_took() -> None:
    assert changes(BACKLOG, PHASE, REQUEUED) == {
        "state": "QUEUED",
        "reason": None,
        "number": 0,
        "attempts": 0,
        "orphans": 0,
        "deferrals": 0,
        "spent_tokens": 0,
        "spent_ms": 0,
        "last_pos": POS,
    }


def test_a_start_counts_and_remembers_where_it_began() -> None:
    resting = phase(
        state="FAILED",
        reason="older",
        attempts=5,
        attempts_total=10,
        number=4,
        last_ending="broke",
        last_session="s0",
        reason_before="oldest",
    )
    event = started(attempt_id="a9", session_id="s9", number=5, initial_state="FAILED")
    assert changes(BACKLOG, resting, event) == {
        "state": "EXECUTING",
        "state_before": "FAILED",
        "number": 5,
        "attempts": 6,
        "attempts_total": 11,
        "reason_before": "older",
        "open_attempt": "a9",
        "last_session": "s9",
        "last_pos": POS,
    }


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_end_counts_what_it_took_and_what_it_proved(ending: Ending) -> None:
    event = finished(
        ending=ending,
        final_state="CI_RUNNING",
        error="newer",
        yield_events=100,
        tokens=200,
        duration_ms=300,
    )
    expected: dict[str, Any] = {
        "state": "CI_RUNNING",
        "open_attempt": None,
        "last_ending": ending,
        "last_pos": POS,
        "yield_events": 112,
        "tokens": 213,
        "spent_tokens": 208,
        "spent_ms": 309,
    }
    if ending == "broke":
        expected.pop("last_ending")  # it was that before
    if ending in ("abandoned", "orphaned"):
        expected["attempts"] = 4
    else:
        expected["reason"] = "newer"
    if ending == "orphaned":
        expected["orphans"] = 7
    assert changes(BACKLOG, PHASE, event) == expected


def test_an_end_without_a_word_leaves_no_older_reason() -> None:
    assert after(BACKLOG, PHASE, finished(ending="succeeded")).reason is None
    assert after(BACKLOG, PHASE, finished(ending="failed", error="")).reason == ""
    assert after(BACKLOG, PHASE, finished(ending="abandoned", error="newer")).reason == "older"


@pytest.mark.parametrize(("attempts", "left"), [(0, 0), (1, 0), (2, 1)])
def test_attempts_that_do_not_count_never_count_below_nothing(attempts: int, left: int) -> None:
    row = phase(attempts=attempts)
    for event in (finished(ending="abandoned"), finished(ending="orphaned"), DEFERRED):
        assert after(BACKLOG, row, event).attempts == left


def test_a_deferred_attempt_leaves_the_phase_as_it_was_but_for_the_deferral() -> None:
    assert changes(BACKLOG, PHASE, DEFERRED) == {
        "state": "FAILED",
        "reason": "oldest",
        "attempts": 4,
        "deferrals": 8,
        "last_pos": POS,
    }


def test_start_end_and_deferral_together_count_no_attempt() -> None:
    before = phase(state="FAILED", reason="PATCH_FAILED", attempts=1, number=1)
    row = after(BACKLOG, before, started(number=2, initial_state="FAILED"))
    row = after(BACKLOG, row, finished(ending="failed", error="429"))
    row = after(BACKLOG, row, DEFERRED)
    assert (row.state, row.reason, row.attempts) == ("FAILED", "PATCH_FAILED", 1)
    assert (row.number, row.deferrals) == (2, 1)


@pytest.mark.parametrize("state", get_args(PhaseState))
def test_a_phase_goes_back_to_the_state_that_the_deferral_names(state: PhaseState) -> None:
    assert after(BACKLOG, PHASE, replace(DEFERRED, state=state)).state == state


# Runs.

RUN = run(
    origin="o",
    registered_state="X",
    phases=2,
    standing="promising",
    because="success",
    verdict_pos=3,
    verdict_us=4,
    sample="a0",
    generation=5,
    open=6,
    attempts=7,
    succeeded=8,
    failed=9,
    timed_out=10,
    deferred=11,
    yield_events=12,
    tokens=13,
    spent_attempts=14,
    spent_tokens=15,
    spent_ms=16,
    session_id="s",
    session_attempts=17,
    session_timeouts=18,
    stopped="timeouts",
    stopped_pos=19,
    others=(
        InSession(session_id="s7", attempts=20, timeouts=21, stopped="x", stopped_pos=22),
        InSession(session_id="s8", attempts=23, timeouts=24),
    ),
)
OWN = InSession(session_id="s", attempts=17, timeouts=18, stopped="timeouts", stopped_pos=19)
ANEW = {
    "session_attempts": 0,
    "session_timeouts": 0,
    "stopped": None,
    "stopped_pos": None,
    "others": (*RUN.others, OWN),
}


def judged(verdict: Verdict = "deprioritized") -> RunJudged:
    return RunJudged(
        session_id="s9",
        run_id="r",
        attempt_id="a9",
        generation=5,
        verdict=verdict,
        because="repeated_failure",
        reason=WHY,
    )


def stopped(session_id: str = "s", *, demoted: bool = False) -> RunStopped:
    return RunStopped(
        session_id=session_id,
        run_id="r",
        because="fingerprint_repeats",
        reason=WHY,
        demoted=demoted,
    )


COOLED = RunCooledDown(session_id="s9", run_id="r", generation=6, reason=WHY)
REINSTATED = RunReinstated(run_id="r", generation=6, by="x", why="y")
KNOWN = RunRegistered(run_id="r", origin="o9", state="X9")


def test_a_run_is_touched_by_what_happens_to_it_or_its_phases() -> None:
    events = (
        KNOWN,
        REGISTERED,
        started(),
        finished(),
        DEFERRED,
        judged(),
        stopped(),
        COOLED,
        REINSTATED,
    )
    assert RUN_TRIAGE.name == "run_triage"
    assert taken(RUN_TRIAGE) == {type(event).__name__ for event in events}
    assert {keys(RUN_TRIAGE, event) for event in events} == {("r",)}


def test_a_run_that_is_new_stands_unsampled_with_nothing_counted() -> None:
    assert after(RUN_TRIAGE, None, KNOWN) == RunStanding(
        run_id="r", origin="o9", registered_state="X9"
    )
    assert after(RUN_TRIAGE, None, REGISTERED) == RunStanding(run_id="r", phases=1)
    fresh = RunStanding(run_id="r")
    shown = {name: getattr(fresh, name) for name in fresh.__struct_fields__}
    assert shown == {
        "run_id": "r",
        "origin": "unknown",
        "registered_state": "UNKNOWN",
        "standing": "unsampled",
        "generation": 1,
        "others": (),
        **dict.fromkeys(("because", "verdict_pos", "sample", "session_id"), None),
        **dict.fromkeys(("stopped", "stopped_pos"), None),
        **dict.fromkeys(("phases", "verdict_us", "open", "attempts", "succeeded", "failed"), 0),
        **dict.fromkeys(("timed_out", "deferred", "yield_events", "tokens"), 0),
        **dict.fromkeys(("spent_attempts", "spent_tokens", "spent_ms"), 0),
        **dict.fromkeys(("session_attempts", "session_timeouts"), 0),
    }


def test_a_run_registered_again_keeps_what_it_did() -> None:
    assert changes(RUN_TRIAGE, RUN, KNOWN) == {"origin": "o9", "registered_state": "X9"}
    assert changes(RUN_TRIAGE, RUN, REGISTERED) == {"phases": 3}


def test_a_start_counts_for_the_run_its_generation_and_its_session() -> None:
    counted = {"open": 7, "attempts": 8, "spent_attempts": 15}
    for standing in get_args(Standing):
        told = changes(RUN_TRIAGE, replace(RUN, standing=standing), started())
        assert told == {**counted, "session_attempts": 18}, "a sample is spent as well"
    assert changes(RUN_TRIAGE, RUN, started()) == {**counted, "session_attempts": 18}
    # In another session what belongs to a session starts anew.
    assert changes(RUN_TRIAGE, RUN, started(session_id="s9")) == {
        **counted,
        **ANEW,
        "session_id": "s9",
        "session_attempts": 1,
    }


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_end_counts_for_the_run_by_how_it_ended(ending: Ending) -> None:
    event = finished(ending=ending, yield_events=100, tokens=200, duration_ms=300)
    expected: dict[str, Any] = {
        "open": 5,
        "yield_events": 112,
        "tokens": 213,
        "spent_tokens": 215,
        "spent_ms": 316,
    }
    counted = {
        "succeeded": {"succeeded": 9},
        "failed": {"failed": 10},
        "broke": {"failed": 10},
        "timed_out": {"timed_out": 11, "session_timeouts": 19},
    }
    expected |= counted.get(ending, {})
    assert changes(RUN_TRIAGE, RUN, event) == expected


def test_an_end_in_another_session_starts_the_counts_of_that_session() -> None:
    event = finished(session_id="s9", ending="timed_out", duration_ms=0)
    assert changes(RUN_TRIAGE, RUN, event) == {
        **ANEW,
        "session_id": "s9",
        "session_timeouts": 1,
        "open": 5,
        "timed_out": 11,
    }


def test_a_deferred_attempt_is_not_counted_as_failed() -> None:
    assert changes(RUN_TRIAGE, RUN, DEFERRED) == {"failed": 8, "deferred": 12}


def test_a_deferred_timeout_is_not_counted_as_one() -> None:
    row = replace(RUN, session_timeouts=2)
    assert changes(RUN_TRIAGE, row, replace(DEFERRED, timed_out=True)) == {
        "timed_out": 9,
        "session_timeouts": 1,
        "deferred": 12,
    }


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_a_verdict_stands_with_its_cause_its_place_its_time_and_its_sample(
    verdict: Verdict,
) -> None:
    fresh = run(generation=5, session_id="s")
    assert changes(RUN_TRIAGE, fresh, judged(verdict)) == {
        "standing": verdict,
        "because": "repeated_failure",
        "verdict_pos": POS,
        "verdict_us": US,
        "sample": "a9",
    }


def test_a_stop_holds_for_its_session_and_may_demote() -> None:
    row = run(standing="promising", session_id="s", session_attempts=4)
    plain = {"stopped": "fingerprint_repeats", "stopped_pos": POS}
    assert changes(RUN_TRIAGE, row, stopped()) == plain
    assert changes(RUN_TRIAGE, row, stopped(demoted=True)) == {**plain, "standing": "inconclusive"}
    elsewhere = changes(RUN_TRIAGE, RUN, stopped("s9"))
    assert elsewhere == {**ANEW, **plain, "session_id": "s9"}
    stays = after(RUN_TRIAGE, run(standing="deprioritized"), stopped())
    assert stays.standing == "deprioritized"


@pytest.mark.parametrize("event", [COOLED, REINSTATED])
def test_a_new_generation_forgets_verdict_stop_and_what_was_spent(
    event: RunCooledDown | RunReinstated,
) -> None:
    assert changes(RUN_TRIAGE, RUN, event) == {
        "standing": "unsampled",
        "because": None,
        "verdict_pos": None,
        "verdict_us": 0,
        "sample": None,
        "generation": 6,
        "spent_attempts": 0,
        "spent_tokens": 0,
        "spent_ms": 0,
        "stopped": None,
        "stopped_pos": None,
        "others": (
            InSession(session_id="s7", attempts=20, timeouts=21),
            InSession(session_id="s8", attempts=23, timeouts=24),
        ),
    }


def test_a_session_that_goes_on_finds_what_it_had_counted() -> None:
    for event, attempts, stop in (
        (started(session_id="s7"), 21, ("x", 22)),
        (finished(session_id="s7"), 20, ("x", 22)),
        (stopped("s7"), 20, ("fingerprint_repeats", POS)),
    ):
        row = after(RUN_TRIAGE, RUN, event)
        assert row.session_id == "s7"
        assert row.others == (RUN.others[1], OWN)
        assert (row.session_attempts, row.session_timeouts) == (attempts, 21)
        assert (row.stopped, row.stopped_pos) == stop


@pytest.mark.parametrize("known", [30, 31, 32, 33])
def test_of_so_many_other_sessions_the_latest_are_remembered(known: int) -> None:
    assert SESSIONS_KEPT == 32
    others = tuple(InSession(session_id=f"o{n}", timeouts=n) for n in range(known))
    row = after(RUN_TRIAGE, run(session_id="s", others=others), started(session_id="s9"))
    assert row.others == (*others, InSession(session_id="s"))[-32:]
    first = after(RUN_TRIAGE, run(others=others[:2]), started(session_id="s9"))
    assert first.others == others[:2]


def test_what_a_session_counted_of_a_run_is_found_wherever_it_is_kept() -> None:
    assert RUN.in_session("s") == OWN
    assert RUN.in_session("s7") == RUN.others[0]
    assert RUN.in_session("s9") == InSession(
        session_id="s9", attempts=0, timeouts=0, stopped=None, stopped_pos=None
    )
    assert [RUN.stopped_in(name) for name in ("s", "s7", "s8", "s9")] == [
        "timeouts",
        "x",
        None,
        None,
    ]
    assert [RUN.timeouts_in(name) for name in ("s", "s7", "s8", "s9")] == [18, 21, 24, 0]


def test_what_was_stopped_or_timed_out_is_asked_of_one_session() -> None:
    for asked, known in product(("s", "s9"), (None, "s", "s9")):
        row = run(session_id=known, stopped="timeouts", session_timeouts=4)
        same = asked == known
        assert row.stopped_in(asked) == ("timeouts" if same else None)
        assert row.timeouts_in(asked) == (4 if same else 0)
    assert run(session_id="s").stopped_in("s") is None
