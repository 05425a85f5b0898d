"""Limits known from children that said the very same, and from no others."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from engine.detect import DETECTORS, Boundary, Detectors, Outcome
from engine.detect.diagnosis import Kept, Streams, outcome_of
from engine.detect.known_limits import CHARS_MAX, KnownLimits
from engine.events import AttemptFinished, Told
from tests.rules.standings import finished

STANDARD, CLASSIC = DETECTORS["standard-1"], DETECTORS["classic-1"]
TOO_LONG = "Error: prompt is too long: 9 tokens > 8 maximum\n"
FAILED = finished(
    ending="failed", final_state="FAILED", exit_code=1, told=Told(ended="exited", state="FAILED")
)


def printed(stdout: str = "", stderr: str = "") -> Streams:
    return Streams(Kept.of(stdout.encode()), Kept.of(stderr.encode()))


class Counting:
    """Detectors that count how often they look for limits."""

    def __init__(self, of: Detectors = STANDARD) -> None:
        self.looks = 0
        self._boundary = of.boundary
        self.detectors = replace(of, boundary=self._look)

    def _look(self, outcome: Outcome) -> tuple[Boundary, ...]:
        self.looks += 1
        return self._boundary(outcome)


def sees_none(_outcome: Outcome) -> tuple[Boundary, ...]:
    return ()


def test_children_that_say_the_very_same_are_looked_at_once_whoever_they_are() -> None:
    counting, limits = Counting(), KnownLimits()
    for number in range(3):
        end = replace(FAILED, run_id=f"r{number}", attempt_id=f"a{number}", session_id="other")
        found = limits.of(end, printed(stderr=TOO_LONG), counting.detectors)
        assert [limit.disposition for limit in found] == ["stopped_by"]
    assert counting.looks == 1


@pytest.mark.parametrize(
    ("end", "streams"),
    [
        (replace(FAILED, ending="succeeded"), printed(stderr=TOO_LONG)),
        (FAILED, printed(stdout=TOO_LONG)),
        (FAILED, printed(stderr=TOO_LONG + "success: true\n")),
        (FAILED, printed()),
        (
            replace(FAILED, told=Told(ended="exited", state="FAILED", declared="rate_limit")),
            printed(stderr=TOO_LONG),
        ),
    ],
)
def test_what_differs_is_looked_at_by_itself(end: AttemptFinished, streams: Streams) -> None:
    counting, limits = Counting(), KnownLimits()
    limits.of(FAILED, printed(stderr=TOO_LONG), counting.detectors)
    found = limits.of(end, streams, counting.detectors)
    assert counting.looks == 2
    assert found == STANDARD.boundary(outcome_of(end, streams))


def test_limits_that_one_set_of_detectors_found_are_not_anothers() -> None:
    limits, said = KnownLimits(), printed("the config has max tokens: 8192\n")
    assert limits.of(FAILED, said, STANDARD) == ()
    assert len(limits.of(FAILED, said, CLASSIC)) == 1
    assert limits.of(FAILED, said, STANDARD) == ()


def test_what_is_remembered_is_bounded_in_characters_of_both_streams() -> None:
    counting, limits = Counting(replace(STANDARD, boundary=sees_none)), KnownLimits()
    each = CHARS_MAX // 11
    texts = [chr(ord("a") + number) * each for number in range(6)]

    def looks(*numbers: int) -> int:
        before = counting.looks
        for number in numbers:
            limits.of(FAILED, printed(texts[number], texts[number]), counting.detectors)
        return counting.looks - before

    assert looks(0, 1, 2, 3, 4) == 5
    assert looks(0, 4) == 0, "five have room"
    assert looks(5, 5) == 1, "the sixth takes the room of all"
    assert looks(0, 0, 5) == 1, "and leaves room for others"
