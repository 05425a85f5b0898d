"""What every tier saw of an outcome: each match with its rule, its place and what held it back."""

from __future__ import annotations

import pytest

from engine.detect import Outcome
from engine.detect.examine import examine

ERRORS = (
    "# rate limit exceeded\n"
    "Error: prompt is too long\n"
    '{"stop_reason":"end_turn"}\n'
    "\x1b[1mfatal: the maximum of this context\x1b[0m is behind us\n"
)
OUTPUT = '{"stop_reason":"max_tokens"}\n{"content":"Error: prompt is too long"}\n- max_turns=40'

Row = tuple[str, str, str, str | None]


def seen(stderr: str = "", stdout: str = "") -> list[tuple[str, *Row]]:
    """Stream, words, tier, rule, and what held it back."""
    outcome = Outcome(
        ended="exited", succeeded=False, final_state="FAILED", stdout=stdout, stderr=stderr
    )
    texts = {"stdout": stdout, "stderr": stderr}
    return [
        (one.stream, texts[one.stream][one.start : one.end], one.tier, one.rule, one.held_back)
        for one in examine(outcome)
    ]


def test_every_tier_says_what_it_saw_in_the_order_of_the_text() -> None:
    assert seen(ERRORS, OUTPUT) == [
        ("stderr", "rate limit exceeded", "phrase", "rate limit", "line"),
        ("stderr", "rate limit exceeded", "phrase", "rate limit is gone", "line"),
        ("stderr", "prompt is too long", "phrase", "text too long", None),
        ("stderr", "end_turn", "record", "stop_reason=end_turn", None),
        ("stderr", "maximum of this context", "suspect", "suspected context_window", None),
        ("stdout", "max_tokens", "record", "stop_reason=max_tokens", None),
        ("stdout", "prompt is too long", "phrase", "text too long", "answer"),
    ]


def test_every_place_of_a_phrase_is_seen() -> None:
    twice = "Error: prompt is too long\nsome other line of words\nError: prompt is too long\n"
    assert [(words, tier) for _, words, tier, *_ in seen(twice) if tier == "phrase"] == [
        ("prompt is too long", "phrase")
    ] * 2


def test_of_two_that_overlap_the_one_that_begins_first_comes_first() -> None:
    text = "maximum turns rate limit reached of the context"
    assert [words for _, words, *_ in seen(text)] == [text, "rate limit reached"]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ('{"stop_reason":"end_turn"}', ["success"]),
        ('{"stop_reason":"max_tokens"}', ["max_output_tokens"]),
        ("Error: prompt is too long", ["context_window", "context_window"]),
        ("fatal: the maximum of this context is behind us", ["context_window"]),
        ("all is well", []),
    ],
)
def test_a_match_is_of_the_kind_of_its_rule(text: str, kinds: list[str]) -> None:
    outcome = Outcome(ended="exited", succeeded=True, final_state="COMPLETE", stdout=text)
    assert [one.kind for one in examine(outcome)] == kinds


def test_a_field_in_words_is_guarded_and_one_of_a_record_is_not() -> None:
    assert seen("- stop_reason=max_tokens") == [
        ("stderr", "stop_reason=max_tokens", "record", "stop_reason=max_tokens", "line")
    ]
    assert seen('{"note":"by docker","stop_reason":"max_tokens"}') == [
        ("stderr", "max_tokens", "record", "stop_reason=max_tokens", None)
    ]
