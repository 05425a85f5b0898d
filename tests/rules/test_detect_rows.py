"""standard-1, row by row: what is a hit, and why nothing was used."""

from __future__ import annotations

from typing import Any

import pytest

from engine.detect import Boundary, detectors
from engine.detect.candidates import CANDIDATE_CHARS_MAX, candidates
from engine.detect.examine import examine
from engine.detect.port import BOUNDARIES_MAX
from engine.detect.zero_yield import zero_yield
from tests.rules.outcomes import outcome

plain = detectors("standard-1")
LIMIT = "Error: prompt is too long"
QUOTA = "Error: rate limit exceeded"
SUSPECT = "fatal: the maximum of this context is behind us"
GOOD = "final_state=COMPLETE"


def hits(**fields: Any) -> list[tuple[str, str]]:
    return [(hit.kind, hit.disposition) for hit in plain.boundary(outcome(**fields))]


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"stderr": LIMIT, "stdout": GOOD}, [("context_window", "stopped_by")]),  # each by itself
        (
            {"stderr": f"{LIMIT}\n{QUOTA}\n"},
            [("rate_limit", "stopped_by"), ("context_window", "stopped_by")],
        ),
        ({"stderr": f"{LIMIT}\n{LIMIT}\n", "stdout": LIMIT}, [("context_window", "stopped_by")]),
        (
            {"stderr": f"{LIMIT}\n{GOOD}\n{LIMIT}\n"},
            [("context_window", "stopped_by")],
        ),
        ({"stderr": f"{GOOD}\n{LIMIT}\n{GOOD}\n"}, [("context_window", "encountered")]),
        (
            {"stderr": f"{LIMIT}\n{QUOTA}\n", "succeeded": True},
            [("rate_limit", "encountered"), ("context_window", "encountered")],
        ),
        # What a record says in its fields needs no guard: its line says more than that.
        (
            {"stderr": '{"error":{"type":"rate_limit_error","message":"ask docker"}}'},
            [("rate_limit", "stopped_by")],
        ),
        *(
            ({"stderr": f"{LIMIT}\n{good}\n"}, [("context_window", "encountered")])
            for good in ("the run succeeded", "the task was completed", "status: success")
        ),
        ({"stdout": f'{{"content":"{LIMIT}"}}'}, []),
        ({"stdout": f'{{"content":"x"}}\n{LIMIT}'}, [("context_window", "stopped_by")]),
        ({"stderr": SUSPECT}, [("context_window", "suspected")]),
        ({"stderr": SUSPECT, "succeeded": True}, []),
        ({"stderr": SUSPECT, "stdout": GOOD}, []),  # whatever it was, work went on
        ({"stderr": f"{SUSPECT}\n{LIMIT}"}, [("context_window", "stopped_by")]),
        ({"stderr": SUSPECT, "declared": "quota"}, [("quota", "stopped_by")]),
    ],
)
def test_what_is_said_of_limits(fields: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert hits(**fields) == found


def test_one_limit_in_two_wordings_is_two_hits_and_the_last_comes_first() -> None:
    found = plain.boundary(outcome(stderr=f"{LIMIT}\nstop_reason=model_context_window_exceeded\n"))
    assert [hit.kind for hit in found] == ["context_window"] * 2
    assert next(hit.pattern for hit in found) == "stop_reason=model_context_window_exceeded"


def test_eight_hits_are_the_strongest_ones() -> None:
    words = "\n".join(f"Error: {each}" for each in SAMPLED)
    found = plain.boundary(outcome(stderr=words, declared="quota"))
    assert len(found) == BOUNDARIES_MAX
    assert found[0].pattern == "declared"


SAMPLED = [
    "prompt is too long", "rate limit exceeded", "Credit balance is too low",
    "You exceeded your current quota", "stop_reason=max_tokens", "429 RESOURCE_EXHAUSTED",
    "finish_reason=length", "stop_reason=refusal", "type=rate_limit_error",
    "type=overloaded_error", "type=insufficient_quota", "reached the maximum number of turns",
]  # fmt: skip


def reason(boundaries: tuple[Boundary, ...] | None = None, **fields: Any) -> tuple[str, str | None]:
    found = zero_yield(outcome(**fields), boundaries)
    assert found is not None
    return found.reason, found.detail


def hit_of(kind: Any, disposition: Any = "stopped_by") -> Boundary:
    return Boundary(kind=kind, disposition=disposition, pattern="x")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        *(
            (kind, "llm_boundary_hit")
            for kind in (
                "context_window",
                "max_output_tokens",
                "max_turns",
                "message_limit",
                "unspecified",
            )
        ),
        *((kind, "provider_limit") for kind in ("rate_limit", "quota", "spend_limit", "auth")),
    ],
)
def test_a_limit_is_the_models_or_the_providers(kind: str, why: str) -> None:
    assert reason((hit_of(kind),)) == (why, kind)


def test_only_a_limit_that_stopped_it_explains_it() -> None:
    weak = (hit_of("quota", "encountered"), hit_of("quota", "suspected"))
    assert reason(weak) == ("execution_error", None)
    assert reason((*weak, hit_of("max_turns"))) == ("llm_boundary_hit", "max_turns")


def evidence(boundaries: tuple[Boundary, ...] | None = None, **fields: Any) -> str:
    found = zero_yield(outcome(**fields), boundaries)
    assert found is not None
    return found.evidence


def test_evidence_is_quoted_from_the_stream_it_stands_in_and_cut() -> None:
    assert evidence(stdout=f"x\n{LIMIT}") == "stdout says: prompt is too long"
    long = Boundary(
        kind="quota", disposition="stopped_by", pattern="x", stream="stdout", start=0, end=900
    )
    assert evidence((long,), stdout="word " * 200) == f"stdout says: {('word ' * 24)}"
    assert evidence((hit_of("quota"),)) == "the child declared it"
    early: dict[str, Any] = {
        "reason": "Schema Error",
        "stderr": "schema error",
        "stdout": "schema error",
    }
    for name in ("reason", "stderr", "stdout"):  # whoever says it first
        assert evidence(**early) == f"{name} says: schema error"
        del early[name]
    start = "cannot start it"
    assert evidence(exit_code=126, reason=start.ljust(121, "x")) == start.ljust(120, "x")
    wide = f"phase{' ' * 20}{'x' * 80}{' ' * 20}not found"
    assert evidence(stderr=wide) == f"stderr says: {wide[:120]}"
    for count, lines in ((1, "1 usage line"), (2, "2 usage lines")):
        unread = evidence(usage_lines_rejected=count)
        assert unread == f"exit code 1; {lines} could not be read"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"exit_code": 126, "reason": "cannot start x"}, "failed_before_llm"),
        ({"exit_code": 127, "reason": "cannot start x"}, "failed_before_llm"),
        ({"exit_code": 126}, "failed_before_llm"),
        ({"exit_code": 1, "reason": "cannot start x"}, "execution_error"),
        # Its own word after it had worked is no failed start, whatever it exits with.
        ({"exit_code": 127, "reason": "x", "stdout": "Builder succeeded"}, "execution_error"),
    ],
)
def test_what_could_not_be_executed_failed_before_a_model_was_called(
    fields: dict[str, Any], why: str
) -> None:
    assert reason(**fields)[0] == why


def test_what_was_printed_last_is_read_and_not_what_was_printed_first() -> None:
    noise = "x" * 70_000
    assert reason(stdout=f"{noise}\nschema error") == ("failed_before_llm", None)
    assert reason(stdout=f"schema error\n{noise}") == ("execution_error", None)
    edge = "schema error".ljust(64 * 1024)
    assert reason(stderr=edge) == ("failed_before_llm", None)
    assert reason(stderr=f"{edge} ") == ("execution_error", None)


@pytest.mark.parametrize("name", ["stdout", "stderr", "reason"])
def test_work_that_is_told_anywhere_was_no_failed_start(name: str) -> None:
    worked: dict[str, Any] = {name: "Builder succeeded\nschema error"}
    failed: dict[str, Any] = {name: "schema error"}
    assert reason(**worked)[0] == "execution_error"
    assert reason(**failed)[0] == "failed_before_llm"


def test_that_usage_was_not_collected_is_told_before_that_a_model_was_called() -> None:
    off, worked = "telemetry is disabled", "Builder succeeded"
    assert reason(stderr=worked, stdout=off) == ("execution_error", "telemetry_off")
    assert reason(stderr=off, stdout=worked) == ("execution_error", "telemetry_off")


def test_an_end_that_was_ours_is_given_no_hint() -> None:
    off = "telemetry is disabled"
    assert reason(stdout=off) == ("execution_error", "telemetry_off")
    assert reason(stdout=off, ended="timed_out") == ("timeout", None)
    assert reason(succeeded=True, ended="timed_out") == ("timeout", None)
    assert reason(stdout=off, ended="abandoned") == ("abandoned", None)


def test_a_candidate_reaches_two_lines_to_either_side() -> None:
    lines = ["one", "two", "limit exceeded", "four", "five", "six"]
    text = "\n".join(["zero", *lines])
    ((start, end),) = candidates(text)
    assert text[start:end].strip("\n").split("\n") == ["two", "limit exceeded", "four"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f"limit{'x' * 480}limit", [(0, 490)]),  # stretches that touch are one
        (f"limit{'x' * 481}limit", [(0, 245), (246, 491)]),
        (f"{'x' * 300}unreachable{'x' * 300}", [(60, 551)]),  # which holds another word, reach
        (f"limit{'x' * 600}limit limit", [(0, 245), (371, 616)]),
        (f"limit{'x' * 600}unreachable{'x' * 300}", [(0, 245), (365, 856)]),
        (f"{'x' * 300}\nlimit", [(61, 306)]),
        ("there are no\n    more of it", [(0, 27)]),  # a word may be wrapped
        ("there are no\r\n\tmore of it", [(0, 25)]),
        ("there are no\n\tmore of it", [(0, 24)]),
        ("there are no\r\nmore of it", [(0, 24)]),
        ("there are no  \nmore of it", [(0, 25)]),
        ("there are no\n\nmore of it", []),
        # A word that begins in what was looked at before reaches farther back.
        (f"{'x' * 300}limit{'x' * 238}limit", [(60, 548)]),
        (f"{'x' * 300}\n   limit{'x' * 300}", [(64, 549)]),
        (f"{'x' * 300} \r\n limit{'x' * 300}", [(64, 549)]),
        ("hit it", [(0, 6)]),  # the text begins like behind a blank
        ("white it", []),
    ],
)
def test_a_candidate_reaches_240_characters_at_most(
    text: str, found: list[tuple[int, int]]
) -> None:
    assert candidates(text) == found


def test_of_one_long_candidate_the_end_is_kept() -> None:
    text = "limit " * 20_000
    assert candidates(text) == [(len(text) - CANDIDATE_CHARS_MAX, len(text))]
    two_line_ends = 2
    whole = "limit" + "\n" * 9 + text[two_line_ends - CANDIDATE_CHARS_MAX :]
    assert candidates(whole) == [(len(whole) - CANDIDATE_CHARS_MAX, len(whole))]


@pytest.mark.parametrize("end", ["\n", "\n    ", "\r\n", "\r\n\t", "  \n", " \r\n "])
def test_a_limit_counts_wherever_and_however_its_line_is_wrapped(end: str) -> None:
    words = ["Codex", "ran", "out", "of", "room", "in", "the", "model's", "context", "window"]
    for place in range(1, len(words)):
        text = f"Error: {' '.join(words[:place])}{end}{' '.join(words[place:])}"
        assert hits(stderr=text) == [("context_window", "stopped_by")]


def test_the_last_twenty_places_of_a_phrase_are_looked_at() -> None:
    sightings = examine(outcome(stderr=f"{LIMIT}\n" * 25))
    places = [one.start for one in sightings if one.rule == sightings[0].rule]
    assert len(places) == 20
    assert places[0] == 5 * len(f"{LIMIT}\n") + LIMIT.index("prompt")


def test_evidence_ends_with_its_last_word() -> None:
    text = "Error: response hit output token cap (8192)  \n x"
    told = [text[hit.start : hit.end] for hit in plain.boundary(outcome(stderr=text))]
    assert told == ["hit output token cap", "response hit output"]
    (hit,) = plain.boundary(outcome(stderr=f"{'x' * 400_000}\n{LIMIT}"))
    assert hit.start == 400_001 + LIMIT.index("prompt")


def test_of_many_candidates_the_last_ones_are_kept() -> None:
    line = f"limit exceeded {'x' * 200}\n\n\n\n\n"
    text = line * 1000
    found = candidates(text)
    assert found == sorted(found)
    assert found[-1][1] >= len(text) - 10
    kept = sum(end - start for start, end in found)
    assert 0.9 * CANDIDATE_CHARS_MAX < kept <= CANDIDATE_CHARS_MAX
