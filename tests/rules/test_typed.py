"""Commands that sentences name can be typed as they stand."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, strategies as st

from engine.cli.look import phase as phase_group
from engine.triage.typed import quoted

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
