"""The original's detectors, against every decision that was recorded of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.detect import Outcome, detectors
from engine.detect.classic import normalise
from engine.events import Ended

GOLDEN = Path(__file__).parents[2].parent / "shared" / "data" / "golden_decisions.json"
SCENARIOS = (
    "one_fingerprint",
    "all_succeed",
    "mixed_by_run",
    "timeouts",
    "zero_yield_streak",
    "yield_failures",
    "zero_yield_reasons",
    "run_filter",
    "skip_prefix",
)

classic = detectors("classic-1")


def rule_for(scenario: dict[str, Any], decision: dict[str, Any]) -> dict[str, Any]:
    return next(
        rule
        for rule in scenario["rules"]
        if fnmatchcase(decision["run"], rule.get("run", "*"))
        and fnmatchcase(decision["phase"], rule.get("phase", "*"))
    )


def outcome_of(rule: dict[str, Any], decision: dict[str, Any]) -> Outcome:
    reason = rule.get("reason")
    timed_out = "sleep" in rule
    return Outcome(
        ended="timed_out" if timed_out else "exited",
        succeeded=decision["success"],
        final_state="FAILED" if timed_out else decision["final_state"],
        exit_code=None if timed_out else decision["returncode"],
        reason=reason and reason.format(run=decision["run"], phase=decision["phase"]),
        stdout=rule.get("stdout", ""),
        stderr=rule.get("stderr", ""),
        yield_events=decision["events"] or 0,
        run_id=decision["run"],
        phase_id=decision["phase"],
    )


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_recorded_decision_gets_the_same_diagnosis(name: str) -> None:
    if not GOLDEN.exists():
        pytest.skip("golden_decisions.json is not here")
    scenarios = msgspec.json.decode(GOLDEN.read_bytes())["scenarios"]
    assert {scenario["name"] for scenario in scenarios} == set(SCENARIOS)
    scenario = next(scenario for scenario in scenarios if scenario["name"] == name)
    for decision in scenario["decisions"]:
        outcome = outcome_of(rule_for(scenario, decision), decision)
        fingerprint = classic.fingerprint(outcome)
        hits = classic.boundary(outcome)
        explained = classic.zero_yield(outcome, hits)
        assert (
            fingerprint and fingerprint.fingerprint,
            classic.error_text(outcome),
            bool(hits),
            explained and explained.reason,
        ) == (
            decision["fingerprint"],
            decision["error"],
            decision["boundary"],
            decision["zero_yield"],
        )


def failed(
    *,
    ended: Ended = "exited",
    exit_code: int | None = 1,
    signal: int | None = None,
    reason: str | None = None,
    stdout: str = "",
    stderr: str = "",
) -> Outcome:
    return Outcome(
        ended=ended,
        succeeded=False,
        final_state="FAILED",
        exit_code=exit_code,
        signal=signal,
        reason=reason,
        stdout=stdout,
        stderr=stderr,
        run_id="r-1",
        phase_id="p-1",
    )


@pytest.mark.parametrize(
    ("outcome", "fingerprint"),
    [
        (failed(reason="x"), "FAILED|rc1|x"),
        (failed(exit_code=143, reason="x"), "FAILED|timeout143|x"),
        (failed(exit_code=None, signal=15, reason="x"), "FAILED|rc-15|x"),
        (failed(exit_code=None, signal=1, reason="x"), "FAILED|timeout|x"),
        (failed(ended="broke", exit_code=None, reason="boom 7"), "ERROR|boom num"),
        (
            failed(ended="timed_out", exit_code=None, signal=9, reason="stale"),
            "TIMEOUT|timeout|phase drain timed out after num minutes (see logs)",
        ),
        (failed(exit_code=3), "FAILED|rc3|subprocess exit num (stderr: path)"),
        (failed(stderr="Boom 12"), "FAILED|rc1|subprocess exit num (stderr: path) | boom num"),
        (
            failed(exit_code=0, stderr="odd"),
            "FAILED|rc0|exit num but stderr present (see path): odd",
        ),
        (
            failed(exit_code=0, stdout="odd"),
            "FAILED|rc0|exit num but not complete (see path): odd",
        ),
        (
            failed(exit_code=0),
            "FAILED|rc0|exit num but not complete (empty output, see path, path)",
        ),
    ],
)
def test_a_failure_is_bucketed_as_the_original_did(outcome: Outcome, fingerprint: str) -> None:
    made = classic.fingerprint(outcome)
    assert made is not None
    assert made.fingerprint == fingerprint


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("On 2025-12-28 at 16:22:03", "on date at time"),
        (r"in C:\dev\app\x.py", "in path"),
        ("in /tmp/a-b/c.py:12", "in path:num"),
        ("at 0xDEADBEEF", "at addr"),
        ("Line 40 of 7", "line num of num"),
        ("session-20251228-162203", "session-id"),
        ("v24 and 24", "v24 and num"),
        ("  a \n b\t", "a b"),
    ],
)
def test_text_is_normalised_in_the_original_order(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_a_limit_named_in_a_line_of_configuration_counts_as_it_did() -> None:
    outcome = failed(stdout="\u0130: max tokens = 8192")
    (hit,) = classic.boundary(outcome)
    assert (hit.kind, hit.pattern) == ("unspecified", "max tokens")
    assert outcome.stdout[hit.start : hit.end] == "max tokens"


@pytest.mark.parametrize(
    ("ended", "reason"), [("abandoned", "abandoned"), ("lost", "orphaned"), ("broke", "unknown")]
)
def test_endings_that_the_original_never_saw_are_told_apart(ended: Ended, reason: str) -> None:
    explained = classic.zero_yield(failed(ended=ended, exit_code=None))
    assert explained is not None
    assert explained.reason == reason
