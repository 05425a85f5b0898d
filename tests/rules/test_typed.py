"""Commands that sentences name can be typed as they stand."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, strategies as st

from engine.cli.look import phase as phase_group
from engine.triage.typed import CUTS_MAX, cuts, quoted

ODD = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=9)


def test_options_stand_behind_ids_that_cannot_be_taken_for_some() -> None:
    assert quoted("run reinstate", "r", options="--why TEXT") == "runoff run reinstate r --why TEXT"
    assert quoted("why", "r", "it's") == "runoff why r 'it'\"'\"'s'"


@pytest.mark.parametrize("dashes", ["", "-", "--", "--why="])
@given(run=ODD, phase=ODD)
def test_whatever_the_ids_are_the_command_line_takes_them_as_ids(
    dashes: str, run: str, phase: str
) -> None:
    typed = quoted("phase requeue", dashes + run, dashes + phase, options="--why TEXT")
    _, _, _, *arguments = shlex.split(typed)
    found = phase_group.commands["requeue"].make_context("requeue", arguments).params
    assert (found["run_id"], found["phase_id"]) == (dashes + run, dashes + phase)
    assert found["why"] == "TEXT"


def test_a_name_is_read_every_way_with_the_last_slash_first() -> None:
    assert list(cuts("a/b/c")) == [("a/b", "c"), ("a", "b/c")]
    assert list(cuts("/")) == [("", "")]
    assert list(cuts("a")) == []


def test_of_a_name_that_is_all_slashes_only_some_ways_are_tried() -> None:
    ways = list(cuts("/" * 100_000))
    assert len(ways) == CUTS_MAX
    assert ways[0] == ("/" * 99_999, "")
