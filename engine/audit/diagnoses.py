"""Diagnoses taken again: what the detectors make of an attempt's end today, asked once if possible.

Pure but for what it is given to read output with.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.audit.outputs import REMEMBERED_MAX, Outputs, ReadOutput
from engine.detect import DETECTORS
from engine.detect.diagnosis import Diagnosis, diagnosis_of
from engine.detect.known_limits import KnownLimits
from engine.events import AttemptFinished
from engine.triage.policy import Policy

NOTHING_TO_SAY = Diagnosis(None, None, (), None)

CONTRADICTED = (AssertionError, LookupError, TypeError, ValueError, AttributeError)
"""What folds, rules and detectors raise over a log that contradicts itself."""


class Ahead(msgspec.Struct, frozen=True, kw_only=True):
    """The diagnosis of the end at ``pos``, and the two settings of the policy it rests on."""

    pos: int
    detectors: str
    timeouts: str
    found: Diagnosis


TakeAhead = Callable[[int], Ahead | None]
"""What another process found already at a position, asked in order; None where it says nothing."""


class Diagnoses:
    """Takes diagnoses again; ``ahead`` knows some of them.

    ``remembered`` says whether the last one was known because children had said the very same.
    """

    def __init__(self, read_output: ReadOutput, ahead: TakeAhead | None = None) -> None:
        self.outputs = Outputs(read_output)
        self.remembered = False
        self._ahead = ahead
        self._uneventful: set[tuple[object, ...]] = set()
        self._limits = KnownLimits()

    def of(self, pos: int, finished: AttemptFinished, policy: Policy) -> Diagnosis | str:
        """What the detectors say today, or why they cannot be asked."""
        if finished.told is None:
            return "the log does not hold what the detectors read"
        said = _said(finished, policy)
        self.remembered = said in self._uneventful
        if self.remembered:
            return NOTHING_TO_SAY
        found = self._known(pos, policy) or self._asked(finished, policy)
        if found == NOTHING_TO_SAY:
            if len(self._uneventful) < REMEMBERED_MAX:
                self._uneventful.add(said)
            return NOTHING_TO_SAY
        return found

    def _known(self, pos: int, policy: Policy) -> Diagnosis | None:
        known = None if self._ahead is None else self._ahead(pos)
        if known is None or known.detectors != policy.detectors:
            return None
        return known.found if known.timeouts == policy.timeout_fingerprints else None

    def _asked(self, finished: AttemptFinished, policy: Policy) -> Diagnosis | str:
        streams = self.outputs.of(finished)
        if streams is None:
            return "the output that the detectors read is gone"
        detectors = DETECTORS[policy.detectors]
        known = self._limits.of(finished, streams, detectors)
        return diagnosis_of(finished, streams, detectors, policy.timeout_fingerprints, known)


def _said(finished: AttemptFinished, policy: Policy) -> tuple[object, ...]:
    """All that a diagnosis with nothing to say rests on; ids are no part of it."""
    return (
        policy.detectors,
        finished.ending,
        finished.final_state,
        finished.exit_code,
        finished.signal,
        finished.told,
        finished.yield_events > 0,
        finished.lines_rejected,
        finished.stdout,
        finished.stderr,
    )
