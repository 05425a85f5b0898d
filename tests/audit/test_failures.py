"""Failures from a log: which look alike, what they said, and what was decided at their ends."""

from __future__ import annotations

import random
import re
import time
from collections import Counter
from difflib import SequenceMatcher
from typing import Any

import pytest

from engine.audit.failures import (
    ALIKE_AT,
    RUNS_MAX,
    Failure,
    Failures,
    alike,
    alike_to,
    sample_text,
)
from engine.events import (
    AnyEvent,
    BreakerOpened,
    Classified,
    FingerprintStopped,
    Reason,
    Reclassified,
    Seen,
    Stream,
    Told,
)
from tests.rules.standings import fingerprinted, finished

TEXT = "error the file plan of run is not a number missing at <path> <*> in : ( ) key"
WORDS = TEXT.split()


def failures(count: int, *, seed: int = 1, lengths: tuple[int, int] = (1, 30)) -> list[Failure]:
    rng = random.Random(seed)
    base = [rng.choices(WORDS, k=rng.randint(*lengths)) for _ in range(max(1, count // 4))]
    found: list[Failure] = []
    for number in range(count):
        words = list(rng.choice(base))
        for _ in range(rng.randrange(4)):
            words[rng.randrange(len(words))] = rng.choice(WORDS)
        found.append(
            Failure(
                fingerprint=f"f{number}",
                detector=rng.choice(["fp-1", "classic-1"]),
                family="x",
                exit_class="1",
                template=" ".join(words),
            )
        )
    return found


def words_of(failure: Failure) -> list[str]:
    return re.findall(r"<[a-z]+>|\w+|[^\w\s]", failure.template)


def plainly_alike(found: list[Failure]) -> dict[frozenset[str], float]:
    """Every pair compared in order, without any bound that could spare it."""
    pairs: dict[frozenset[str], float] = {}
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            its, theirs = words_of(one), words_of(other)
            common = 2 * (Counter(its) & Counter(theirs)).total() / (len(its) + len(theirs))
            likeness = SequenceMatcher(None, its, theirs, autojunk=False).ratio()
            if one.detector == other.detector and min(common, likeness) >= ALIKE_AT:
                pairs[frozenset((one.fingerprint, other.fingerprint))] = round(likeness, 3)
    return pairs


@pytest.mark.parametrize("seed", range(5))
def test_the_bounds_spare_no_pair_that_looks_alike(seed: int) -> None:
    found = failures(60, seed=seed)
    told = {frozenset((a.fingerprint, b.fingerprint)): b.likeness for a, b in alike(found)}
    assert told
    assert told == plainly_alike(found)
    ordered = [b.likeness for _, b in alike(found)]
    assert ordered == sorted(ordered, reverse=True)


def test_those_that_look_like_one_are_the_pairs_that_it_is_in() -> None:
    found = failures(60)
    pairs = plainly_alike(found)
    for one in found:
        mine = {next(iter(p - {one.fingerprint})) for p in pairs if one.fingerprint in p}
        assert {each.fingerprint for each in alike_to(one, found)} == mine


def test_one_among_two_thousand_is_compared_with_each_once() -> None:
    found = failures(2000, lengths=(10, 40))
    start = time.process_time()
    alike_to(found[0], found)
    assert time.process_time() - start < 2.0, "every pair of them takes some thirty times that"


GONE = "d" * 64


@pytest.mark.parametrize(
    ("fields", "stdout", "stderr", "said"),
    [
        ({"told": Told(ended="exited", reason="why")}, None, None, "why"),
        ({"stderr": Stream(digest=GONE)}, b"out", b"err", "err"),
        ({"stdout": Stream(digest=GONE)}, b"out", None, "out"),
        ({"stdout": Stream(digest=GONE), "error": "KeyError"}, None, None, "KeyError"),
        ({"stdout": Stream(digest=GONE)}, None, None, None),
        ({"stderr": Stream(digest=GONE)}, b" ", None, None),
        ({}, None, None, ""),
        ({"stdout": Stream(digest=GONE)}, b" ", None, ""),
    ],
)
def test_a_sample_is_none_only_when_it_is_gone(
    fields: dict[str, Any], stdout: bytes | None, stderr: bytes | None, said: str | None
) -> None:
    assert sample_text(finished(**{"error": None, **fields}), stdout, stderr) == said


def test_stops_that_name_no_run_belong_to_the_run_whose_end_caused_them() -> None:
    reason = Reason(rule="r", version=1, policy="p", basis=0, sentence="so")
    events: list[tuple[AnyEvent, int]] = []
    for run, cause in (("a", 10), ("b", 20)):
        events += [
            (fingerprinted(run_id=run, fingerprint="f"), cause),
            (FingerprintStopped(session_id="s", fingerprint="f", repeats=2, reason=reason), cause),
            (
                BreakerOpened(session_id="s", fingerprint="f", template="t", runs=2, reason=reason),
                cause,
            ),
        ]
    asked: list[tuple[str | None, int]] = [(None, 2), ("a", 1), ("c", 0)]
    for wanted, times in asked:
        failures_of = Failures(wanted)
        for place, (event, cause) in enumerate(events):
            failures_of.take(Seen(cause + place + 1, 0, event), cause)
        stops = [each.stops for each in failures_of.all]
        expected = {"fingerprint": times, "unsampled runs (breaker)": times}
        assert stops == ([expected] if times else [])


def carried(*events: tuple[int, AnyEvent]) -> list[Failure]:
    """What a log of these comes to, each a microsecond behind its position."""
    found = Failures()
    for pos, event in events:
        found.take(Seen(pos, pos + 1, event), None)
    return found.all


def test_a_failure_is_told_with_its_first_and_last_place_and_the_attempt_that_carried_it_last() -> (
    None
):
    ends = [
        (3, fingerprinted(fingerprint="f", attempt_id="a1", run_id="q", session_id="t")),
        (5, fingerprinted(fingerprint="f", attempt_id="a2", run_id="p", session_id="s")),
        (9, fingerprinted(fingerprint="f", attempt_id="a3", run_id="q", session_id="s")),
    ]
    (found,) = carried(*ends)
    assert (found.first_pos, found.first_us, found.last_pos, found.last_us) == (3, 4, 9, 10)
    assert (found.count, found.sample, found.sessions) == (3, "a3", ["t", "s"])
    assert (found.runs, found.run_count) == (["p", "q"], 2)


def test_runs_are_named_in_order_up_to_a_bound_and_counted_beyond() -> None:
    names = [f"r{number:03}" for number in range(RUNS_MAX + 2)]
    shuffled = random.Random(1).sample(names, len(names))
    ends = [(n, fingerprinted(fingerprint="f", run_id=run)) for n, run in enumerate(shuffled, 1)]
    (found,) = carried(*ends)
    assert (found.runs, found.run_count) == (names[:RUNS_MAX], RUNS_MAX + 2)


def test_the_most_frequent_goes_first_and_of_equals_the_one_that_was_seen_last() -> None:
    order = "abcb"
    ends = [(n, fingerprinted(fingerprint=name)) for n, name in enumerate(order, 1)]
    assert [each.fingerprint for each in carried(*ends)] == ["b", "c", "a"]


def test_an_attempt_is_counted_by_the_newest_word_on_it() -> None:
    def called(before: str | None, after: str | None) -> Reclassified:
        return Reclassified(
            session_id="s",
            run_id="r",
            phase_id="p",
            attempt_id="a",
            what="fingerprint",
            detector="d2",
            timeouts="detected",
            before=None if before is None else word(before),
            after=None if after is None else word(after),
            by="x",
            why="y",
        )

    def counts(*events: AnyEvent) -> dict[str, tuple[int, int]]:
        told = carried(*enumerate(events, 1))
        return {each.fingerprint: (each.count, each.reclassified) for each in told}

    first = fingerprinted(fingerprint="f")
    assert counts(first, called("f", "g")) == {"f": (1, 0), "g": (0, 1)}
    again = (first, called("f", "g"), called("g", "h"))
    assert counts(*again) == {"f": (1, 0), "g": (0, 0), "h": (0, 1)}
    assert counts(*again, called("h", None)) == {"f": (1, 0), "g": (0, 0), "h": (0, 0)}


def word(name: str) -> Classified:
    return Classified(name=name, detector="d2", detail="family", text="template")
