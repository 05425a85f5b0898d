"""The rules: pure functions from what is known to what must be written down.

Each reads one value, ``Situation``: the attempt that just ended and the few counts from before
it that matter.  None of them reads a clock, a random number or a database, and the whole table of
every rule is enumerated in ``tests/rules``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol

from engine.events import Ending, Verdict, VerdictCause
from engine.triage.policy import Policy
from projections.run_triage import Standing

JUDGED_ENDINGS: frozenset[Ending] = frozenset({"succeeded", "failed", "timed_out", "broke"})
"""Endings that prove something.  An abandoned or orphaned attempt says nothing about its run."""


class Situation(NamedTuple):
    """What the rules read: the outcome, and counts from *before* it.

    ``seen_before``: earlier attempts of the session with this fingerprint.
    ``timeouts_before``: of the run, in the session.  ``zero_streak_before``: finished attempts in
    a row, up to this one, without yield.  ``session_stopping``: it starts nothing more already.
    """

    ending: Ending
    yield_events: int
    fingerprint: str | None
    standing: Standing
    seen_before: int
    timeouts_before: int = 0
    zero_streak_before: int = 0
    run_stopped: bool = False
    fingerprint_stopped: bool = False
    session_stopping: bool = False


class Ruling(NamedTuple):
    """A verdict with its cause."""

    verdict: Verdict
    because: VerdictCause


class VerdictRule(Protocol):
    """Judges a run by its sample."""

    def __call__(self, situation: Situation) -> Ruling | None:
        """The verdict, or None when this attempt is no sample that could be judged."""
        ...


def three_way(situation: Situation) -> Ruling | None:
    """The seed document's rule, with its three verdicts.

    Promising: success, or yield, or a timeout whose fingerprint does not repeat.  Deprioritized:
    a failure that repeats, without yield.  Anything else is inconclusive.
    Source: BUILD-139 handoff, T3; SPEC section 4.
    """
    if situation.standing != "unsampled" or situation.ending not in JUDGED_ENDINGS:
        return None
    if situation.ending == "succeeded":
        return Ruling("promising", "success")
    if situation.yield_events > 0:
        return Ruling("promising", "telemetry")
    repeats = situation.fingerprint is not None and situation.seen_before > 0
    if situation.ending == "timed_out":
        if repeats:
            return Ruling("inconclusive", "repeated_timeout")
        return Ruling("promising", "timeout")
    if repeats:
        return Ruling("deprioritized", "repeated_failure")
    return Ruling("inconclusive", "new_failure")


def classic(situation: Situation) -> Ruling | None:
    """What the original's code did: every timeout and every first-seen failure is promising."""
    if situation.standing != "unsampled" or situation.ending not in JUDGED_ENDINGS:
        return None
    if situation.ending == "succeeded":
        return Ruling("promising", "success")
    if situation.yield_events > 0:
        return Ruling("promising", "telemetry")
    if situation.ending == "timed_out":
        return Ruling("promising", "timeout")
    if situation.fingerprint is None or situation.seen_before == 0:
        return Ruling("promising", "new_failure")
    return Ruling("deprioritized", "repeated_failure")


VERDICT_RULES: Mapping[str, VerdictRule] = {"three-way-1": three_way, "classic-1": classic}

Stop = Literal["zero_yield_streak", "fingerprint", "run_by_fingerprint", "run_by_timeouts"]


def stops(situation: Situation, policy: Policy) -> tuple[Stop, ...]:
    """Which stop conditions this outcome meets, in the order they are recorded.

    A streak ends the session before the failure is counted, as in the original.
    Source: BUILD-139 handoff, T3; SPEC section 4.
    """
    if situation.ending not in JUDGED_ENDINGS:
        return ()
    if _streak_ends(situation, policy):
        return ("zero_yield_streak",)
    found: list[Stop] = []
    repeats = _repeats_too_often(situation, policy)
    if repeats and not situation.fingerprint_stopped:
        found.append("fingerprint")
    if not situation.run_stopped:
        if repeats:
            found.append("run_by_fingerprint")
        elif _times_out_too_often(situation, policy):
            found.append("run_by_timeouts")
    return tuple(found)


def outranked(ruling: Ruling | None, found: tuple[Stop, ...]) -> Ruling | None:
    """The verdict when a stop has the last word: what is stopped at once is not promising."""
    stopped = "run_by_fingerprint" in found or "run_by_timeouts" in found
    if ruling is not None and stopped and ruling.verdict == "promising":
        return Ruling("inconclusive", "stopped")
    return ruling


def _repeats_too_often(situation: Situation, policy: Policy) -> bool:
    limit = policy.fingerprint_repeats_max
    if not limit or situation.fingerprint is None:
        return False
    if policy.stops_spare_yield and situation.yield_events > 0:
        return False
    return situation.seen_before + 1 >= limit


def _times_out_too_often(situation: Situation, policy: Policy) -> bool:
    limit = policy.timeouts_per_run_max
    if not limit or situation.ending != "timed_out":
        return False
    return situation.timeouts_before + 1 >= limit


def _streak_ends(situation: Situation, policy: Policy) -> bool:
    limit = policy.consecutive_zero_yield_max
    if not limit or situation.yield_events > 0 or situation.session_stopping:
        return False
    return situation.zero_streak_before + 1 >= limit


def reason_class(reason: str | None) -> int:
    """How promising a phase looks by its last failure reason; a lower number goes first.

    1 none · 2 collection or import · 3 deliverable or missing · 4 patch, no-op, manifest ·
    5 anything else · 6 timeout, last.  Source: SPEC section 4.
    """
    text = (reason or "").lower()
    if not text:
        return 1
    for number, words in _REASON_WORDS:
        if any(word in text for word in words):
            return number
    return 5


_REASON_WORDS: tuple[tuple[int, tuple[str, ...]], ...] = (
    (2, ("collection", "import")),
    (3, ("deliverable", "missing")),
    (4, ("patch", "no-op", "manifest")),
    (6, ("timeout", "timed out")),
)

REASON_CLASS_NAMES: Mapping[int, str] = {
    1: "unknown",
    2: "collection",
    3: "deliverable",
    4: "patch",
    5: "other",
    6: "timeout",
}
"""What each class is called in the log."""
