"""standard-1 boundaries: what counts as a limit, what does not, and where it stands."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from engine.detect import Boundary, Outcome, detectors
from engine.detect.catalogue import boundary_rules
from engine.detect.examine import examine

plain = detectors("standard-1")


def hits_in(stdout: str = "", stderr: str = "", *, succeeded: bool = False) -> tuple[Boundary, ...]:
    return plain.boundary(
        Outcome(
            ended="exited",
            succeeded=succeeded,
            final_state="COMPLETE" if succeeded else "FAILED",
            stdout=stdout,
            stderr=stderr,
        )
    )


WORDINGS = tomllib.loads(Path(__file__).with_name("limit_wordings.toml").read_text("utf-8"))
SAMPLES: dict[str, str] = WORDINGS["sample"]


def test_every_phrase_has_a_sample() -> None:
    assert set(SAMPLES) == {phrase.name for phrase in boundary_rules().phrase}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_phrase_finds_its_sample(name: str) -> None:
    kind = next(phrase.kind for phrase in boundary_rules().phrase if phrase.name == name)
    text = f"starting\nError: {SAMPLES[name]}\nbye\n"
    hit = next(hit for hit in hits_in(stderr=text) if hit.pattern == name)
    assert (hit.kind, hit.disposition, hit.stream) == (kind, "stopped_by", "stderr")


FIELDS = [
    (key, value, record.kind)
    for record in boundary_rules().record
    if record.kind != "success"
    for key in record.keys
    for value in record.values
]


@pytest.mark.parametrize(("key", "value", "kind"), FIELDS)
@pytest.mark.parametrize("write", [
    '{{"a":{{"{0}":"{1}"}}}}',
    "failed: {{'{0}': '{1}'}}",
    '"{{\\"{0}\\":\\"{1}\\"}}"',
    '  "{0}": "{1}",',
    "INFO: {0}={1} x=1",
])  # fmt: skip
def test_a_telling_field_counts_however_it_is_written(
    key: str, value: str, kind: str, write: str
) -> None:
    text = write.format(key, value)
    hit = hits_in(text)[0]
    assert (hit.kind, hit.pattern) == (kind, f"{key.lower()}={value}")
    assert value in text[hit.start : hit.end]


MET = [(kind, text) for kind, texts in WORDINGS["met"].items() for text in texts]


@pytest.mark.parametrize(("kind", "text"), MET)
def test_a_limit_is_met_however_it_is_worded(kind: str, text: str) -> None:
    hit = hits_in(stderr=f"Executing phase\n{text}\n")[0]
    assert (hit.kind, hit.disposition) == (kind, "stopped_by")


@pytest.mark.parametrize("text", WORDINGS["mentioned"])
def test_a_limit_that_is_mentioned_or_foreign_stops_nothing(text: str) -> None:
    dispositions = {hit.disposition for hit in hits_in(f"start\n{text}\nend", text)}
    assert dispositions <= {"suspected"}


NONE = [
    "max tokens: 8192",
    "config: max_tokens=8192 max_turns=10 message_limit=40",
    "OSError: [Errno 122] disk quota exceeded maximum",
    '{"max_turns": 10, "message_limit": 200, "on_limit": "raise"}',
    "  --max-turns N         stop after maximum turns reached",
    "tests/test_llm.py::test_max_turns_reached PASSED [ 12%]",
    "tests/test_llm.py::test rate limit exceeded FAILED",
    " ✓ maps rate limit exceeded to RateLimitError (2 ms)",
    "- Fixed a bug where the prompt is too long was not reported",
    "+    raise Problem('prompt is too long')",
    "src/app/errors.py:12: prompt is too long",
    "    raise ContextError('prompt is too long')",
    "# prompt is too long",
    "toomanyrequests: You have reached your pull rate limit. rate limit exceeded for docker",
    '{"message":"API rate limit exceeded for 192.0.2.1"}',
    "max_tokens: 128001 > 64000, which is the maximum allowed number of output tokens",
    'level=WARN msg="truncating input prompt" limit=2048',
    "Maximum call stack size exceeded",
    "Failed to connect, reached max retry count: 5",
    '{"type":"result","subtype":"success","result":"I fixed: prompt is too long"}',
    '{"choices":[{"finish_reason":"stop","message":{"content":"prompt is too long"}}]}',
    '{"status":"completed","incomplete_details":null,"max_output_tokens":4096}',
]


@pytest.mark.parametrize("text", NONE)
def test_a_limit_that_is_only_talked_about_is_none(text: str) -> None:
    hits = hits_in(f"start\n{text}\nend", text)
    assert {hit.disposition for hit in hits} <= {"suspected"}


SUSPECT = "fatal: the maximum of this context is behind us"
ANSWER = json.dumps({"type": "assistant", "content": SUSPECT})


@pytest.mark.parametrize("answers", [1, 30])
def test_a_suspect_in_an_answer_hides_no_real_one(answers: int) -> None:
    answered = f"{ANSWER}\n" * answers
    (hit,) = hits_in(f"start\n{SUSPECT}\n{answered}")
    assert (hit.kind, hit.disposition) == ("context_window", "suspected")
    assert f"start\n{SUSPECT}"[hit.start : hit.end] in SUSPECT
    assert hits_in(f"start\n{answered}") == ()
    outcome = Outcome(
        ended="exited", succeeded=False, final_state="", stdout=f"{SUSPECT}\n{answered}"
    )
    (seen,) = [one for one in examine(outcome) if one.tier == "suspect"]
    assert (seen.start, seen.held_back) == (SUSPECT.index("maximum"), None)


LIMIT = "Error: prompt is too long"
RECOVERIES = [
    '{"type":"result","subtype":"success","is_error":false}',
    '{"choices":[{"finish_reason":"stop"}]}',
    "INFO: Phase completed successfully",
    "final_state=COMPLETE",
]


@pytest.mark.parametrize("later", RECOVERIES)
def test_a_limit_with_a_good_end_after_it_was_only_met(later: str) -> None:
    assert [hit.disposition for hit in hits_in(f"{LIMIT}\nretry\n{later}\n")] == ["encountered"]
    assert [hit.disposition for hit in hits_in(f"{later}\n{LIMIT}\n")] == ["stopped_by"]


def test_a_success_was_never_stopped_by_a_limit() -> None:
    assert [hit.disposition for hit in hits_in(LIMIT, succeeded=True)] == ["encountered"]


def test_words_of_a_provider_inside_a_failed_result_count() -> None:
    text = '{"subtype":"success","is_error":true,"result":"Credit balance is too low"}'
    (hit,) = hits_in(text)
    assert (hit.kind, hit.disposition) == ("spend_limit", "stopped_by")
    assert text[hit.start : hit.end] == "Credit balance is too low"


@pytest.mark.parametrize("key", ["data", "text", "content", "output", "stderr"])
def test_words_of_a_record_that_failed_count_wherever_they_stand(key: str) -> None:
    failed = f'{{"event":"error","{key}":"the prompt is too long"}}'
    assert [hit.kind for hit in hits_in(failed)] == ["context_window"]
    assert hits_in(failed.replace("error", "answer")) == ()


def test_a_record_quoted_in_a_message_counts() -> None:
    text = json.dumps({"message": 'status 429: {"error": {"type": "rate_limit_error"}}'})
    (hit,) = hits_in(text)
    assert (hit.kind, hit.pattern) == ("rate_limit", "type=rate_limit_error")
    assert text[hit.start : hit.end] == "rate_limit_error"


def test_a_record_is_stronger_than_a_phrase_and_a_phrase_than_a_weak_one() -> None:
    text = "429 RESOURCE_EXHAUSTED\nYou exceeded your current quota\nstop_reason=max_tokens\n"
    assert [hit.kind for hit in hits_in(text)] == ["max_output_tokens", "quota", "rate_limit"]


def test_what_stopped_it_comes_before_what_it_survived() -> None:
    survived = "stop_reason=max_tokens\nfinal_state=COMPLETE\n"
    assert [hit.kind for hit in hits_in(survived, LIMIT)] == ["context_window", "max_output_tokens"]


def test_of_the_same_words_in_both_streams_those_of_standard_error_count() -> None:
    (hit,) = hits_in(LIMIT, LIMIT)
    assert hit.stream == "stderr"
    suspected = hits_in(SUSPECT, SUSPECT)
    assert [hit.disposition for hit in suspected] == ["suspected"] * 2
    assert [hit.stream for hit in suspected] == ["stderr", "stdout"]


def test_what_the_child_declares_comes_first() -> None:
    outcome = Outcome(
        ended="exited",
        succeeded=False,
        final_state="FAILED",
        declared="max_turns",
        stderr=LIMIT,
    )
    first, second = plain.boundary(outcome)
    assert (first.kind, first.pattern, first.stream) == ("max_turns", "declared", None)
    assert second.kind == "context_window"
    (survived, *_) = plain.boundary(msgspec.structs.replace(outcome, succeeded=True))
    assert survived.disposition == "encountered"


def test_there_are_never_more_than_eight() -> None:
    assert len(hits_in("\n".join(SAMPLES.values()))) == 8


def test_only_the_end_of_a_huge_stream_is_read_and_offsets_still_hold() -> None:
    text = "x" * 400_000 + f"\n{LIMIT}\n"
    (hit,) = hits_in(text)
    assert text[hit.start : hit.end] == "prompt is too long"
    assert hits_in(f"{LIMIT}\n" + "x" * 400_000) == ()


def test_json_too_deep_to_read_is_only_text() -> None:
    assert hits_in('{"a":' * 5000 + "\n" + LIMIT)[0].kind == "context_window"


noise = st.sampled_from(
    ["step 4 ok (12 ms)\n", "\n", "  context: 67% used, 31 turns left\n", "wrote a.py (+3 -1)\r\n"]
)
samples = st.sampled_from(sorted(SAMPLES.values()))


@given(sample=samples, before=st.lists(noise, max_size=6), after=st.lists(noise, max_size=6))
def test_lines_of_noise_around_it_change_no_verdict(
    sample: str, before: list[str], after: list[str]
) -> None:
    text = "".join(before) + f"Error: {sample}\n" + "".join(after)
    quiet, loud = hits_in(f"Error: {sample}\n")[0], hits_in(text)[0]
    # The verdict is the strongest hit: lines may be wrapped, so a weaker one can reach over an end.
    assert (quiet.kind, quiet.pattern) == (loud.kind, loud.pattern)


@given(sample=samples, cut=st.integers(0, 200), crlf=st.booleans())
def test_colours_and_line_ends_change_no_verdict(sample: str, cut: int, *, crlf: bool) -> None:
    cut = cut % len(sample)
    text = f"a\nError: {sample[:cut]}\x1b[1;31m{sample[cut:]}\x1b[0m\nb\n"
    text = text.replace("\n", "\r\n") if crlf else text
    quiet, loud = hits_in(f"a\nError: {sample}\nb\n"), hits_in(text)
    assert [hit.kind for hit in quiet] == [hit.kind for hit in loud]


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_a_line_wrapped_by_a_terminal_still_counts(sample: str) -> None:
    kind = hits_in(f"Error: {sample}")[0].kind
    for place, letter in enumerate(sample):
        if letter == " ":
            wrapped = f"Error: {sample[:place]}\n    {sample[place + 1 :]}"
            assert hits_in(wrapped)[0].kind == kind


fragments = st.lists(
    st.sampled_from(["\x1b[31m", "\u0130", "prompt is", " too long", "\r\n", '{"code":"', '"}'])
    | st.text(max_size=12),
    max_size=12,
).map("".join)


@given(text=fragments)
def test_evidence_always_stands_in_the_text_it_points_into(text: str) -> None:
    hits = hits_in(text, text)
    assert hits == hits_in(text, text)
    for hit in hits:
        assert 0 <= hit.start < hit.end <= len(text)


@pytest.mark.parametrize("told", ["PASSED", "FAILED", "skipped"])
def test_the_name_of_a_test_is_no_limit(told: str) -> None:
    assert hits_in(f"test_context_length_exceeded {told}\n") == ()
