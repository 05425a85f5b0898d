"""standard-1 zero-yield reasons: the ladder, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from engine.detect import Outcome, detectors
from engine.events import Ended
from engine.events.diagnosis import BoundaryKind

plain = detectors("standard-1")


def outcome(
    *,
    ended: Ended = "exited",
    succeeded: bool = False,
    exit_code: int | None = 1,
    signal: int | None = None,
    reason: str | None = None,
    stdout: str = "",
    stderr: str = "",
    yield_events: int = 0,
    declared: BoundaryKind | None = None,
    rejected: int = 0,
) -> Outcome:
    return Outcome(
        ended=ended,
        succeeded=succeeded,
        final_state="COMPLETE" if succeeded else "FAILED",
        exit_code=exit_code,
        signal=signal,
        reason=reason,
        stdout=stdout,
        stderr=stderr,
        yield_events=yield_events,
        declared=declared,
        usage_lines_rejected=rejected,
    )


LIMIT = "Error: prompt is too long: 9 tokens > 8 maximum"

LADDER = [
    (outcome(ended="abandoned", stderr=LIMIT), "abandoned", None),
    (outcome(ended="lost", stderr=LIMIT), "orphaned", None),
    (outcome(ended="timed_out", stderr=LIMIT), "timeout", None),
    (outcome(succeeded=True, exit_code=0, stderr=LIMIT), "success_no_llm_calls", None),
    (outcome(declared="max_turns"), "llm_boundary_hit", "max_turns"),
    (outcome(declared="unspecified"), "llm_boundary_hit", "unspecified"),
    (outcome(declared="quota"), "provider_limit", "quota"),
    (outcome(stderr=LIMIT), "llm_boundary_hit", "context_window"),
    (outcome(stdout="Rate limit exceeded"), "provider_limit", "rate_limit"),
    (outcome(exit_code=127, reason="cannot start x: not there"), "failed_before_llm", None),
    (outcome(stderr="Phase not found in database"), "failed_before_llm", None),
    (outcome(reason="schema error in plan"), "failed_before_llm", None),
    (outcome(stdout="Builder succeeded\nschema error"), "execution_error", "llm_reached"),
    (outcome(exit_code=127, stderr="sh: agent: not found"), "failed_before_llm", None),
    (outcome(exit_code=127, stdout="Builder succeeded"), "execution_error", "llm_reached"),
    (outcome(stderr="error: the following arguments are required"), "failed_before_llm", None),
    (outcome(stderr="failed to load plan file x.toml"), "failed_before_llm", None),
    (outcome(stderr="psycopg.ProgrammingError: relation"), "failed_before_llm", None),
    (outcome(stdout="telemetry is disabled\nboom"), "execution_error", "telemetry_off"),
    (
        outcome(succeeded=True, exit_code=0, stdout="TELEMETRY_DB_ENABLED=0"),
        "success_no_llm_calls",
        "telemetry_off",
    ),
    (outcome(stderr="boom"), "execution_error", None),
    (outcome(exit_code=143, stderr="boom"), "execution_error", None),
    (outcome(exit_code=None, signal=9), "execution_error", None),
    (outcome(ended="broke", exit_code=None), "execution_error", None),
    (outcome(exit_code=0), "unknown", None),
    (outcome(exit_code=None), "unknown", None),
    (outcome(rejected=3, stderr="schema error"), "execution_error", "usage_not_parseable"),
    (
        outcome(succeeded=True, exit_code=0, rejected=1),
        "success_no_llm_calls",
        "usage_not_parseable",
    ),
]


@pytest.mark.parametrize(("given_outcome", "reason", "detail"), LADDER)
def test_the_first_fact_that_explains_it_is_the_reason(
    given_outcome: Outcome, reason: str, detail: str | None
) -> None:
    explained = plain.zero_yield(given_outcome)
    assert explained is not None
    assert (explained.reason, explained.detail) == (reason, detail)
    assert explained.evidence


def test_boundaries_found_before_are_taken_as_given() -> None:
    failed = outcome(stderr=LIMIT)
    assert plain.zero_yield(failed) == plain.zero_yield(failed, plain.boundary(failed))
    without = plain.zero_yield(failed, ())
    assert without is not None
    assert without.reason == "execution_error"


def test_the_evidence_quotes_the_text_that_led_to_it() -> None:
    explained = plain.zero_yield(outcome(stderr=LIMIT))
    assert explained is not None
    assert explained.evidence == "stderr says: prompt is too long"


@given(
    ended=st.sampled_from(["exited", "timed_out", "abandoned", "lost", "broke"]),
    succeeded=st.booleans(),
    text=st.text(max_size=80) | st.just(LIMIT),
    events=st.integers(0, 2),
)
def test_there_is_a_reason_exactly_when_there_was_no_usage(
    ended: Ended, *, succeeded: bool, text: str, events: int
) -> None:
    made = outcome(ended=ended, succeeded=succeeded, stderr=text, yield_events=events)
    for name in ("classic-1", "standard-1"):
        explained = detectors(name).zero_yield(made)
        assert (explained is None) == (events > 0)
