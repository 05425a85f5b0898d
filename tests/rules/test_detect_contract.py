"""Detectors as a service: what is asked reaches them, and the one limit that counts."""

from __future__ import annotations

from typing import Any

import pytest

from engine.detect import detectors
from engine.detect.contract import (
    BoundaryRequest,
    Context,
    FingerprintRequest,
    ZeroYieldRequest,
    answer,
)

plain = detectors("standard-1")
CUT = '{"stop_reason":"max_tokens","usage":{"a":1}}'
OUT_OF_TURNS = '{"subtype":"error_max_turns"}'


@pytest.mark.parametrize(
    ("stderr", "stdout", "kind", "disposition"),
    [
        ("", CUT, "max_output_tokens", "stopped_by"),
        ("", f"{CUT}\n\n", "max_output_tokens", "stopped_by"),
        ("", '{\n  "stop_reason": "max_tokens"\n}\n', "max_output_tokens", "stopped_by"),
        ("", "stop_reason=max_tokens", "max_output_tokens", "stopped_by"),
        ("", "stop_reason=max_tokens\n", "max_output_tokens", "stopped_by"),
        ("", f"{CUT}\nand so on", "none", "encountered"),
        ("", "Error: prompt is too long", "none", "encountered"),  # no record, whatever follows
        # Another one that is the last thing on its stream counts before one that is stronger.
        (f"{'x' * 50}\n{CUT}\nand so on", OUT_OF_TURNS, "max_turns", "stopped_by"),
    ],
)
def test_only_a_record_with_the_last_word_outvotes_a_good_exit_code(
    stderr: str, stdout: str, kind: str, disposition: str
) -> None:
    asked = BoundaryRequest(id=1, stdout=stdout, stderr=stderr, exit_code=0)
    told = answer(asked, plain, {})
    assert (told["kind"], told["disposition"]) == (kind, disposition)
    failed = answer(BoundaryRequest(id=1, stdout=stdout, stderr=stderr, exit_code=1), plain, {})
    assert failed["disposition"] == "stopped_by"


@pytest.mark.parametrize("exit_code", [None, 0, 1])
@pytest.mark.parametrize("text", ["", "all is well", "Error: no such file: a.py"])
def test_where_no_limit_is_named_none_was_met(text: str, exit_code: int | None) -> None:
    asked = BoundaryRequest(id=7, stdout=text, stderr=text, exit_code=exit_code)
    assert answer(asked, plain, {}) == {"id": 7, "kind": "none", "disposition": None}


def test_places_count_from_the_text_as_it_was_sent() -> None:
    asked = BoundaryRequest(id=1, stdout="Error: prompt is too long", exit_code=1)
    evidence = answer(asked, plain, {"stdout": 100, "stderr": 7})["evidence"]
    assert (evidence["start"], evidence["end"]) == (107, 125)
    assert evidence["text"] == "prompt is too long"


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("run_id", "run-alice", "run-bob"),
        ("phase_id", "of-alice", "of-bob"),
        ("attempt_id", "try-alice", "try-bob"),
        ("workspace", "/srv/jobs of alice/one", "/srv/jobs of bob/two"),
    ],
)
def test_what_the_engine_handed_out_is_no_part_of_a_failure(
    field: str, one: str, other: str
) -> None:
    told = [
        answer(
            FingerprintRequest(
                id=1,
                error_text=f"cannot write in {value}: full",
                exit_code=1,
                context=Context(**{field: value}),
            ),
            plain,
            {},
        )
        for value in (one, other)
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"timed_out": True, "exit_code": 1}, "timeout"),
        ({"timed_out": True, "success": True}, "timeout"),
        ({"success": True, "exit_code": 1}, "success_no_llm_calls"),
        ({"success": False, "exit_code": 1}, "execution_error"),
        ({"exit_code": 1}, "execution_error"),
        ({"exit_code": 0}, "unknown"),
        ({}, "unknown"),
        ({"exit_code": 1, "telemetry_events": 1}, None),
        ({"exit_code": 1, "telemetry_events": 0}, "execution_error"),
        ({"stdout": "Error: prompt is too long", "exit_code": 1}, "llm_boundary_hit"),
        ({"stderr": "schema error", "exit_code": 1}, "failed_before_llm"),
    ],
)
def test_an_attempt_without_usage_is_explained_by_all_that_was_sent(
    asked: dict[str, Any], why: str | None
) -> None:
    assert answer(ZeroYieldRequest(id="a", **asked), plain, {}) == {"id": "a", "reason": why}


def print_of(**asked: Any) -> tuple[Any, Any]:
    told = answer(FingerprintRequest(id=7, **asked), plain, {})
    assert told["id"] == 7
    return told["fingerprint"], told["family"]


def test_a_failure_that_timed_out_is_told_apart_by_its_run_and_by_nothing_else() -> None:
    run = Context(run_id="r1")
    late = print_of(error_text="x", final_state="TIMEOUT", context=run)
    assert late[1] == "timeout"
    assert print_of(error_text="y", exit_code=3, final_state="TIMEOUT", context=run) == late
    assert print_of(final_state="TIMEOUT", context=Context(run_id="r2"))[0] != late[0]
    assert print_of(error_text="x", final_state="FAILED", context=run)[1] == "unnamed/other"


def test_a_failure_is_told_apart_by_its_words_and_its_exit_code() -> None:
    assert print_of(error_text="KeyError: 'a'", exit_code=1)[1] == "KeyError/1"
    assert print_of(error_text="KeyError: 'a'", exit_code=2)[1] == "KeyError/2"
    assert print_of()[1] == "unnamed/other"
    assert print_of(error_text="a b") != print_of(error_text="a c")
    assert print_of(error_text="a b", final_state="GATE") == print_of(error_text="a b")


def test_the_original_tells_states_apart_and_failures_without_one_failed() -> None:
    for state, told in ((None, "FAILED"), ("GATE", "GATE"), ("TIMEOUT", "TIMEOUT")):
        asked = FingerprintRequest(id=1, error_text="x", exit_code=3, final_state=state)
        found = answer(asked, detectors("classic-1"), {})["family"]
        assert found == f"{told}|{'timeout' if told == 'TIMEOUT' else 'rc3'}"
