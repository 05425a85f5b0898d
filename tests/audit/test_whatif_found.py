"""What a what-if counts: attempts saved and unknown, what they came to, and where horizons lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from engine.audit.whatif_found import Found
from engine.audit.whatif_result import Horizon, WhatIf
from tests.rules.standings import finished, policy, started


def left_out(found: Found, pos: int, because: str = "stopped", **end: Any) -> None:
    """An attempt that was left out at ``pos``, and ended unless ``end`` says otherwise."""
    names = {"run_id": end.pop("run_id", "r"), "phase_id": end.pop("phase_id", "p")}
    found.attempts += 1
    found.leave_out(pos, started(attempt_id=f"a{pos}", **names), because)
    if end.pop("ended", True):
        assert found.is_left_out(finished(attempt_id=f"a{pos}", **names, **end))


def came_to(found: Found) -> WhatIf:
    return found.result(policy())


def test_what_is_noted_is_told_in_the_order_of_its_words() -> None:
    found = Found()
    found.notes.update("hgfedcba")
    assert came_to(found).notes == (*"abcdefgh",)


def test_an_attempt_that_was_made_is_no_saving() -> None:
    found = Found()
    found.attempts = 3
    assert not found.is_left_out(finished())
    assert not found.has_diverged
    told = came_to(found)
    assert (told.attempts, told.attempts_made, told.attempts_saved) == (3, 3, 0)
    assert (told.policy, told.policy_sha256) == ("t@7", policy().sha256)


def test_what_is_saved_is_counted_with_what_it_came_to() -> None:
    found = Found()
    found.attempts = 4
    left_out(found, 10, ending="succeeded", yield_events=3, tokens=50, duration_ms=90_000)
    left_out(found, 20, ending="failed", yield_events=2, tokens=7, duration_ms=30_000)
    left_out(found, 30, ended=False)
    told = came_to(found)
    assert (told.attempts, told.attempts_made) == (7, 4)
    assert (told.attempts_saved, told.attempts_unknown) == (3, 0)
    assert (told.tokens_saved, told.minutes_saved) == (57, 2.0)
    assert (told.successes_lost, told.usage_lost) == (1, 5)
    assert [(each.pos, each.ending, each.because) for each in told.not_made] == [
        (10, "succeeded", "stopped"),
        (20, "failed", "stopped"),
        (30, None, "stopped"),
    ]
    assert [each.attempt_id for each in told.not_made] == ["a10", "a20", "a30"]


@pytest.mark.parametrize(
    ("at", "because", "unknown"),
    [
        (9, "exhausted", True),  # its run's horizon lies before
        (10, "exhausted", True),
        (11, "exhausted", False),
        (11, "lost_too_often", False),
        (11, "not_drained", False),
        (11, "stopped", True),  # it may come at another time
        (11, "deprioritized", True),
    ],
)
def test_beyond_the_horizon_of_its_run_nothing_is_saved(
    at: int, because: str, *, unknown: bool
) -> None:
    found = Found()
    left_out(found, 10, because, ending="succeeded", yield_events=1, tokens=5, duration_ms=60_000)
    found.horizon("r", at, "x")
    told = came_to(found)
    assert (told.attempts_saved, told.attempts_unknown) == (1 - unknown, 1 * unknown)
    assert told.attempts_made == 0
    assert [each.saved for each in told.not_made] == [not unknown]
    assert told.tokens_saved == (0 if unknown else 5)
    assert told.successes_lost == told.usage_lost == told.minutes_saved == 1 - unknown


def test_attempts_not_made_stand_in_the_order_of_the_log() -> None:
    found = Found()
    left_out(found, 20)
    left_out(found, 30, ended=False)
    left_out(found, 10)
    assert [each.pos for each in came_to(found).not_made] == [10, 20, 30]


def test_a_horizon_of_another_run_makes_nothing_unknown() -> None:
    found = Found()
    left_out(found, 10)
    found.horizon("q", 1, "x")
    assert came_to(found).attempts_saved == 1


def test_an_attempt_of_a_phase_that_was_renumbered_may_still_come() -> None:
    found = Found()
    left_out(found, 10, "exhausted")
    left_out(found, 20, "exhausted", phase_id="q")
    found.renumbered(30, started(attempt_id="a3", number=3), 2)
    told = came_to(found)
    assert [told.attempts_saved, told.attempts_unknown] == [1, 1]
    unknown = "its attempt 2 would have been made where 3 was"
    assert told.horizons == (Horizon(run_id="r", pos=30, unknown=unknown),)


def test_the_horizon_of_a_run_is_its_first_and_they_come_in_order() -> None:
    found = Found()
    for run_id, pos in (("b", 5), ("a", 7), ("a", 5), ("b", 9), ("c", 2)):
        found.horizon(run_id, pos, f"{run_id}{pos}")
    found.horizon("a", 5, "told again")
    assert [(each.run_id, each.pos, each.unknown) for each in came_to(found).horizons] == [
        ("c", 2, "c2"),
        ("a", 5, "a5"),
        ("b", 5, "b5"),
    ]


def test_anything_that_would_have_gone_otherwise_is_a_divergence() -> None:
    ways: list[Callable[[Found], object]] = [
        lambda found: found.leave_out(1, started(), "stopped"),
        lambda found: left_out(found, 1),
        lambda found: found.differs(1, finished(), ["x"], ["y"]),
        lambda found: found.horizon("r", 1, "x"),
    ]
    for diverge in ways:
        found = Found()
        assert not found.has_diverged
        diverge(found)
        assert found.has_diverged


def test_a_decision_that_differs_is_told_with_both_words() -> None:
    found = Found()
    found.differs(4, finished(), ["x"], ["y", "z"])
    (told,) = came_to(found).differing
    assert (told.pos, told.attempt_id, told.run_id) == (4, "a", "r")
    assert (told.recorded, told.instead) == (("x",), ("y", "z"))
