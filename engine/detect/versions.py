"""The released detector sets by name.  A released set never changes; a better one is a new name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from engine.detect.classic import CLASSIC_1
from engine.detect.plain import PLAIN_1
from engine.detect.port import Detectors
from engine.errors import UsageProblem

DETECTORS: Mapping[str, Detectors] = MappingProxyType(
    {released.name: released for released in (CLASSIC_1, PLAIN_1)}
)


def detectors(name: str) -> Detectors:
    """The set called ``name``.  Raises UsageProblem, naming the sets there are."""
    try:
        return DETECTORS[name]
    except KeyError:
        raise UsageProblem(
            f"There are no detectors called {name[:40]!a}.",
            remedy=f"choose one of {', '.join(DETECTORS)}.",
        ) from None
