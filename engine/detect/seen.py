"""One stream as the boundary rules see it: folded, with its records, and where phrases match."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import msgspec

from engine.detect import records
from engine.detect.candidates import candidates
from engine.detect.catalogue import Phrase, anchored, boundary_rules, compiled
from engine.detect.folded import Folded
from engine.detect.guards import Guard, guarded
from engine.detect.port import WINDOW_CHARS_MAX, Outcome, StreamName

_HITS_OF_A_PHRASE_MAX = 20
_SUCCESS_ANCHOR = "success|complete|succeeded"


class Match(NamedTuple):
    """Where a rule matches, and what holds it back: a guard, or that a model answered the words."""

    start: int
    end: int
    held_back: Guard | Literal["answer"] | None


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One stream, folded, with what its records say and where phrases may stand.

    ``success``: where the last good end stands, or −1.
    """

    stream: StreamName
    folded: Folded
    told: records.Records
    spans: tuple[tuple[int, int], ...]
    success: int


def seen_in(outcome: Outcome) -> list[Seen]:
    """The streams of an outcome that hold anything; standard error first."""
    texts: tuple[tuple[StreamName, str], ...] = (
        ("stderr", outcome.stderr),
        ("stdout", outcome.stdout),
    )
    return [_seen(stream, text) for stream, text in texts if text]


def _seen(stream: StreamName, text: str) -> Seen:
    base = max(0, len(text) - WINDOW_CHARS_MAX)
    folded = Folded(text[base:], base)
    told = records.read(folded)
    return Seen(
        stream=stream,
        folded=folded,
        told=told,
        spans=tuple(candidates(folded.text)),
        success=_last_success(folded, told),
    )


def _last_success(folded: Folded, told: records.Records) -> int:
    places = [one.start for one in told.found if one.meaning == "success"]
    if anchored(_SUCCESS_ANCHOR, folded.text):
        success = compiled(boundary_rules().guard.success)
        places += [hit.start() for hit in success.finditer(folded.text)]
    return max(places, default=-1)


def record_match(seen: Seen, found: records.Found) -> Match:
    """A telling field.  In a line that is no JSON its words are guarded like others."""
    guard = guarded(seen.folded, found.start, found.end, quoted=True) if found.literal else None
    return Match(found.start, found.end, guard)


def phrase_matches(seen: Seen, phrase: Phrase) -> Iterator[Match]:
    """The last 20 places of a phrase, in order."""
    text = seen.folded.text
    hits = deque(
        places_of(text, seen.spans, phrase.anchor, phrase.pattern), maxlen=_HITS_OF_A_PHRASE_MAX
    )
    for start, end in ((first, _trimmed(text, last)) for first, last in hits):
        if is_answer(seen, start):
            yield Match(start, end, "answer")
        else:
            yield Match(start, end, guarded(seen.folded, start, end, phrase.needs))


def places_of(
    text: str, spans: Iterable[tuple[int, int]], anchor: str, pattern: str
) -> Iterator[tuple[int, int]]:
    """Where ``pattern`` matches within those ``spans`` of folded text that hold its anchor."""
    near = [span for span in spans if anchored(anchor, text[slice(*span)])]
    if not near:
        # Compiling a hundred patterns takes longer than reading most outputs.
        return
    found = compiled(pattern).finditer
    for span in near:
        for hit in found(text, *span):
            yield hit.span()


def _trimmed(text: str, end: int) -> int:
    while text[end - 1].isspace():
        end -= 1
    return end


def is_answer(seen: Seen, place: int) -> bool:
    """Whether ``place`` stands in a part of a record where words mean nothing."""
    nearest = bisect_right(seen.told.closed, place, key=lambda part: part[0]) - 1
    return nearest >= 0 and place < seen.told.closed[nearest][1]
