"""What each tier of the boundary rules says of an outcome, hits and what was held back alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from engine.detect.catalogue import boundary_rules
from engine.detect.port import Outcome, StreamName
from engine.detect.seen import Seen, phrase_matches, record_match, seen_in
from engine.detect.suspects import suspects
from engine.events.diagnosis import BoundaryKind

Tier = Literal["record", "phrase", "suspect"]


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that matches, at ``text[start:end]`` of its stream, and what holds it back, if any.

    ``kind`` is success for a record of a good end.
    """

    tier: Tier
    rule: str
    kind: BoundaryKind | Literal["success"]
    stream: StreamName
    start: int
    end: int
    held_back: str | None


def examine(outcome: Outcome) -> list[Sighting]:
    """Every match of every tier, by stream and place.  Pure."""
    found = [
        msgspec.structs.replace(one, start=place[0], end=place[1])
        for seen in seen_in(outcome)
        for one in (*_records(seen), *_phrases(seen), *_suspects(seen))
        for place in [seen.folded.span(one.start, one.end)]
    ]
    return sorted(found, key=lambda one: (one.stream, one.start, one.end))


def _records(seen: Seen) -> Iterator[Sighting]:
    for one in seen.told.found:
        yield Sighting(
            tier="record",
            rule=one.pattern,
            kind=one.meaning,
            stream=seen.stream,
            start=one.start,
            end=one.end,
            held_back=record_match(seen, one).held_back,
        )


def _phrases(seen: Seen) -> Iterator[Sighting]:
    for phrase in boundary_rules().phrase:
        for start, end, held_back in phrase_matches(seen, phrase):
            yield Sighting(
                tier="phrase",
                rule=phrase.name,
                kind=phrase.kind,
                stream=seen.stream,
                start=start,
                end=end,
                held_back=held_back,
            )


def _suspects(seen: Seen) -> Iterator[Sighting]:
    for kind, start, end in suspects(seen):
        yield Sighting(
            tier="suspect",
            rule=f"suspected {kind}",
            kind=kind,
            stream=seen.stream,
            start=start,
            end=end,
            held_back=None,
        )
