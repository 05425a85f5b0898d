"""``plain-1`` boundaries: whether a limit of the model or its provider ended the work.

Two tiers.  Records say it in fields (``finish_reason: length``); phrases say it in words that
assert an event ("prompt is too long"), never in a bare noun ("max tokens").  A hit stopped the
attempt only if the attempt did not succeed and nothing after the hit says that work went on well.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from functools import cache

import msgspec

from engine.detect import records
from engine.detect.catalogue import Phrase, anchored, catalogue, compiled
from engine.detect.folded import Folded
from engine.detect.port import BOUNDARIES_MAX, WINDOW_CHARS_MAX, Boundary, Outcome, StreamName
from engine.events.diagnosis import BoundaryKind

_GUARD_CHARS = 300
_HITS_OF_A_PHRASE_MAX = 200
_TEST_RESULT = re.compile(r"\b(?:passed|failed|skipped|xfail)\b")


class _Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate; ``strength`` is 0 for records, 1 for phrases, 2 for weak phrases."""

    strength: int
    kind: BoundaryKind
    pattern: str
    start: int
    end: int


def boundary(outcome: Outcome) -> tuple[Boundary, ...]:
    """At most eight hits, strongest first: records before phrases, later before earlier.

    What the child declared itself comes first, without a span.
    """
    ranked = sorted(
        [*_of_stream("stderr", outcome.stderr), *_of_stream("stdout", outcome.stdout)],
        key=lambda pair: (pair[1].disposition == "encountered", pair[0], -pair[1].start),
    )
    found = _declared(outcome)
    for _, hit in ranked:
        if all((hit.kind, hit.pattern) != (other.kind, other.pattern) for other in found):
            found.append(hit)
    if outcome.succeeded:
        found = [msgspec.structs.replace(hit, disposition="encountered") for hit in found]
    return tuple(found[:BOUNDARIES_MAX])


def _declared(outcome: Outcome) -> list[Boundary]:
    if outcome.declared is None:
        return []
    return [Boundary(kind=outcome.declared, disposition="stopped_by", pattern="declared")]


def _of_stream(stream: StreamName, text: str) -> Iterator[tuple[int, Boundary]]:
    """Every hit in one stream with its strength, in no order."""
    if not text:
        return
    base = max(0, len(text) - WINDOW_CHARS_MAX)
    folded = Folded(text[base:], base)
    told = records.read(folded)
    success = _last_success(folded, told)
    for hit in [*_of_records(told), *_of_phrases(folded, told)]:
        start, end = folded.span(hit.start, hit.end)
        yield (
            hit.strength,
            Boundary(
                kind=hit.kind,
                disposition="encountered" if hit.start < success else "stopped_by",
                pattern=hit.pattern,
                stream=stream,
                start=start,
                end=end,
            ),
        )


def _last_success(folded: Folded, told: records.Records) -> int:
    """Where the last sign of a good end stands in the folded text, or −1."""
    places = [one.start for one in told.found if one.meaning == "success"]
    places += [hit.start() for hit in compiled(catalogue().guard.success).finditer(folded.text)]
    return max(places, default=-1)


def _of_records(told: records.Records) -> Iterator[_Hit]:
    for one in told.found:
        if one.meaning != "success":
            yield _Hit(
                strength=0, kind=one.meaning, pattern=one.pattern, start=one.start, end=one.end
            )


def _of_phrases(folded: Folded, told: records.Records) -> Iterator[_Hit]:
    closed_from = [start for start, _ in told.closed]
    for phrase in catalogue().phrase:
        if not anchored(phrase.anchor, folded.text):
            continue
        for start, end in _places(folded, phrase):
            nearest = bisect_right(closed_from, start) - 1
            if nearest < 0 or told.closed[nearest][1] <= start:
                yield _Hit(
                    strength=2 if phrase.weak else 1,
                    kind=phrase.kind,
                    pattern=phrase.name,
                    start=start,
                    end=end,
                )


def _places(folded: Folded, phrase: Phrase) -> Iterator[tuple[int, int]]:
    hits = compiled(phrase.pattern).finditer(folded.text)
    for hit in deque(hits, maxlen=_HITS_OF_A_PHRASE_MAX):
        if not _guarded(folded, hit.start(), hit.end()):
            yield hit.span()


@cache
def _begins() -> re.Pattern[str]:
    return re.compile(catalogue().guard.line)


def _guarded(folded: Folded, start: int, end: int) -> bool:
    """Whether the line around a hit is code, a test's name, a diff, or about a foreign limit."""
    guard = catalogue().guard
    first, last = folded.line_of(start)
    first, last = max(first, start - _GUARD_CHARS), min(last, end + _GUARD_CHARS)
    if _begins().match(folded.text, first, start):
        return True
    if "::" in folded.text[first:last] and _TEST_RESULT.search(folded.text, first, last):
        return True
    return compiled(guard.foreign).search(folded.text, first, last) is not None
