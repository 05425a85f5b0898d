"""Tier three: words in the shape of a limit, in a line that looks like an error, and no rule.

They never count as a hit.  They are told so that an audit can list what the rules may have missed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from engine.detect.catalogue import boundary_rules, compiled
from engine.detect.guards import guarded, line_around
from engine.detect.seen import Seen, is_answer, places_of
from engine.events.diagnosis import BoundaryKind

_SPANS_MAX = 40
_HITS_OF_A_KIND_MAX = 10
_END_CHARS = 8 * 1024


def suspects(seen: Seen) -> Iterator[tuple[BoundaryKind, int, int]]:
    """At most one: the last words in the shape of a limit, by the first kind that they fit.

    Looked for where phrases are, and in the last 8 Ki characters; never in what a model answered.
    """
    text = seen.folded.text
    error = compiled(boundary_rules().guard.error)
    last_words = text.rstrip().rfind("\n") + 1
    end_from = max(0, len(text) - _END_CHARS)
    looked_at = [span for span in seen.spans[-_SPANS_MAX:] if span[1] <= end_from]
    looked_at.append((end_from, len(text)))
    for suspect in boundary_rules().suspect:
        places = places_of(text, looked_at, suspect.anchor, suspect.pattern)
        hits = deque(
            (place for place in places if not is_answer(seen, place[0])),
            maxlen=_HITS_OF_A_KIND_MAX,
        )
        for start, end in reversed(hits):
            # What a failed program prints last counts as an error, whatever it looks like.
            looks_wrong = start >= last_words or error.search(text, *line_around(text, start, end))
            if looks_wrong and not guarded(seen.folded, start, end):
                yield suspect.kind, start, end
                return
