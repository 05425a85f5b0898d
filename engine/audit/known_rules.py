"""Whether the rules that a decision or a diagnosis came of are known here, to the last byte."""

from __future__ import annotations

from typing import Any

from engine.detect import DETECTORS
from engine.events import AnyEvent, BreakerOpened, Reason
from engine.triage.reasons import is_known

DIGESTS = frozenset(
    source.sha256
    for released in DETECTORS.values()
    for source in released.sources.values()
    if source.sha256 is not None
)
"""Of the files of all rule sets: one of another digest may have said something else."""


def unknown_in(event: AnyEvent) -> str | None:
    """What an event came of that is unknown here; None when it can be taken again."""
    why: Any = getattr(event, "reason", None)
    if isinstance(why, Reason) and not is_known(why):
        return f"rule {why.rule} version {why.version} is unknown here"
    if isinstance(event, BreakerOpened) and event.carried:
        return "a breaker that a session took over follows from a rule that is unknown here"
    digest: str | None = getattr(event, "rules_sha256", None)
    if digest is None or digest in DIGESTS:
        return None
    detector: str = getattr(event, "detector", "")
    return f"the rule set {detector} of sha256 {digest[:12]} is unknown here"
