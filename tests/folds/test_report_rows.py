"""The rows that only people read, whole: minutes, and why there was no usage."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from msgspec.structs import asdict, replace

from engine.events import (
    Classified,
    Ending,
    FingerprintStopped,
    Reclassified,
    RunJudged,
    RunStopped,
    UsageImported,
)
from engine.events.diagnosis import Diagnosed, Disposition
from engine.events.triage import Verdict
from projections.timeline import TIMELINE, Minute
from projections.zero_yield import TOTAL, ZERO_YIELD, YieldCounts, run_key, session_key
from tests.folds.rows import US, after, changes, keys, taken
from tests.rules.standings import because, boundary, finished, silent, started

WHY = because("r", "")

MINUTE = Minute(
    minute_us=7,
    started=1,
    succeeded=2,
    failed=3,
    timed_out=4,
    cut_short=5,
    yield_events=6,
    tokens=70,
    verdicts=8,
    stops=9,
)
STOPPED_RUN = RunStopped(session_id="s", run_id="r", because="timeouts", reason=WHY)
STOPPED_FAILURE = FingerprintStopped(session_id="s", fingerprint="f", repeats=3, reason=WHY)


def judged(verdict: Verdict) -> RunJudged:
    return RunJudged(
        session_id="s",
        run_id="r",
        attempt_id="a",
        generation=1,
        verdict=verdict,
        because="success",
        reason=WHY,
    )


# The timeline.


def test_a_minute_is_touched_by_what_is_recorded_in_it() -> None:
    events = (started(), finished(), judged("promising"), STOPPED_RUN, STOPPED_FAILURE)
    assert (TIMELINE.name, TIMELINE.version) == ("timeline", 1)
    assert taken(TIMELINE) == {type(event).__name__ for event in events}
    assert {keys(TIMELINE, event) for event in events} == {(f"{US // 60_000_000:012d}",)}


def test_a_minute_begins_at_its_first_microsecond_with_nothing_counted() -> None:
    begun = after(TIMELINE, None, started())
    assert asdict(begun) == {
        "minute_us": 1_767_225_660_000_000,
        "started": 1,
        "succeeded": 0,
        "failed": 0,
        "timed_out": 0,
        "cut_short": 0,
        "yield_events": 0,
        "tokens": 0,
        "verdicts": 0,
        "stops": 0,
    }
    assert begun.minute_us <= US < begun.minute_us + 60_000_000


ENDED_AS: dict[Ending, dict[str, int]] = {
    "succeeded": {"succeeded": 3},
    "failed": {"failed": 4},
    "broke": {"failed": 4},
    "timed_out": {"timed_out": 5},
    "abandoned": {"cut_short": 6},
    "orphaned": {"cut_short": 6},
}


@pytest.mark.parametrize("ending", get_args(Ending))
def test_an_end_counts_once_in_its_minute_with_what_it_used(ending: Ending) -> None:
    silent = finished(ending=ending, duration_ms=1000, timeout_ms=1000)
    assert changes(TIMELINE, MINUTE, silent) == ENDED_AS[ending]
    used = replace(silent, yield_events=20, tokens=30)
    assert changes(TIMELINE, MINUTE, used) == {
        **ENDED_AS[ending],
        "yield_events": 26,
        "tokens": 100,
    }


@pytest.mark.parametrize("verdict", get_args(Verdict))
def test_every_verdict_every_stop_and_every_start_counts_one(verdict: Verdict) -> None:
    assert changes(TIMELINE, MINUTE, judged(verdict)) == {"verdicts": 9}
    assert changes(TIMELINE, MINUTE, STOPPED_RUN) == {"stops": 10}
    assert changes(TIMELINE, MINUTE, STOPPED_FAILURE) == {"stops": 10}
    assert changes(TIMELINE, MINUTE, started()) == {"started": 2}


# Why there was no usage.

COUNTS = YieldCounts(
    finished=10,
    with_yield=4,
    zero_yield={"timeout": 2, "unknown": 1},
    boundaries={"quota": 1},
    usage_recorded=40,
    usage_imported=5,
    tokens=600,
)
SILENT = silent(reason="timeout", evidence="e")
IMPORTED = UsageImported(
    run_id="r",
    phase_id="p",
    source_row=1,
    provider="",
    model="",
    role="",
    prompt_tokens=100,
    completion_tokens=200,
    total_tokens=300,
    split_invented=True,
    run_known=True,
    created_us=None,
)


def said(name: str, detail: str | None = None) -> Classified:
    return Classified(detector="d", name=name, detail=detail)


def again(what: Diagnosed, before: Classified | None, now: Classified | None) -> Reclassified:
    return Reclassified(
        session_id="s",
        run_id="r",
        phase_id="p",
        attempt_id="a",
        what=what,
        detector="d",
        timeouts="detected",
        before=before,
        after=now,
        by="x",
        why="y",
    )


def test_what_happens_counts_in_all_in_its_session_and_in_its_run() -> None:
    events = (finished(), SILENT, boundary(), again("zero_yield", None, None))
    assert (ZERO_YIELD.name, ZERO_YIELD.version) == ("zero_yield", 2)
    assert taken(ZERO_YIELD) == {*(type(event).__name__ for event in events), "UsageImported"}
    assert (session_key("s"), run_key("r"), TOTAL) == ("session\ns", "run\nr", "total")
    assert {keys(ZERO_YIELD, event) for event in events} == {("total", "session\ns", "run\nr")}


def test_imported_usage_is_of_no_session_and_maybe_of_no_run() -> None:
    assert keys(ZERO_YIELD, IMPORTED) == ("total", "run\nr")
    assert keys(ZERO_YIELD, replace(IMPORTED, run_id=None)) == ("total",)
    assert changes(ZERO_YIELD, COUNTS, IMPORTED) == {"usage_imported": 6}


def test_an_end_counts_with_its_usage_and_its_tokens() -> None:
    used = finished(yield_events=3, tokens=50)
    assert asdict(after(ZERO_YIELD, None, used)) == {
        "finished": 1,
        "with_yield": 1,
        "zero_yield": {},
        "boundaries": {},
        "usage_recorded": 3,
        "usage_imported": 0,
        "tokens": 50,
    }
    assert after(ZERO_YIELD, None, finished(yield_events=1)).with_yield == 1
    assert changes(ZERO_YIELD, COUNTS, used) == {
        "finished": 11,
        "with_yield": 5,
        "usage_recorded": 43,
        "tokens": 650,
    }
    unread = finished(yield_events=0, tokens=50)
    assert changes(ZERO_YIELD, COUNTS, unread) == {"finished": 11, "tokens": 650}


def test_a_silence_counts_by_its_reason() -> None:
    assert changes(ZERO_YIELD, COUNTS, SILENT) == {"zero_yield": {"timeout": 3, "unknown": 1}}
    new = replace(SILENT, reason="orphaned")
    assert after(ZERO_YIELD, None, new) == YieldCounts(zero_yield={"orphaned": 1})


@pytest.mark.parametrize("disposition", get_args(Disposition))
def test_a_limit_counts_only_where_it_stopped_the_attempt(disposition: Disposition) -> None:
    found = changes(ZERO_YIELD, COUNTS, boundary(kind="quota", disposition=disposition))
    assert found == ({"boundaries": {"quota": 2}} if disposition == "stopped_by" else {})


@pytest.mark.parametrize(
    ("event", "changed"),
    [
        (
            again("zero_yield", said("timeout"), said("unknown")),
            {"zero_yield": {"timeout": 1, "unknown": 2}},
        ),
        (
            again("zero_yield", said("unknown"), said("timeout", "x")),
            {"zero_yield": {"timeout": 3}},  # nothing is counted no times
        ),
        (
            again("zero_yield", None, said("orphaned")),
            {"zero_yield": {"timeout": 2, "unknown": 1, "orphaned": 1}},
        ),
        (again("zero_yield", said("unknown"), None), {"zero_yield": {"timeout": 2}}),
        (
            again("boundary", said("quota", "stopped_by"), said("overloaded", "stopped_by")),
            {"boundaries": {"overloaded": 1}},
        ),
        (
            again("boundary", said("quota", "stopped_by"), said("quota", "encountered")),
            {"boundaries": {}},
        ),
        (
            again("boundary", said("quota", "suspected"), said("quota", "stopped_by")),
            {"boundaries": {"quota": 2}},
        ),
        (again("boundary", said("quota", "encountered"), said("quota", "suspected")), {}),
        (again("boundary", None, said("overloaded", "encountered")), {}),
        (again("fingerprint", said("f"), said("g", "stopped_by")), {}),
    ],
)
def test_an_attempt_counts_where_the_newest_word_on_it_says(
    event: Reclassified, changed: dict[str, Any]
) -> None:
    assert changes(ZERO_YIELD, COUNTS, event) == changed
