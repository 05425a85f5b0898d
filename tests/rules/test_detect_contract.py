"""Detectors as a service: what is asked reaches them, and the one limit that counts."""

from __future__ import annotations

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


def test_our_deadline_explains_an_attempt_without_usage() -> None:
    asked = ZeroYieldRequest(id=1, timed_out=True, exit_code=1)
    assert answer(asked, plain, {}) == {"id": 1, "reason": "timeout"}
