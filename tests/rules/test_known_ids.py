"""Ids of the engine's own are cut out of a text as a pattern of whole words would cut them out."""

from __future__ import annotations

import re

from hypothesis import example, given, strategies as st

from engine.detect.known import without_known

IDS = ("p1", "a-1", "é²", "ab.c")
PIECES = (*IDS, "-", "_", " ", "/", "2", "p", "\u0301")
ids = st.sampled_from(IDS)
texts = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


@given(texts, ids)
@example("p1_ p1 p1-2 _p1 p1", "p1")
def test_an_id_goes_where_a_pattern_of_whole_words_finds_it(text: str, known: str) -> None:
    expected = re.sub(rf"(?<![\w-]){re.escape(known)}(?![\w-])", "000000", text)
    assert without_known(text, (known,), None) == expected


@given(texts, ids)
@example(" _ 2 - /x", "p1")
def test_a_directory_goes_where_a_pattern_of_its_end_finds_it(text: str, known: str) -> None:
    text = text.replace(" ", f"/{known}")
    expected = re.sub(rf"/{re.escape(known)}(?![\w-])", "/000000", text)
    assert without_known(text, (), f"/{known}/") == expected


def test_of_two_ids_that_begin_alike_the_longer_one_is_looked_for_first() -> None:
    for ids_of_ours in (("a1", "a1.b2"), ("a1.b2", "a1")):
        assert without_known("a1.b2 of a1", ids_of_ours, None) == "000000 of 000000"
