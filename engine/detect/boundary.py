"""``plain-1`` boundaries: whether a limit of the model or its provider ended the work.

Three tiers.  Records say it in fields (``finish_reason: length``); phrases say it in words that
assert an event ("prompt is too long"), never in a bare noun ("max tokens"); where neither says
anything, words in the shape of a limit are suspected.  A hit stopped the attempt only if it did not
succeed and nothing after the hit says that work went on well; a suspect never did.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator

import msgspec

from engine.detect import records
from engine.detect.candidates import candidates
from engine.detect.catalogue import Phrase, anchored, boundary_rules, compiled
from engine.detect.folded import Folded
from engine.detect.guards import guarded
from engine.detect.port import BOUNDARIES_MAX, WINDOW_CHARS_MAX, Boundary, Outcome, StreamName
from engine.detect.suspects import suspects
from engine.events.diagnosis import BoundaryKind

_HITS_OF_A_PHRASE_MAX = 40
_SUCCESS_ANCHOR = "success|complete|succeeded"
_Span = tuple[int, int]


class _Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate; ``rank`` is 0 for records, 1 to 3 for phrases."""

    rank: int
    kind: BoundaryKind
    pattern: str
    start: int
    end: int


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One stream, folded, what its records say, and where phrases may stand.

    ``success``: where the last good end stands, or −1.
    """

    stream: StreamName
    folded: Folded
    told: records.Records
    spans: tuple[_Span, ...]
    success: int


def boundary(outcome: Outcome) -> tuple[Boundary, ...]:
    """At most eight hits, strongest first: records before phrases, later before earlier.

    What the child declared itself comes first, without a span.  A suspect stands alone.
    """
    seen = [*_seen("stderr", outcome.stderr), *_seen("stdout", outcome.stdout)]
    ranked = sorted(
        (pair for one in seen for pair in _hits(one)),
        key=lambda pair: (pair[1].disposition == "encountered", pair[0], -pair[1].start),
    )
    found = _declared(outcome)
    for _, hit in ranked:
        if all((hit.kind, hit.pattern) != (other.kind, other.pattern) for other in found):
            found.append(hit)
    if not found and not outcome.succeeded and not any(one.success >= 0 for one in seen):
        found = [hit for one in seen for hit in _suspected(one)]
    if outcome.succeeded:
        found = [msgspec.structs.replace(hit, disposition="encountered") for hit in found]
    return tuple(found[:BOUNDARIES_MAX])


def _declared(outcome: Outcome) -> list[Boundary]:
    if outcome.declared is None:
        return []
    return [Boundary(kind=outcome.declared, disposition="stopped_by", pattern="declared")]


def _seen(stream: StreamName, text: str) -> Iterator[_Seen]:
    if not text:
        return
    base = max(0, len(text) - WINDOW_CHARS_MAX)
    folded = Folded(text[base:], base)
    told = records.read(folded)
    yield _Seen(
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


def _hits(seen: _Seen) -> Iterator[tuple[int, Boundary]]:
    """Every hit in one stream with its rank, in no order."""
    for hit in _widest([*_of_records(seen), *_of_phrases(seen)]):
        start, end = seen.folded.span(hit.start, hit.end)
        yield (
            hit.rank,
            Boundary(
                kind=hit.kind,
                disposition="encountered" if hit.start < seen.success else "stopped_by",
                pattern=hit.pattern,
                stream=seen.stream,
                start=start,
                end=end,
            ),
        )


def _widest(hits: list[_Hit]) -> Iterator[_Hit]:
    """``hits`` without those that stand inside another of their rank or a better one."""
    ends = [0, 0, 0, 0]
    for hit in sorted(hits, key=lambda hit: (hit.start, -hit.end, hit.rank)):
        if hit.end > max(ends[: hit.rank + 1]):
            ends[hit.rank] = hit.end
            yield hit


def _of_records(seen: _Seen) -> Iterator[_Hit]:
    for one in seen.told.found:
        if one.meaning != "success" and not (
            one.literal and guarded(seen.folded, one.start, one.end, quoted=True)
        ):
            yield _Hit(rank=0, kind=one.meaning, pattern=one.pattern, start=one.start, end=one.end)


def _of_phrases(seen: _Seen) -> Iterator[_Hit]:
    text = seen.folded.text
    for phrase in boundary_rules().phrase:
        near = [span for span in seen.spans if anchored(phrase.anchor, text[slice(*span)])]
        for start, end in _places(seen, phrase, near):
            yield _Hit(
                rank=phrase.rank, kind=phrase.kind, pattern=phrase.name, start=start, end=end
            )


def _places(seen: _Seen, phrase: Phrase, spans: list[_Span]) -> Iterator[_Span]:
    pattern = compiled(phrase.pattern)
    hits = deque(
        (hit.span() for span in spans for hit in pattern.finditer(seen.folded.text, *span)),
        maxlen=_HITS_OF_A_PHRASE_MAX,
    )
    for start, end in hits:
        if not _is_closed(seen, start) and not guarded(seen.folded, start, end, phrase.needs):
            yield start, end


def _is_closed(seen: _Seen, place: int) -> bool:
    """Whether ``place`` stands in a part of a record where words mean nothing."""
    nearest = bisect_right(seen.told.closed, place, key=lambda part: part[0]) - 1
    return nearest >= 0 and place < seen.told.closed[nearest][1]


def _suspected(seen: _Seen) -> Iterator[Boundary]:
    for kind, start, end in suspects(seen.folded, seen.spans):
        if not _is_closed(seen, start):
            first, last = seen.folded.span(start, end)
            yield Boundary(
                kind=kind,
                disposition="suspected",
                pattern=f"suspected {kind}",
                stream=seen.stream,
                start=first,
                end=last,
            )
