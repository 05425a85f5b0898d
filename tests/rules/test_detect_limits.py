"""Hostile output: the detectors' time grows with its length and no faster."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import pytest

from engine.detect import DETECTORS, Detectors, Outcome, detectors
from engine.detect.catalogue import boundary_rules
from engine.errors import UsageProblem

plain = detectors("standard-1")
PIECES = {
    "letters": "a",
    "digits": "1",
    "slashes": "/a",
    "dots": "1.",
    "brackets": "[",
    "open json": '{"a":',
    "json records": '{"stop_reason":"max_tokens","message":"prompt is too long"}\n',
    "open escapes": "\x1b[",
    "open titles": "\x1b]",
    "blanks": " ",
    "frames": "    at x\n",
    "tracebacks": "Traceback (most recent call last):\n",
    "half phrases": "exceeded the model ",
    "anchors": "\n".join(phrase.anchor for phrase in boundary_rules().phrase) + "\n",
    "durations": "12m",
    "limits": "rate limit ",
    "limits and waits": "usage limit was been has ",
    "gaps": "exceeded aaa bbb ccc ",
    "wrapped": "exceeded\n    the\n    maximum\n",
    "events": " ".join(boundary_rules().event) + "\n",
    "quoted": "'error': \"reached the maximum number of `a` ",
    "alternatives": "prompt|tokens|max|",
}


def cost_s(chosen: Detectors, piece: str, size: int) -> float:
    """CPU seconds of everything detectors do, the best of three."""
    text = (piece * (size // len(piece) + 1))[:size]
    outcome = Outcome(
        ended="exited", succeeded=False, final_state="FAILED", stdout=text, stderr=text
    )
    stated = Outcome(ended="exited", succeeded=False, final_state="FAILED", reason=text)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        chosen.fingerprint(outcome)
        chosen.fingerprint(stated)
        chosen.zero_yield(outcome, chosen.boundary(outcome))
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES.keys())
@pytest.mark.parametrize("name", DETECTORS)
def test_twice_the_text_costs_less_than_three_times_the_time(name: str, piece: str) -> None:
    cost = partial(cost_s, detectors(name), piece)
    cost(1024)
    assert grows_at_most(3, cost, 64 * 1024, 128 * 1024, tick_s=0.005)


def grows_at_most(
    factor: float, cost: Callable[[int], float], small: int, large: int, *, tick_s: float
) -> bool:
    """Whether ``large`` costs less than so many times ``small``, in one of three looks.

    A busy machine slows one side of a look now and then; a cost that grows too fast does so always.
    """
    return any(cost(large) < factor * cost(small) + tick_s for _ in range(3))


def boundary_cost_s(piece: str, size: int) -> float:
    """CPU seconds of looking for boundaries in one stream, the best of three."""
    text = (piece * (size // len(piece) + 1))[:size]
    outcome = Outcome(ended="exited", succeeded=False, final_state="FAILED", stderr=text)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        plain.boundary(outcome)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("piece", PIECES.values(), ids=PIECES.keys())
def test_boundaries_in_four_times_the_text_cost_at_most_its_power_of_one_and_a_fifth(
    piece: str,
) -> None:
    cost = partial(boundary_cost_s, piece)
    cost(1024)
    assert grows_at_most(4**1.2, cost, 16 * 1024, 64 * 1024, tick_s=0.01)


def test_a_huge_output_is_neither_copied_nor_read_through() -> None:
    text = "[2026-06-20 14:47:55] INFO: wrote src/a.py (+1 -1)\n" * 1_000_000
    outcome = Outcome(
        ended="exited", succeeded=False, final_state="FAILED", stdout=text, stderr=text
    )
    tracemalloc.start()
    start = time.process_time()
    assert plain.boundary(outcome) == ()
    spent_s, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32 * 1024 * 1024
    assert spent_s < 5


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(UsageProblem, match="classic-1, standard-1"):
        detectors("best-9")


def test_each_set_is_found_under_its_own_name() -> None:
    assert {name: found.name for name, found in DETECTORS.items()} == {
        "classic-1": "classic-1",
        "standard-1": "standard-1",
    }
