"""standard-1, row by row: what is a hit, what is the last word, and what stays of a text."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine.detect import Boundary, Outcome, detectors
from engine.detect.candidates import CANDIDATE_CHARS_MAX, candidates
from engine.detect.examine import examine
from engine.detect.fingerprint import error_text, exit_class, fingerprint
from engine.detect.folded import Folded
from engine.detect.guards import guarded, line_around
from engine.detect.masks import masked
from engine.detect.port import BOUNDARIES_MAX, ERROR_CHARS_MAX
from engine.detect.zero_yield import zero_yield

plain = detectors("standard-1")
LIMIT = "Error: prompt is too long"
QUOTA = "Error: rate limit exceeded"
SUSPECT = "fatal: the maximum of this context is behind us"
GOOD = "final_state=COMPLETE"
TEXTS = tomllib.loads(Path(__file__).with_name("texts_of_failures.toml").read_text("utf-8"))


def outcome(**fields: Any) -> Outcome:
    known: dict[str, Any] = {
        "ended": "exited",
        "succeeded": False,
        "final_state": "FAILED",
        "exit_code": 1,
    }
    return Outcome(**{**known, **fields})


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


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"exit_code": 128}, "other"),
        ({"exit_code": 129}, "signal 1"),
        ({"exit_code": 192}, "signal 64"),
        ({"exit_code": 193}, "other"),
        ({"exit_code": None, "signal": 64}, "signal 64"),
        ({"exit_code": 1, "signal": 9}, "signal 9"),
        ({"exit_code": -65}, "other"),
        ({"exit_code": 124}, "other"),  # never our timeout
        ({"exit_code": 1, "ended": "timed_out"}, "timeout"),
    ],
)
def test_how_it_ended_has_a_class(fields: dict[str, Any], named: str) -> None:
    assert exit_class(outcome(**fields)) == named


def template(**fields: Any) -> str:
    made = fingerprint(outcome(**fields))
    assert made is not None
    return made.template


def test_what_the_engine_handed_out_is_no_part_of_a_failure() -> None:
    ids = {"run_id": "alpha-run", "phase_id": "beta-phase", "attempt_id": "att-gamma"}
    told = {template(stderr=f"no luck with {each}", **ids) for each in ids.values()}
    assert len(told) == 1


def test_an_error_in_its_own_words_is_stripped_and_cut() -> None:
    assert error_text(outcome(reason=" \n", exit_code=3)) == "exit code 3 without a word"
    assert error_text(outcome(reason=" a \n")) == "a"
    assert error_text(outcome(stderr="KeyError: 'a'", stdout="ValueError: b")) == "KeyError: 'a'"
    assert error_text(outcome(reason="  a 12:34:56 \n b")) == "a 12:34:56 \n b"
    assert len(error_text(outcome(reason="x" * 9000)) or "") == ERROR_CHARS_MAX
    long = f"TypeError: begin\n{'x ' * 40_000}\nKeyError: 'end'"
    assert error_text(outcome(stderr=long)) == "KeyError: 'end'"


def test_a_reason_that_says_nothing_leaves_the_word_to_the_output() -> None:
    assert template(reason="\n", stderr="KeyError: 'tier'") == "KeyError: 'tier'"


@pytest.mark.parametrize(("length", "is_cut"), [(500, False), (501, True)])
def test_a_template_is_cut_beyond_five_hundred_characters(length: int, *, is_cut: bool) -> None:
    words = " ".join(["abcdefgh"] * 60)[: length - 1].replace(" ", "z") + "e"
    made = " ".join(words[at : at + 100] for at in range(0, len(words), 100))[:length]
    shown = template(reason=made)
    assert (shown == made, "~" in shown) == (not is_cut, is_cut)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("boom in worker 4x7", "boom in worker <*>"),
        ("boom in request tool-1", "boom in request <*>"),
        ("boom in worker w-4, then", "boom in worker <*>, then"),
        ("Invalid user bob, again", "Invalid user <*>, again"),
        ("boom in worker (47)", "boom in worker (<*>)"),
        ("the run failed in phase two", "the run failed in phase two"),
        ("boom in request id=a1", "boom in request id=<*>"),
        ("Failed password for root from it", "Failed password for <*> from it"),
        ("Failed password for invalid user bob from it",
         "Failed password for invalid user <*> from it"),
        ("Invalid user bob from it", "Invalid user <*> from it"),
        ("invalid user is unknown", "invalid user is unknown"),
        ("no answer of localhost", "no answer of <*>"),
        ("it broke。", "it broke"),
        ("it broke ..:;", "it broke"),
        ("copy /a/b/c.py /d/e/f.py", "copy <path>"),
        ("diff @@ -1,2 +3,4 @@ broke", "diff <hunk>"),
        ("it said 503 Service Unavailable", "it said 503 Service Unavailable"),
        ("it counted 503 wheels", "it counted <*> wheels"),
        ("it was (404 or so", "it was (404 or so"),
        ("FooError: 404 it was", "FooError: 404 it was"),
        ("code 12 Error: 13 err: 14", "code 12 Error: <*> err: <*>"),
        ("error 15 errno: 16", "error 15 errno: 16"),
    ],
)  # fmt: skip
def test_what_is_incidental_in_a_text_is_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(("text", "shown"), TEXTS["masked"])
def test_a_text_is_masked_as_it_always_was(text: str, shown: str) -> None:
    assert masked(text) == shown


@pytest.mark.parametrize(("reason", "told"), TEXTS["told"])
def test_a_stated_reason_says_what_it_always_said(reason: str, told: str) -> None:
    assert template(reason=reason) == told


@pytest.mark.parametrize(("stderr", "stdout", "told"), TEXTS["printed"])
def test_an_output_says_what_it_always_said(stderr: str, stdout: str, told: str) -> None:
    assert template(stderr=stderr, stdout=stdout) == told


def test_of_a_long_path_that_is_missing_the_name_is_told() -> None:
    for folders in ("/a" * 100, "/" + "a" * 130):
        assert masked(f"not found: {folders}/bcd.py") == "not found: <path>/bcd.py"


def test_of_a_long_record_two_thousand_characters_are_read() -> None:
    words = ("word " * 400)[:1999]
    told = [template(reason=f'{{"message":"{words}{end}"}}') for end in ("ax", "ay", "bx")]
    assert told[0] == told[1] != told[2]


def test_of_a_long_word_its_beginning_is_told() -> None:
    word = "a1," * 100
    assert masked(word) == masked(word[:256]) != masked(word[:255])


MAYBE = "the maximum of this context is behind us"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (f"fatal: {MAYBE}\nbye", 7),
        (f"note {MAYBE}\nbye", None),  # neither an error nor the last word
        (f"hello\nnote {MAYBE}", 11),
        (f"hello\nnote {MAYBE}\n\n \n", 11),
        (f"hello\n# {MAYBE}", None),
        (f"fatal: {MAYBE}\nfatal: {MAYBE}\nbye", 7 + len(MAYBE) + 8),
        (f"fatal: {MAYBE}\nnote {MAYBE}\nbye", 7),
    ],
)
def test_a_suspect_is_the_last_one_that_looks_like_an_error(text: str, place: int | None) -> None:
    found = plain.boundary(outcome(stdout=text))
    shift = MAYBE.index("maximum")
    assert [hit.start for hit in found] == ([] if place is None else [place + shift])
    assert all(hit.disposition == "suspected" for hit in found)


REAL = f"fatal: {MAYBE}\n\n\n\n\n\n"
TOLD = f"note {MAYBE}\n"
SPAN = "the limit\n\n\n\n\n\n"
"""A stretch of its own with a word of an event in it."""


@pytest.mark.parametrize(
    ("text", "is_found"),
    [
        (f"{REAL}{TOLD * 9}bye", True),  # the last ten are looked at
        (f"{REAL}{TOLD * 10}bye", False),
        (f"{REAL}{'x' * 9000}\n{TOLD * 9}bye", True),  # and each of them once
        (f"{REAL}{SPAN * 39}{'x y ' * 2500}", True),  # in the last forty stretches
        (f"{REAL}{SPAN * 40}{'x y ' * 2500}", False),
        (f"{REAL}{SPAN * 45}".ljust(11 + 8 * 1024, "x"), True),  # and in the last 8 Ki characters
        (f"{REAL}{SPAN * 45}".ljust(12 + 8 * 1024, "x"), False),
        (f"hello\n{MAYBE.removeprefix('the ')}", True),
        (MAYBE.removeprefix("the "), True),
    ],
)
def test_a_suspect_is_looked_for_near_the_end(text: str, *, is_found: bool) -> None:
    assert [hit.kind for hit in plain.boundary(outcome(stdout=text))] == (
        ["context_window"] if is_found else []
    )


WORDS = "prompt is too long"


def guard_of(
    text: str, *, quoted: bool = False, words: str = WORDS, needs: str | None = None
) -> str | None:
    start = text.index(words)
    return guarded(Folded(text), start, start + len(words), needs, quoted=quoted)


@pytest.mark.parametrize(
    ("text", "guard"),
    [
        (WORDS, None),
        (f"- {WORDS}", "line"),
        (f"- a\n- b\n- c\n{WORDS}\n- d", "document"),
        (f"- a\n{WORDS}\n- b\n- c\n- d", "document"),
        (f"- a\n- b\n{WORDS}\n- c", None),
        (f"- a\n- b\n- c\nerror: {WORDS}\n- d", None),
        (f"- a\nx::b\n- b\n{WORDS}\n- c", None),
        (f"- a\n\n\n\n{WORDS}\n- b\n- c\n- d", None),  # three lines to either side
        (f"- a{'x' * 300}\n- b\n- c\n{WORDS}\n- d", None),  # within three hundred characters
        (f"- a\n{WORDS}\n- b\n- c{'x' * 300}\n- d", None),
        *(
            (f"see x::b {WORDS} {told}", "test")
            for told in ("passed", "failed", "skipped", "xfail")
        ),
        (f"see x::b {WORDS}", None),
        (f"`{WORDS}` it said", "quoted"),
        (f"`{WORDS}{'x' * 59}`", "quoted"),
        (f"`{WORDS}{'x' * 60}`", None),
        (f"it said tokens|{WORDS}", "quoted"),
        (f"{WORDS}|tokens", "quoted"),
        (f"{WORDS}|4096", None),
        (f'it said "{WORDS}"', "quoted"),
        (f'"{WORDS}"', "quoted"),
        (f"it said \"{WORDS}'", None),
        (f"it said '{WORDS}'", "quoted"),
        *((f'it said{key}"{WORDS}"', None) for key in (":", "=", "{", "(")),
        (f'it said    "{WORDS}"', "quoted"),
        (f'error: "{WORDS}"', None),
    ],
)
def test_words_are_no_evidence_where_they_are_only_talked_about(
    text: str, guard: str | None
) -> None:
    assert guard_of(text) == guard


def test_words_may_be_all_of_a_string_where_that_is_asked_for() -> None:
    assert guard_of(f'it said "{WORDS}"', quoted=True) is None
    assert guard_of("it said `prompt `is` too long", quoted=True, words="prompt `is") is None


@pytest.mark.parametrize(
    ("guard", "said"), [("host", "circuit breaker"), ("foreign", "docker"), ("code", "=>")]
)
def test_a_guard_looks_at_the_line_of_a_match_and_at_no_other(guard: str, said: str) -> None:
    assert guard_of(f"a {said} {WORDS}") == guard_of(f"{WORDS} {said} b") == guard
    assert guard_of(f"a {said} b\n{WORDS}\na {said} b") is None


@pytest.mark.parametrize("end", ".:;!?|•·")
def test_words_before_a_match_count_in_its_sentence(end: str) -> None:
    assert guard_of(f"this is what happens{end} {WORDS}") is None
    assert guard_of(f"well, so{end} this is what happens{end} {WORDS}") is None
    assert guard_of(f"well, so{end} this is what happens when {WORDS}") == "before"
    assert guard_of(f"this is what happens{end}\t{WORDS}") is None
    assert guard_of(f"this is what happens{end}but {WORDS}") == "before"


def test_words_behind_a_match_count_in_its_line() -> None:
    assert guard_of(f"a {WORDS} are handled") == "after"
    assert guard_of(f"a {WORDS}\nare handled") is None
    assert guard_of(f"a {WORDS}: 40,\nb") == "after"
    assert guard_of(f"are handled {WORDS}") == "before"


@pytest.mark.parametrize(
    ("before", "after", "guard"),
    [
        ("", "", "scope"),
        ("openai\n", "", None),
        ("", "\nopenai", None),
        ("openai" + "\n" * 294, "", None),
        ("openai" + "\n" * 295, "", "scope"),
        ("", "\n" * 294 + "openai", None),
        ("", "\n" * 295 + "openai", "scope"),
    ],
)
def test_a_provider_is_named_within_three_hundred_characters_of_a_match_that_needs_one(
    before: str, after: str, guard: str | None
) -> None:
    words = "rate limit exceeded"
    assert guard_of(f"{before}{words}{after}", words=words, needs="provider") == guard
    assert guard_of(f"{before}{words}{after}", words=words) is None


@pytest.mark.parametrize(("told", "guard"), [("passed", "test"), ("", None)])
def test_the_name_of_a_test_with_its_result_is_no_evidence(told: str, guard: str | None) -> None:
    name = "test_prompt_too_long"
    assert guard_of(f"{name} {told}", words=name) == guard


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("a\nb ", " c\nd", (2, 7)),
        ("x" * 400, "y" * 400, (100, 701)),
        ("x" * 299 + "\n", "y" * 299 + "\n", (300, 600)),
    ],
)
def test_a_line_reaches_three_hundred_characters_to_either_side(
    before: str, after: str, found: tuple[int, int]
) -> None:
    text = f"{before}m{after}"
    assert line_around(text, len(before), len(before) + 1) == found
