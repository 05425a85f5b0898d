"""Dependencies: which phases of one run wait for which, and that they can all run in the end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

from engine.events import Order

AFTER_MAX = 256
"""How many phases one phase may wait for by name; order within a strict tier comes on top."""


class Work(NamedTuple):
    """What decides the order of a phase.  ``after`` holds what was stated."""

    phase_id: str
    order: Order
    after: tuple[str, ...]
    delivers: tuple[str, ...]
    reads: tuple[str, ...]


class Tangle(NamedTuple):
    """Phases that wait for each other, first and last the same.

    ``by_order`` is true when a strict tier has a part in it.
    """

    phase_ids: tuple[str, ...]
    by_order: bool


def waits(phases: Sequence[Work]) -> dict[str, tuple[str, ...]]:
    """Phase id → the phases it waits for: those stated, then those whose deliverables it reads.

    ``phases`` are those of one run, in order.  When several phases deliver a file, the earlier
    ones are meant; only when none is earlier, and the reader does not deliver the file itself,
    the later ones.  Of the producers of one file at most AFTER_MAX + 1 are listed, which is
    enough for a caller to see that it is too many.
    """
    producers: dict[str, list[int]] = {}
    for index, phase in enumerate(phases):
        for path in phase.delivers:
            producers.setdefault(path, []).append(index)
    return {
        phase.phase_id: tuple(
            dict.fromkeys(
                (*phase.after, *(phases[at].phase_id for at in _read_from(producers, index, phase)))
            )
        )
        for index, phase in enumerate(phases)
    }


def _read_from(producers: Mapping[str, list[int]], index: int, phase: Work) -> Iterable[int]:
    for path in phase.reads:
        delivering = producers.get(path, [])
        earlier = delivering[: bisect_left(delivering, index)][-AFTER_MAX - 1 :]
        if not earlier and path not in phase.delivers:
            earlier = delivering[: AFTER_MAX + 1]
        yield from earlier


def tangle(phases: Sequence[Work], after: Mapping[str, tuple[str, ...]]) -> Tangle | None:
    """A circle of phases that can never run, or None.

    A phase of a strict tier also waits for every phase before it.  That is written as a chain of
    marks, one per place, so that the graph stays as large as the backlog and not its square.
    """
    graph: TopologicalSorter[tuple[str, str]] = TopologicalSorter()
    previous: tuple[str, str] | None = None
    for phase in phases:
        node, mark = ("phase", phase.phase_id), ("all up to", phase.phase_id)
        graph.add(node, *(("phase", earlier) for earlier in after[phase.phase_id]))
        graph.add(mark, node)
        if previous is not None:
            graph.add(mark, previous)
            if phase.order == "strict":
                graph.add(node, previous)
        previous = mark
    try:
        graph.prepare()
    except CycleError as error:
        circle: list[tuple[str, str]] = error.args[1]
        return _tangle(circle)
    return None


def _tangle(circle: Sequence[tuple[str, str]]) -> Tangle:
    ids = [phase_id for kind, phase_id in reversed(circle) if kind == "phase"]
    if ids[0] != ids[-1]:
        ids.append(ids[0])
    return Tangle(tuple(ids), by_order=any(kind != "phase" for kind, _ in circle))
