"""standard-1, row by row: what stays of a text, and how an attempt ended."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from engine.detect.basis import TEXT_CHARS_MAX, of_reason
from engine.detect.fingerprint import error_text, exit_class, fingerprint
from engine.detect.masks import masked
from engine.detect.port import ERROR_CHARS_MAX
from engine.detect.traces import record
from tests.rules.outcomes import outcome

TEXTS = tomllib.loads(Path(__file__).with_name("texts_of_failures.toml").read_text("utf-8"))


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


def test_what_was_handed_out_is_looked_for_in_what_is_read_of_a_text_and_not_before() -> None:
    cut_by_one = "alpha-run has no luck".ljust(TEXT_CHARS_MAX + 1)
    assert template(stderr=cut_by_one, run_id="alpha-run") == "lpha-run has no luck"
    whole = cut_by_one[:TEXT_CHARS_MAX]
    assert template(stderr=whole, run_id="alpha-run") == "<*> has no luck"


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
        ("got (https://a.b/c), then url=https://x.y/z?q=1", "got (<url>), then url=<url>"),
        ("got </item7> of </item>", "got </<*>> of </item>"),
        ("read C:/Users/a/b.py and file:/etc/x.conf", "read <path> and file:<path>"),
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


@pytest.mark.parametrize(
    ("end", "goes_on"),
    [
        *((":", True), (",", True), ("(", True), ("\\", True)),
        *((".", False), ("", False), (";", False), (")", False)),
    ],
)
def test_a_line_that_names_what_failed_is_all_of_it_unless_it_goes_on(
    end: str, *, goes_on: bool
) -> None:
    said = of_reason(f'error: module "left-pad" was not found{end}\nNumbers differ\nMore of it\n')
    assert said.splitlines()[1:] == ["Numbers differ"] * goes_on


def test_of_a_long_path_that_is_missing_the_name_is_told() -> None:
    for folders in ("/a" * 100, "/" + "a" * 130):
        assert masked(f"not found: {folders}/bcd.py") == "not found: <path>/bcd.py"


def test_of_a_long_record_two_thousand_characters_are_read() -> None:
    words = ("word " * 400)[:1999]
    told = [template(reason=f'{{"message":"{words}{end}"}}') for end in ("ax", "ay", "bx")]
    assert told[0] == told[1] != told[2]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"message": "boom"}', "boom"),
        ('level=error msg="boom" extra={a}', "boom"),
        ('{unclosed level=error msg="boom"', "boom"),
        ('{level=error msg="boom"}', None),  # looks like JSON and is none
        ("level=error boom}", None),
    ],
)
def test_a_record_is_json_only_between_braces(line: str, told: str | None) -> None:
    assert record([line]) == record(["", line, " "]) == told
    assert record([line, line]) is None


def test_of_a_long_word_its_beginning_is_told() -> None:
    word = "a1," * 100
    assert masked(word) == masked(word[:256]) != masked(word[:255])
