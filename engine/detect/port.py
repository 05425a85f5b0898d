"""The detector port: what a detector may read, and what it answers.

A detector is three pure functions over one finished attempt, plus the failure's own text.  They
know no history: the same outcome gives the same answer in every session and in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, Protocol

import msgspec

from engine.events.attempts import Ended
from engine.events.diagnosis import BoundaryKind, Diagnosed, Disposition, ZeroYieldReason

WINDOW_CHARS_MAX = 384 * 1024
"""How much of one stream a detector looks at: its last characters."""

TEMPLATE_CHARS_MAX = 500
ERROR_CHARS_MAX = 2000
STORED_CHARS_MAX = 1000
BOUNDARIES_MAX = 8

StreamName = Literal["stdout", "stderr"]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a detector may read about a finished attempt.

    ``reason`` is the child's own word for its failure, ``declared`` a limit that it reported
    itself.  ``stored_reason`` was the phase's before, and it did not touch it: an older failure's,
    which only the original took for its own.  ``stdout`` and ``stderr`` are decoded windows of
    what it printed.
    """

    ended: Ended
    succeeded: bool
    final_state: str
    exit_code: int | None = None
    signal: int | None = None
    reason: str | None = None
    stored_reason: str | None = None
    stdout: str = ""
    stderr: str = ""
    yield_events: int = 0
    declared: BoundaryKind | None = None
    usage_lines_rejected: int = 0
    run_id: str = ""
    phase_id: str = ""
    attempt_id: str = ""
    workspace: str | None = None


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of a failure: ``fingerprint`` is its identity, ``family`` a wider one.

    ``template`` is the text it came from, at most 500 characters.
    """

    fingerprint: str
    family: str
    template: str
    exit_class: str


class Boundary(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of the model or provider that shows in a stream, at ``text[start:end]``.

    Offsets count characters of that stream's window; ``stream`` is None, and the span empty, when
    no text stands behind it.
    """

    kind: BoundaryKind
    disposition: Disposition
    pattern: str
    stream: StreamName | None = None
    start: int = 0
    end: int = 0


class ZeroYield(msgspec.Struct, frozen=True, kw_only=True):
    """Why an attempt produced no usage; ``evidence`` is the fact that led to it."""

    reason: ZeroYieldReason
    detail: str | None = None
    evidence: str


class ExplainZeroYield(Protocol):
    """Says why there was no usage; None when there was some."""

    def __call__(
        self, outcome: Outcome, boundaries: tuple[Boundary, ...] | None = None, /
    ) -> ZeroYield | None:
        """``boundaries``: what the same detectors found in ``outcome``; None looks again."""
        ...


class Source(NamedTuple):
    """The rule set that an answer came of; ``sha256`` is its file's, None for one without."""

    name: str
    sha256: str | None = None


class Detectors(msgspec.Struct, frozen=True, kw_only=True):
    """One released set of detectors, which policies name.

    ``sources`` says of each answer which rule set it comes of, which every event repeats; one that
    is not there comes of the set itself.  ``fingerprint`` and ``error_text`` answer None for a
    success.  ``boundary`` answers with at most eight hits, strongest first.
    """

    name: str
    fingerprint: Callable[[Outcome], Fingerprint | None]
    boundary: Callable[[Outcome], tuple[Boundary, ...]]
    zero_yield: ExplainZeroYield
    error_text: Callable[[Outcome], str | None]
    sources: Mapping[Diagnosed, Source] = {}

    def source(self, what: Diagnosed) -> Source:
        """The rule set that answers to ``what``."""
        return self.sources.get(what) or Source(self.name)
