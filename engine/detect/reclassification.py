"""Reclassification: what a rule set says today of an attempt that was diagnosed before.

Pure: ``runoff reclassify`` records what comes out of it, and an audit calls it again on the same
prefix of the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, NamedTuple

import msgspec

from engine.detect.diagnosis import Diagnosis, Streams, diagnosis_of
from engine.detect.versions import RuleSet
from engine.events import (
    AnyEvent,
    AttemptFinished,
    BoundaryDetected,
    Classified,
    Diagnosed,
    FailureFingerprinted,
    Reclassified,
    TimeoutFingerprints,
    ZeroYieldExplained,
)

Known = Mapping[Diagnosed, Classified]
"""What was said last of each; what is missing was never said."""

_OF_LIMITS: frozenset[Diagnosed] = frozenset({"boundary", "zero_yield"})


class Asked(NamedTuple):
    """Who is asked what: a rule set, for whom and why."""

    rule_set: RuleSet
    timeouts: TimeoutFingerprints
    by: str
    why: str


class Changed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One attempt of which a rule set says something else.

    ``pos`` is where it ended and ``basis`` where the last word on it stood, which may be there.
    """

    pos: int
    basis: int
    events: Annotated[tuple[Reclassified, ...], msgspec.Meta(min_length=1, max_length=3)]


def last_said(events: Iterable[AnyEvent]) -> dict[Diagnosed, Classified]:
    """What the events of one attempt, in order, say last of it."""
    found: dict[Diagnosed, Classified] = {}
    for event in events:
        if isinstance(event, Reclassified):
            if event.after is None:
                found.pop(event.what, None)
            else:
                found[event.what] = event.after
        elif isinstance(event, FailureFingerprinted | BoundaryDetected | ZeroYieldExplained):
            what, said = classified(event)
            found[what] = said
    return found


def classified(
    event: FailureFingerprinted | BoundaryDetected | ZeroYieldExplained,
) -> tuple[Diagnosed, Classified]:
    """A diagnosis as one word."""
    match event:
        case FailureFingerprinted():
            return "fingerprint", Classified(
                detector=event.detector,
                name=event.fingerprint,
                detail=event.family,
                text=event.template,
            )
        case BoundaryDetected():
            return "boundary", Classified(
                detector=event.detector,
                name=event.kind,
                detail=event.disposition,
                text=event.pattern,
                evidence=event.evidence,
            )
        case ZeroYieldExplained():
            return "zero_yield", Classified(
                detector=event.detector,
                name=event.reason,
                detail=event.detail,
                text=event.evidence,
            )


def reclassified(
    finished: AttemptFinished, streams: Streams, known: Known, asked: Asked
) -> list[Reclassified]:
    """The words of a rule set on an ended attempt that are not what was said last.

    ``finished.told`` must be there.  Who said it is no part of a word: a rule set that says the
    same changes nothing.
    """
    # Looking for limits takes most of the time, and a fingerprint does without.
    limits = () if _OF_LIMITS.isdisjoint(asked.rule_set.kinds) else None
    found = diagnosis_of(finished, streams, asked.rule_set.detectors, asked.timeouts, limits)
    now = last_said(_events_of(found))
    return [
        _event(finished, what, known.get(what), now.get(what), asked)
        for what in asked.rule_set.kinds
        if not _says_the_same(known.get(what), now.get(what))
    ]


def _events_of(found: Diagnosis) -> list[AnyEvent]:
    events: list[AnyEvent] = [*found.boundaries]
    events += [each for each in (found.fingerprinted, found.zero_yield) if each is not None]
    return events


def _says_the_same(before: Classified | None, after: Classified | None) -> bool:
    if before is None or after is None:
        return before is after
    return (before.name, before.detail) == (after.name, after.detail)


def _event(
    finished: AttemptFinished,
    what: Diagnosed,
    before: Classified | None,
    after: Classified | None,
    asked: Asked,
) -> Reclassified:
    return Reclassified(
        session_id=finished.session_id,
        run_id=finished.run_id,
        phase_id=finished.phase_id,
        attempt_id=finished.attempt_id,
        what=what,
        detector=asked.rule_set.name,
        timeouts=asked.timeouts,
        before=before,
        after=after,
        by=asked.by,
        why=asked.why,
        rules_sha256=asked.rule_set.detectors.source(what).sha256,
    )
