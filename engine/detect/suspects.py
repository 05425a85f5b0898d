"""Tier three: words in the shape of a limit, in a line that looks like an error, and no rule.

They never count as a hit.  They are told so that an audit can list what the rules may have missed.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.detect.catalogue import anchored, boundary_rules, compiled
from engine.detect.folded import Folded
from engine.detect.guards import guarded, line_around
from engine.events.diagnosis import BoundaryKind

_LOOKED_AT_MAX = 40


def suspects(
    folded: Folded, spans: tuple[tuple[int, int], ...]
) -> Iterator[tuple[BoundaryKind, int, int]]:
    """At most one: the last words in the shape of a limit, by the first kind that they fit.

    ``spans``: where to look.
    """
    text = folded.text
    error = compiled(boundary_rules().guard.error)
    for first, last in spans[: -_LOOKED_AT_MAX - 1 : -1]:
        for suspect in boundary_rules().suspect:
            if not anchored(suspect.anchor, text[first:last]):
                continue
            for hit in compiled(suspect.pattern).finditer(text, first, last):
                start, end = hit.span()
                looks_wrong = error.search(text, *line_around(text, start, end))
                if looks_wrong and not guarded(folded, start, end):
                    yield suspect.kind, start, end
                    return
