"""Ids that we make, and limits on the ones that come from outside."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from engine.errors import UsageProblem
from engine.ids import ID_BYTES_MAX, IdMaker, checked_id

NOW_US = 1_767_225_600_000_000
ENTROPY_MAX = 2**80 - 1
ALPHABET = set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")


def maker(times_us: list[int], entropy: int = ENTROPY_MAX) -> IdMaker:
    clock: Iterator[int] = iter(times_us)
    return IdMaker(lambda: next(clock), lambda: entropy)


@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=50),
    st.integers(0, ENTROPY_MAX),
)
def test_ids_sort_as_they_were_made_whatever_the_clock_does(
    milliseconds: list[int], entropy: int
) -> None:
    make = maker([NOW_US + 1000 * step for step in milliseconds], entropy)
    made = [make("att") for _ in milliseconds]
    assert all(earlier < later for earlier, later in pairwise(made))


def test_a_standing_clock_gives_no_id_twice() -> None:
    make = maker([NOW_US] * 5000)
    assert len({make("x") for _ in range(5000)}) == 5000


def test_a_clock_that_steps_back_a_day_gives_later_ids_still() -> None:
    make = maker([NOW_US, NOW_US - 86_400_000_000])
    assert make("x") < make("x")


def test_an_id_is_its_prefix_and_26_characters_that_hold_the_time() -> None:
    prefix, _, rest = maker([NOW_US], 5)("att").partition("_")
    assert prefix == "att"
    assert len(rest) == 26
    assert set(rest) <= ALPHABET
    # Crockford's base 32, worked out by hand: 10 characters of time, 16 of entropy.
    milliseconds = 0
    for character in rest[:10]:
        milliseconds = milliseconds * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    assert milliseconds == NOW_US // 1000
    assert rest[10:] == "0" * 15 + "5"


def test_the_same_clock_and_entropy_make_the_same_ids() -> None:
    assert maker([NOW_US], 7)("a") == maker([NOW_US], 7)("a")


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "telemetry-p1-string-util",
        "../../etc/passwd",
        "a/b\\c",
        "<script>alert(1)</script>",
        "'; DROP TABLE events; --",
        "ein Lauf mit Wörtern",
        "run-📦",
        "%s{0}",
        "-rf",
        "x" * ID_BYTES_MAX,
        "é" * (ID_BYTES_MAX // 2),
    ],
)
def test_an_odd_but_harmless_id_is_taken_as_it_is(text: str) -> None:
    assert checked_id(text, "the run id") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        " a",
        "a ",
        "\u00a0a",
        "a\nb",
        "a\tb",
        "a\0b",
        "\x1b[31mred",
        "a\x7f",
        "a\u0085b",
        "a\u2028b",
        "a\u202eb",
        "a\u200bb",
        "a\ud800b",
        "\ufeffa",
        "x" * (ID_BYTES_MAX + 1),
        "é" * (ID_BYTES_MAX // 2 + 1),
    ],
)
def test_a_hostile_id_is_refused_in_printable_words(text: str) -> None:
    with pytest.raises(UsageProblem, match="the run id") as refusal:
        checked_id(text, "the run id")
    assert refusal.value.problem.isprintable()
    assert len(refusal.value.problem) < 400
    assert refusal.value.remedy
