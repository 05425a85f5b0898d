"""The released detector sets by name.  A released set never changes; a better one is a new name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, get_args

from engine.detect.classic import CLASSIC_1
from engine.detect.plain import PLAIN_1
from engine.detect.port import Detectors
from engine.errors import UsageProblem
from engine.events import Diagnosed

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


class RuleSet(NamedTuple):
    """A released part of a detector set: what it classifies, and by which detectors."""

    name: str
    kinds: tuple[Diagnosed, ...]
    detectors: Detectors


KINDS: tuple[Diagnosed, ...] = get_args(Diagnosed)

RULE_SETS: Mapping[str, RuleSet] = MappingProxyType(
    {name: RuleSet(name, KINDS, released) for name, released in DETECTORS.items()}
)


def rule_set(name: str) -> RuleSet:
    """The rule set called ``name``.  Raises UsageProblem, naming those there are."""
    try:
        return RULE_SETS[name]
    except KeyError:
        raise UsageProblem(
            f"there is no rule set called {name[:40]!a}.",
            remedy=f"choose one of {', '.join(RULE_SETS)}.",
        ) from None
