"""Failures: every fingerprint there is, what it touched, what it caused, and which look alike.

Built from the log alone.  Two fingerprints that look alike are shown side by side for a person to
judge: the same failure told twice, or two failures that only sound the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import NamedTuple, Self

import msgspec

from engine.events import (
    AttemptFinished,
    BreakerOpened,
    FailureFingerprinted,
    FingerprintStopped,
    Reclassified,
    RunJudged,
    RunStopped,
    Seen,
)

RUNS_MAX = 50
"""How many of a failure's runs are named; ``run_count`` counts them all."""

ALIKE_AT = 0.75
"""From which share of common words on two templates look alike."""

COMPARED_MAX = 2000
"""So many fingerprints, the most frequent ones, are compared with each other."""

TYPES = (
    "diagnosis.fingerprinted",
    "diagnosis.reclassified",
    "triage.run_judged",
    "triage.run_stopped",
    "triage.fingerprint_stopped",
    "triage.breaker_opened",
)
_WORD = re.compile(r"<[a-z]+>|\w+|[^\w\s]")


class Failure(msgspec.Struct, kw_only=True):
    """One fingerprint over all sessions.

    ``count``: attempts that ended with it, as told when they ended; ``reclassified``: attempts
    whose newest word it is.  ``verdicts`` and ``stops`` count what was decided at those ends.
    ``sample``: the attempt that carried it last.
    """

    fingerprint: str
    detector: str
    family: str
    exit_class: str | None
    template: str
    count: int = 0
    reclassified: int = 0
    first_pos: int = 0
    first_us: int = 0
    last_pos: int = 0
    last_us: int = 0
    run_count: int = 0
    runs: list[str] = []
    sessions: list[str] = []
    verdicts: dict[str, int] = {}
    stops: dict[str, int] = {}
    sample: str = ""
    alike: list[Alike] = []


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """Another fingerprint that looks like it; ``likeness`` is the share of common words, 0 to 1."""

    fingerprint: str
    template: str
    likeness: float


class Failures:
    """Feed it the events of ``TYPES`` in order; then read ``all``.

    ``run``: only attempts of that run count, and what was decided at their ends.
    """

    def __init__(self, run: str | None = None) -> None:
        self._run = run
        self._found: dict[str, Failure] = {}
        self._runs: dict[str, set[str]] = {}
        self._ended_with: dict[int, str] = {}

    def take(self, seen: Seen, cause: int | None) -> None:
        """One more event; ``cause`` is the position of the end that it belongs to."""
        event = seen.event
        if self._run is not None and getattr(event, "run_id", self._run) != self._run:
            # Stops that name no run belong to the run of the end that caused them.
            return
        match event:
            case FailureFingerprinted():
                self._carried(seen, event, cause)
            case Reclassified(what="fingerprint"):
                self._called_anew(seen, event)
            case RunJudged():
                self._judged(cause, f"{event.verdict} ({event.because})")
            case RunStopped():
                self._stopped(cause, f"run ({event.because})")
            case FingerprintStopped():
                self._stopped(cause, "fingerprint")
            case BreakerOpened():
                self._stopped(cause, "unsampled runs (breaker)")
            case _:
                pass

    @property
    def all(self) -> list[Failure]:
        """Every failure, the most frequent first."""
        for name, runs in self._runs.items():
            found = self._found[name]
            found.run_count, found.runs = len(runs), sorted(runs)[:RUNS_MAX]
        return sorted(self._found.values(), key=lambda f: (-f.count, -f.last_pos))

    def _carried(self, seen: Seen, event: FailureFingerprinted, cause: int | None) -> None:
        found = self._known(event.fingerprint, event.detector, event.family, event.template)
        found.exit_class, found.count = event.exit_class, found.count + 1
        self._touched(found, seen, event)
        if cause is not None:
            self._ended_with[cause] = event.fingerprint

    def _called_anew(self, seen: Seen, event: Reclassified) -> None:
        if event.before is not None and event.before.name in self._found:
            before = self._found[event.before.name]
            before.reclassified = max(0, before.reclassified - 1)
        if event.after is not None:
            said = event.after
            found = self._known(said.name, said.detector, said.detail or "", said.text or "")
            found.reclassified += 1
            self._touched(found, seen, event)

    def _known(self, name: str, detector: str, family: str, template: str) -> Failure:
        if name not in self._found:
            self._found[name] = Failure(
                fingerprint=name,
                detector=detector,
                family=family,
                exit_class=None,
                template=template,
            )
        return self._found[name]

    def _touched(
        self, found: Failure, seen: Seen, event: FailureFingerprinted | Reclassified
    ) -> None:
        if not found.first_pos:
            found.first_pos, found.first_us = seen.pos, seen.recorded_us
        found.last_pos, found.last_us = seen.pos, seen.recorded_us
        found.sample = event.attempt_id
        self._runs.setdefault(found.fingerprint, set()).add(event.run_id)
        if event.session_id not in found.sessions:
            found.sessions = [*found.sessions, event.session_id]

    def _judged(self, cause: int | None, verdict: str) -> None:
        found = self._found.get(self._ended_with.get(cause or 0, ""))
        if found is not None:
            found.verdicts = _one_more(found.verdicts, verdict)

    def _stopped(self, cause: int | None, what: str) -> None:
        found = self._found.get(self._ended_with.get(cause or 0, ""))
        if found is not None:
            found.stops = _one_more(found.stops, what)


def _one_more(counts: dict[str, int], name: str) -> dict[str, int]:
    return dict(sorted({**counts, name: counts.get(name, 0) + 1}.items()))


class _Told(NamedTuple):
    """A failure with the words of its template.

    ``counted``: each word with how often it stood there before, so that a set holds repeats.
    """

    failure: Failure
    words: list[str]
    counted: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, failure: Failure) -> Self:
        words = _WORD.findall(failure.template)
        times: Counter[str] = Counter()
        counted: list[tuple[str, int]] = []
        for word in words:
            counted.append((word, times[word]))
            times[word] += 1
        return cls(failure, words, frozenset(counted))


def alike(failures: Iterable[Failure], *, at: float = ALIKE_AT) -> list[tuple[Failure, Alike]]:
    """Pairs of fingerprints of one detector whose templates look alike, the likest first.

    The first ``COMPARED_MAX`` are compared, each pair once.
    """
    by_detector: dict[str, list[_Told]] = {}
    for each in list(failures)[:COMPARED_MAX]:
        by_detector.setdefault(each.detector, []).append(_Told.of(each))
    pairs = [
        (one.failure, _alike(other.failure, likeness))
        for told in by_detector.values()
        for place, one in enumerate(told)
        for other in told[place + 1 :]
        if (likeness := _likeness(one, other, at)) is not None
    ]
    return sorted(pairs, key=lambda pair: (-pair[1].likeness, pair[0].fingerprint))


def alike_to(failure: Failure, others: Iterable[Failure], *, at: float = ALIKE_AT) -> list[Alike]:
    """Those of the first ``COMPARED_MAX`` that look like ``failure``, the likest first."""
    one = _Told.of(failure)
    found = [
        _alike(other, likeness)
        for other in list(others)[:COMPARED_MAX]
        if other is not failure and other.detector == failure.detector
        if (likeness := _likeness(one, _Told.of(other), at)) is not None
    ]
    return sorted(found, key=lambda each: -each.likeness)


def _likeness(one: _Told, other: _Told, at: float) -> float | None:
    """The share of common words, in order; None when it is below ``at``.

    The cheapest bound comes first, so that few pairs are compared in order.
    """
    its, theirs = len(one.words), len(other.words)
    both = its + theirs
    if not both or 2 * min(its, theirs) < at * both:
        return None
    if 2 * len(one.counted & other.counted) < at * both:
        return None
    likeness = SequenceMatcher(None, one.words, other.words, autojunk=False).ratio()
    return likeness if likeness >= at else None


def _alike(other: Failure, likeness: float) -> Alike:
    return Alike(
        fingerprint=other.fingerprint, template=other.template, likeness=round(likeness, 3)
    )


def sample_text(
    finished: AttemptFinished, stdout: bytes | None, stderr: bytes | None
) -> str | None:
    """What an attempt said as it stands in the log: its reason, else its output, else its error.

    None when output was kept and is gone, and nothing else was said.
    """
    if finished.told is not None and finished.told.reason:
        return finished.told.reason
    for data in (stderr, stdout):
        if data and (text := data.decode(errors="replace").strip()):
            return text
    if finished.error:
        return finished.error
    kept = ((finished.stdout.digest, stdout), (finished.stderr.digest, stderr))
    gone = any(digest is not None and data is None for digest, data in kept)
    return None if gone else ""
