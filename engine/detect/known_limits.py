"""The limits in what children say, looked for once among children that say the very same.

Runs that fail alike are what Runoff is for, and looking for limits takes most of a diagnosis.
"""

from __future__ import annotations

import msgspec

from engine.detect.diagnosis import Streams, outcome_of
from engine.detect.port import Boundary, Detectors, Outcome
from engine.events import AttemptFinished

CHARS_MAX = 4_000_000
"""Of all outcomes that are remembered together, so that a long log is no long memory."""

_CHARS_EACH = 1000
"""For what an outcome holds beside its texts."""


class KnownLimits:
    """Answers as ``Detectors.boundary`` does, whoever's outcome it is: no id plays a part."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Outcome], tuple[Boundary, ...]] = {}
        self._chars = 0

    def of(
        self, finished: AttemptFinished, streams: Streams, detectors: Detectors
    ) -> tuple[Boundary, ...]:
        """The limits in an outcome.  Threads may ask side by side: at worst both look."""
        said = msgspec.structs.replace(
            finished, session_id="", run_id="", phase_id="", attempt_id=""
        )
        outcome = outcome_of(said, streams)
        key = (detectors.name, outcome)
        found = self._found.get(key)
        if found is None:
            found = detectors.boundary(outcome)
            self._remember(key, found)
        return found

    def _remember(self, key: tuple[str, Outcome], found: tuple[Boundary, ...]) -> None:
        chars = _CHARS_EACH + len(key[1].stdout) + len(key[1].stderr)
        if self._chars + chars > CHARS_MAX:
            self._found.clear()
            self._chars = 0
        self._found[key] = found
        self._chars += chars
