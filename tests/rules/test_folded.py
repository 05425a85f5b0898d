"""Folding: text made comparable, and the way back to where its characters stood."""

from __future__ import annotations

from hypothesis import given, strategies as st

from engine.detect.folded import Folded, fold


@given(text=st.text(max_size=200))
def test_folding_keeps_every_character_in_its_place(text: str) -> None:
    assert len(fold(text)) == len(text)


@given(parts=st.lists(st.text("ab\u0130", max_size=4), min_size=1, max_size=6))
def test_a_place_in_folded_text_leads_back_past_the_codes(parts: list[str]) -> None:
    original = "\x1b[1m".join(parts)
    folded = Folded(original)
    assert "".join(original[folded.origin(place)] for place in range(len(folded.raw))) == folded.raw


def test_a_stretch_of_folded_text_ends_before_the_codes_behind_it() -> None:
    folded = Folded("a\x1b[1mbc\x1b[0md", base=100)
    assert (folded.raw, folded.text) == ("abcd", "abcd")
    assert [folded.span(0, end) for end in (1, 2, 3, 4)] == [
        (100, end) for end in (101, 106, 107, 112)
    ]
    assert folded.span(1, 3) == (105, 107)


def test_every_quote_is_folded_into_a_plain_one_and_keeps_its_number() -> None:
    assert fold('‘A’ `B` “C” "D" \u0130') == "'a' 'b' \"c\" \"d\" i"
