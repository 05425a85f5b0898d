"""A rerun drains the recorded backlog again: by its own outcomes it comes to what was recorded."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest
from msgspec.structs import replace

from engine.drain.rerun import Rerun, recorded, rerun
from engine.events import (
    AnyEvent,
    AttemptDeferred,
    AttemptFinished,
    Ending,
    RunJudged,
    RunRegistered,
    SessionResumed,
    SessionStarted,
    Stream,
    Told,
)
from engine.executors.port import Declared, Report
from engine.executors.scripted import Rule
from engine.store.blobs import MemoryBlobs
from engine.triage.policy import POLICIES
from tests.audit.whatif_drains import Drained, Figures, Run, drained, fails, succeeds, times_out
from tests.harness.backlogs import queued
from tests.rules.standings import finished, limits

DEFAULT = POLICIES["default"]
RUNS = [
    Run("a", "strict", [[fails("alike", 7), succeeds(20)], [succeeds(3)]]),
    Run("b", "free", [[fails("odd failure")], [times_out()]]),
    Run("c", "strict", [[fails("odd failure")], [succeeds(1)]]),
    *(Run(f"d{number}", "free", [[succeeds(number)]] * 9) for number in range(30)),
]
"""More rows than are registered at once."""


async def again(of: Drained, **changes: Any) -> Rerun:
    found = recorded([line.event for line in of.lines], MemoryBlobs())
    return await rerun(found, replace(DEFAULT, **changes))


async def test_under_the_recorded_policy_it_comes_to_what_was_recorded() -> None:
    log = await drained(RUNS, DEFAULT, batch_sizes=(20, 300))
    found = await again(log)
    ends = [line.event for line in log.lines if isinstance(line.event, AttemptFinished)]
    judged = [line.event for line in log.lines if isinstance(line.event, RunJudged)]
    endings = Counter(end.ending for end in ends)
    assert min(endings["succeeded"], endings["failed"], endings["timed_out"]) > 0
    assert found == Rerun(
        attempts=len(ends),
        succeeded=endings["succeeded"],
        failed=endings["failed"],
        timed_out=endings["timed_out"],
        tokens=sum(end.tokens for end in ends),
        usage_events=sum(end.yield_events for end in ends),
        busy_minutes=sum(end.duration_ms for end in ends) / 60_000,
        runs_deprioritized=sum(each.verdict == "deprioritized" for each in judged),
        sources={"its own outcome": len(ends)},
    )
    assert found.runs_deprioritized > 0


async def test_a_reason_that_a_child_cleared_is_cleared_again_and_one_that_it_left_stays() -> None:
    """The detectors of the original read a failure's reason from its phase, however old it is."""
    policy = replace(
        DEFAULT, detectors="classic-1", attempts_per_phase_max=3, fingerprint_repeats_max=2
    )
    clears = [
        Rule(rc=1, reason=None, stderr="one thing"),
        Rule(rc=1, reason=None, stderr="quite another"),
    ]
    leaves = [Rule(rc=1, stderr="one thing"), Rule(rc=1, stderr="quite another")]
    for later, attempts in ((clears, 3), (leaves, 2)):
        log = await drained([Run("r", "strict", [[fails("like no other"), *later]])], policy)
        assert log.figures.attempts == attempts
        found = recorded([line.event for line in log.lines], MemoryBlobs())
        assert (await rerun(found, policy)).attempts == attempts


@pytest.mark.parametrize("behind", ["", "a word too much\n" * 200])
async def test_a_timeout_at_a_limit_is_put_off_as_it_was(behind: str) -> None:
    """Whether the limit was its last word is read from where its evidence stands."""
    waits = Rule(sleep=9_000.0, stderr="429 rate limit exceeded\n" + behind)
    log = await drained(
        [Run("r", "strict", [[waits, waits, succeeds(5)]])], DEFAULT, blobs=(kept := MemoryBlobs())
    )
    deferred = sum(isinstance(line.event, AttemptDeferred) for line in log.lines)
    assert deferred == (0 if behind else 2)
    found = await rerun(recorded([line.event for line in log.lines], kept), DEFAULT)
    assert Figures(found.attempts, found.tokens, found.succeeded) == log.figures
    assert found.timed_out == 2 - deferred


async def test_what_another_policy_attempts_beyond_the_record_is_borrowed() -> None:
    runs = [Run("r", "strict", [[fails("one", 1), fails("two", 1)]])]
    log = await drained(runs, replace(DEFAULT, attempts_per_phase_max=2))
    found = await again(log, attempts_per_phase_max=3)
    assert (found.attempts, found.failed) == (3, 3)
    assert found.sources == {"its own outcome": 2, "its last outcome": 1}


def outcomes_of(*events: AnyEvent, blobs: MemoryBlobs | None = None) -> list[Report]:
    found = recorded(events, blobs or MemoryBlobs())
    return [report for reports in found.outcomes.values() for report in reports]


def report_of(**fields: Any) -> Report:
    (found,) = outcomes_of(finished(**fields))
    return found


@pytest.mark.parametrize("ending", ["abandoned", "orphaned"])
def test_an_end_that_proves_nothing_is_no_outcome(ending: Ending) -> None:
    assert outcomes_of(finished(ending=ending)) == []


@pytest.mark.parametrize(
    ("fields", "ended"),
    [
        ({"ending": "timed_out", "told": Told(ended="timed_out")}, "timed_out"),
        ({"ending": "timed_out", "told": Told(ended="exited")}, "exited"),
        ({"ending": "failed", "told": Told(ended="timed_out")}, "timed_out"),
        ({"ending": "broke", "told": Told(ended="broke")}, "exited"),
        ({"ending": "timed_out", "told": None}, "timed_out"),
        ({"ending": "failed", "told": None}, "exited"),
    ],
)
def test_only_what_a_timer_ended_timed_out(fields: dict[str, Any], ended: str) -> None:
    """What a policy takes an exit code for is up to the other policy."""
    assert report_of(**fields).ended == ended


@pytest.mark.parametrize(
    ("told", "state", "reason", "declared"),
    [
        (None, "SKIPPED", "as diagnosed", None),
        (Told(ended="exited"), None, None, None),
        (
            Told(ended="exited", state="GATE", reason="said", declared="quota", declared_by="429"),
            "GATE",
            "said",
            Declared(kind="quota", how="429"),
        ),
        (
            Told(ended="exited", declared="quota"),
            None,
            None,
            Declared(kind="quota", how="recorded"),
        ),
    ],
)
def test_what_a_child_told_goes_before_what_was_made_of_it(
    told: Told | None, state: str | None, reason: str | None, declared: Declared | None
) -> None:
    found = report_of(told=told, final_state="SKIPPED", error="as diagnosed")
    assert (found.final_state, found.reason, found.declared) == (state, reason, declared)


def test_codes_times_and_what_is_missing_are_those_of_the_record() -> None:
    found = report_of(exit_code=3, signal=9, duration_ms=17, missing_deliverables=("a.py",))
    assert (found.exit_code, found.signal, found.duration_ms) == (3, 9, 17)
    assert found.missing_deliverables == ("a.py",)
    assert found.claimed_success is False
    assert report_of(ending="succeeded").claimed_success is True


@pytest.mark.parametrize(
    ("count", "tokens", "each"),
    [(0, 0, []), (1, 7, [7]), (3, 7, [3, 2, 2]), (3, 0, [0, 0, 0])],
)
def test_as_many_usage_records_took_as_many_tokens(
    count: int, tokens: int, each: list[int]
) -> None:
    telemetry = report_of(yield_events=count, tokens=tokens).telemetry
    assert [usage.output_tokens for usage in telemetry.usage] == each
    assert [usage.line for usage in telemetry.usage] == list(range(1, count + 1))
    assert telemetry.lines_read == count


def test_output_is_the_blob_or_else_what_stands_in_the_log() -> None:
    data = b"more than stands in the log itself\n" * 40
    blobs = MemoryBlobs()
    blobs.put(data)
    kept = Stream(
        total_bytes=len(data),
        head_bytes=len(data),
        digest=hashlib.sha256(data).hexdigest(),
        excerpt="the end",
    )
    gone = replace(kept, digest="0" * 64)
    (found,) = outcomes_of(finished(stdout=kept, stderr=gone), blobs=blobs)
    assert (found.stdout.data, found.stderr.data) == (data, b"the end")


def test_sessions_come_in_order_by_the_bounds_that_they_had_last() -> None:
    def begun(name: str, size: int) -> SessionStarted:
        return SessionStarted(session_id=name, executor="x", limits=limits(batch_size=size))

    again = SessionResumed(session_id="s1", executor="x", limits=limits(batch_size=5))
    found = recorded([begun("s1", 3), begun("s2", 4), again], MemoryBlobs())
    assert [(name, bounds.batch_size) for name, bounds in found.sessions] == [("s1", 5), ("s2", 4)]


def test_the_backlog_is_what_was_registered() -> None:
    there: list[AnyEvent] = [
        RunRegistered(run_id="r", origin="test", state="NEW"),
        queued("r", "p"),
    ]
    assert list(recorded([*there, finished()], MemoryBlobs()).backlog) == there
