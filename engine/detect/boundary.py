"""``boundary-1``: whether a limit of the model or its provider ended the work.

Three tiers.  Records say it in fields (``finish_reason: length``); phrases say it in words that
assert an event ("prompt is too long"), never in a bare noun ("max tokens"); where neither says
anything, words in the shape of a limit are suspected.  A hit stopped the attempt only if it did not
succeed and nothing after the hit says that work went on well; a suspect never did.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.detect.catalogue import boundary_rules
from engine.detect.port import BOUNDARIES_MAX, Boundary, Outcome
from engine.detect.seen import Seen, phrase_matches, record_match, seen_in
from engine.detect.suspects import suspects
from engine.events.diagnosis import DECLARED, BoundaryKind


class _Hit(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate; ``rank`` is 0 for records, 1 to 3 for phrases."""

    rank: int
    kind: BoundaryKind
    pattern: str
    start: int
    end: int


def boundary(outcome: Outcome) -> tuple[Boundary, ...]:
    """At most eight hits, strongest first: records before phrases, later before earlier.

    What the child declared itself comes first, without a span.  A suspect stands alone.
    """
    streams = seen_in(outcome)
    ranked = sorted(
        (pair for seen in streams for pair in _hits(seen)),
        key=lambda pair: (pair[1].disposition == "encountered", pair[0], -pair[1].start),
    )
    found = _declared(outcome)
    for _, hit in ranked:
        if all(hit.pattern != other.pattern for other in found):
            found.append(hit)
    if not found and not outcome.succeeded and not any(seen.success >= 0 for seen in streams):
        found = [hit for seen in streams for hit in _suspected(seen)]
    if outcome.succeeded:
        found = [msgspec.structs.replace(hit, disposition="encountered") for hit in found]
    return tuple(found[:BOUNDARIES_MAX])


def _declared(outcome: Outcome) -> list[Boundary]:
    if outcome.declared is None:
        return []
    return [Boundary(kind=outcome.declared, disposition="stopped_by", pattern=DECLARED)]


def _hits(seen: Seen) -> Iterator[tuple[int, Boundary]]:
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


def _of_records(seen: Seen) -> Iterator[_Hit]:
    for one in seen.told.found:
        if one.meaning != "success" and record_match(seen, one).held_back is None:
            yield _Hit(rank=0, kind=one.meaning, pattern=one.pattern, start=one.start, end=one.end)


def _of_phrases(seen: Seen) -> Iterator[_Hit]:
    for phrase in boundary_rules().phrase if seen.spans else ():
        for start, end, held_back in phrase_matches(seen, phrase):
            if held_back is None:
                yield _Hit(
                    rank=phrase.rank, kind=phrase.kind, pattern=phrase.name, start=start, end=end
                )


def _suspected(seen: Seen) -> Iterator[Boundary]:
    for kind, start, end in suspects(seen):
        first, last = seen.folded.span(start, end)
        yield Boundary(
            kind=kind,
            disposition="suspected",
            pattern=f"suspected {kind}",
            stream=seen.stream,
            start=first,
            end=last,
        )
