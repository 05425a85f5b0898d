"""The original's detectors, against every decision that was recorded of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from msgspec.structs import replace

from engine.detect import Boundary, Fingerprint, Outcome, detectors
from engine.detect.classic import normalise
from engine.detect.port import WINDOW_CHARS_MAX
from engine.events import Ended, PhaseState

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
        ("line 40x at a:8x", "line numx at a:numx"),
        ("baseline 7 at x:8", "baseline num at x:num"),
        ("run-20251228-162203 batch-20251228-162203", "run-id batch-id"),
        ("drain-20251228-162203 task-20251228-162203", "drain-id task-num-num"),
        ("  a \n b\t", "a b"),
    ],
)
def test_text_is_normalised_in_the_original_order(text: str, normal: str) -> None:
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        (failed(reason="x", stderr="y"), "x"),
        (replace(failed(stderr="y"), stored_reason="older"), "older"),
        (replace(failed(reason="x"), stored_reason="older"), "x"),
        (failed(ended="timed_out"), "Phase drain timed out after 30 minutes (see logs)"),
        (failed(exit_code=3), "subprocess exit 3 (stderr: /logs/r-1__p-1.stderr.txt)"),
        (failed(exit_code=None), "subprocess exit None (stderr: /logs/r-1__p-1.stderr.txt)"),
        (
            failed(stderr=f" {'e' * 301}\n"),
            f"subprocess exit 1 (stderr: /logs/r-1__p-1.stderr.txt) | {'e' * 300}",
        ),
        (
            replace(failed(stderr="e"), run_id="r" * 300),
            f"subprocess exit 1 (stderr: /logs/{'r' * 167} | e",
        ),
        (
            failed(exit_code=0, stderr=f" {'e' * 501}\n", stdout="o"),
            f"exit 0 but stderr present (see /logs/r-1__p-1.stderr.txt): {'e' * 500}",
        ),
        (
            failed(exit_code=0, stderr=" \n", stdout=f" {'o' * 501}\n"),
            f"exit 0 but not COMPLETE (see /logs/r-1__p-1.stdout.txt): {'o' * 500}",
        ),
        (
            failed(exit_code=0, stdout=" \n"),
            (
                "exit 0 but not COMPLETE (empty output, see /logs/r-1__p-1.stdout.txt,"
                " /logs/r-1__p-1.stderr.txt)"
            ),
        ),
    ],
)
def test_a_failure_is_told_in_the_words_of_the_original(outcome: Outcome, told: str) -> None:
    assert classic.error_text(outcome) == told
    assert classic.error_text(replace(outcome, succeeded=True)) is None
    assert classic.fingerprint(replace(outcome, succeeded=True)) is None


def test_two_hundred_characters_of_a_text_are_its_template_and_its_ends_are_its_family() -> None:
    made = classic.fingerprint(failed(exit_code=None, reason="ab" * 101))
    assert made == Fingerprint(
        fingerprint=f"FAILED|{'ab' * 100}", family="FAILED", template="ab" * 100, exit_class=""
    )
    for ended in ("lost", "abandoned", "exited"):
        made = classic.fingerprint(replace(failed(reason="x"), ended=ended))
        assert made == Fingerprint(
            fingerprint="FAILED|rc1|x", family="FAILED|rc1", template="x", exit_class="rc1"
        )


def test_a_text_is_cut_once_it_is_masked() -> None:
    made = classic.fingerprint(failed(exit_code=None, reason=f"/{'a' * 300} is gone"))
    assert made is not None
    assert made.template == "path is gone"


@pytest.mark.parametrize("state", get_args(PhaseState))
def test_a_family_begins_with_the_state_that_the_phase_was_left_in(state: PhaseState) -> None:
    for ended in ("lost", "abandoned", "exited"):
        made = classic.fingerprint(replace(failed(), ended=ended, final_state=state))
        assert made is not None
        assert made.family == f"{state}|rc1"


LIMITS = (
    "max_turns", "message limit", "context_length_exceeded", "maximum context",
    "token limit exceeded", "max tokens", "context window exceeded", "conversation too long",
    "exceeded maximum",
)  # fmt: skip
EARLY = (
    "validation error", "schema error", "missing required field", "invalid phase",
    "phase not found", "run not found", "database error", "connection error", "permission denied",
)  # fmt: skip


def explained(outcome: Outcome, found: tuple[Boundary, ...] | None = None) -> tuple[str, str]:
    told = classic.zero_yield(outcome, found)
    assert told is not None
    return told.reason, told.evidence


@pytest.mark.parametrize("limit", LIMITS)
def test_the_name_of_a_limit_in_either_stream_is_a_limit_and_explains_it(limit: str) -> None:
    for name, other in (("stdout", "stderr"), ("stderr", "stdout")):
        outcome = replace(failed(), **{name: f"a {limit.upper()} b"})
        (hit,) = classic.boundary(outcome)
        told = (hit.pattern, hit.stream, hit.start, hit.end, hit.disposition)
        assert told == (limit, name, 2, 2 + len(limit), "stopped_by")
        assert explained(outcome) == ("llm_boundary_hit", f"the output says: {limit}")
        (hit,) = classic.boundary(replace(outcome, succeeded=True))
        assert hit.disposition == "encountered"
        both = replace(outcome, **{other: "schema error"})
        assert explained(both)[0] == "llm_boundary_hit"
        assert explained(both, ())[0] == "failed_before_llm"


def test_the_first_limit_of_the_list_counts_and_standard_output_goes_first() -> None:
    for before, behind in pairwise(LIMITS):
        (hit,) = classic.boundary(failed(stdout=behind, stderr=before))
        assert (hit.pattern, hit.stream) == (before, "stderr")
        (hit,) = classic.boundary(failed(stdout=before, stderr=before))
        assert hit.stream == "stdout"


def test_a_limit_may_be_all_of_a_stream() -> None:
    (hit,) = classic.boundary(failed(stdout="max tokens"))
    assert (hit.start, hit.end) == (0, 10)


def test_a_limit_is_looked_for_in_the_beginning_of_a_stream() -> None:
    text = "max tokens".rjust(WINDOW_CHARS_MAX)
    (hit,) = classic.boundary(failed(stderr=text))
    assert hit.end == WINDOW_CHARS_MAX
    assert classic.boundary(failed(stderr=f" {text}")) == ()


@pytest.mark.parametrize("early", EARLY)
def test_words_of_an_early_failure_explain_it(early: str) -> None:
    for name in ("stdout", "stderr"):
        told = explained(replace(failed(), **{name: f"a {early.upper()} b"}))
        assert told == ("failed_before_llm", f"the output says: {early}")


def test_the_first_early_failure_of_the_list_counts() -> None:
    for before, behind in pairwise(EARLY):
        assert explained(failed(stdout=behind, stderr=before))[1].endswith(before)


@pytest.mark.parametrize(
    ("outcome", "reason", "evidence"),
    [
        (failed(exit_code=143, stdout="max tokens"), "timeout", "return code 143"),
        (failed(exit_code=None, signal=1), "timeout", "return code -1"),
        (failed(exit_code=0, ended="timed_out", signal=9), "timeout", "return code -1"),
        *(
            (failed(exit_code=code), "execution_error", f"return code {code}")
            for code in (-2, 1, 142, 144)
        ),
        (failed(exit_code=0, signal=15), "execution_error", "return code -15"),
        (failed(exit_code=0), "unknown", "nothing in code or output explains it"),
        (failed(exit_code=None), "unknown", "nothing in code or output explains it"),
        (
            replace(failed(exit_code=143, stdout="max tokens"), succeeded=True),
            "success_no_llm_calls",
            "the phase succeeded",
        ),
        (
            replace(failed(ended="abandoned", exit_code=143), succeeded=True),
            "abandoned",
            "the attempt was stopped by the engine",
        ),
        (failed(ended="lost", exit_code=143), "orphaned", "the attempt left no outcome"),
        (replace(failed(ended="lost"), succeeded=True), "orphaned", "the attempt left no outcome"),
    ],
)
def test_the_first_fact_of_the_original_explains_an_attempt_without_usage(
    outcome: Outcome, reason: str, evidence: str
) -> None:
    assert explained(outcome) == (reason, evidence)
    assert classic.zero_yield(replace(outcome, yield_events=1)) is None


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
