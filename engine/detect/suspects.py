"""Tier three: words in the shape of a limit, in a line that looks like an error, and no rule.

They never count as a hit.  They are told so that an audit can list what the rules may have missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from engine.detect.catalogue import anchored, boundary_rules, compiled
from engine.detect.folded import Folded
from engine.detect.guards import guarded, line_around
from engine.events.diagnosis import BoundaryKind

_SPANS_MAX = 40
_HITS_OF_A_KIND_MAX = 10
_END_CHARS = 8 * 1024


def suspects(
    folded: Folded, spans: tuple[tuple[int, int], ...]
) -> Iterator[tuple[BoundaryKind, int, int]]:
    """At most one: the last words in the shape of a limit, by the first kind that they fit.

    ``spans``: where to look, besides the last 8 Ki characters.
    """
    text = folded.text
    error = compiled(boundary_rules().guard.error)
    last_words = text.rstrip().rfind("\n") + 1
    end_from = max(0, len(text) - _END_CHARS)
    looked_at = [span for span in spans[-_SPANS_MAX:] if span[1] <= end_from]
    looked_at.append((end_from, len(text)))
    for suspect in boundary_rules().suspect:
        near = [span for span in looked_at if anchored(suspect.anchor, text[slice(*span)])]
        if not near:
            continue
        pattern = compiled(suspect.pattern)
        hits = deque(
            (hit.span() for span in near for hit in pattern.finditer(text, *span)),
            maxlen=_HITS_OF_A_KIND_MAX,
        )
        for start, end in reversed(hits):
            # What a failed program prints last counts as an error, whatever it looks like.
            looks_wrong = start >= last_words or error.search(text, *line_around(text, start, end))
            if looks_wrong and not guarded(folded, start, end):
                yield suspect.kind, start, end
                return
