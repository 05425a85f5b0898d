"""standard-1, row by row: what is only suspected, and where words are no evidence."""

from __future__ import annotations

import pytest

from engine.detect import detectors
from engine.detect.folded import Folded
from engine.detect.guards import guarded, line_around
from tests.rules.outcomes import outcome

plain = detectors("standard-1")


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
        (f"- a::a\n- b\n- c\n{WORDS}\n- d", None),  # the name of a test makes no document
        (f"- a\n- b\n- c\n{WORDS}\n- d\n- e::e", "document"),
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
        (f'it said     "{WORDS}"', None),  # more blanks than four stand between columns
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
