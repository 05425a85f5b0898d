"""Decisions of one end that have changed places are differences at those places, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from engine.audit.lines import Line
from engine.events import AttemptFinished, event_type
from tests.audit.test_redecide_forged import SEEDS, Group, Place, drained


def ends(groups: list[Group]) -> Iterator[tuple[Place, int, int]]:
    """Where attempts end, with the places of two neighbours of what was found or decided then."""
    for number, group in enumerate(groups):
        kinds = [type(line.event) for line in group]
        if AttemptFinished in kinds:
            behind = range(kinds.index(AttemptFinished) + 1, len(group))
            for one, other in pairwise(behind):
                yield Place(groups[: number + 1], one), one, other


def exchanged(group: Group, one: int, other: int) -> Group:
    lines = list(group)
    first, second = lines[one], lines[other]
    lines[one] = second._replace(pos=first.pos)
    lines[other] = first._replace(pos=second.pos)
    return tuple(lines)


def kinds_of(*lines: Line) -> tuple[str, ...]:
    return tuple(event_type(type(line.event)).partition(".")[0] for line in lines)


async def test_neighbours_that_have_changed_places_are_both_told() -> None:
    """Also a verdict in front of the diagnosis that it rests on."""
    met: set[tuple[str, ...]] = set()
    for seed in SEEDS:
        for place, one, other in ends(await drained(seed)):
            group = exchanged(place.groups[-1], one, other)
            assert place.instead(*group) == [
                (line.pos, "differs", event_type(type(line.event)), ("bytes",))
                for line in (group[one], group[other])
            ]
            met.add(kinds_of(group[other], group[one]))
    assert met >= {("diagnosis",) * 2, ("diagnosis", "triage"), ("triage",) * 2}


async def test_only_what_stands_elsewhere_is_told() -> None:
    """The first of three that hold together is where it should be."""
    for place, one, other in ends(await drained(SEEDS[0])):
        before = place.groups[-1][one - 1]
        if not isinstance(before.event, AttemptFinished):
            told = place.instead(*exchanged(place.groups[-1], one, other))
            assert before.pos not in {pos for pos, *_ in told}
            return
    pytest.fail("no end has three decisions")
