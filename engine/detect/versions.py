"""The released detector sets by name.  A released set never changes; a better one is a new name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, get_args

from engine.detect.classic import CLASSIC_1
from engine.detect.port import Detectors
from engine.detect.standard import STANDARD_1
from engine.errors import LogUnreadable, UsageProblem
from engine.events import Diagnosed

DETECTORS: Mapping[str, Detectors] = MappingProxyType(
    {released.name: released for released in (CLASSIC_1, STANDARD_1)}
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


SUCCESSORS: Mapping[str, str] = MappingProxyType({"plain-1": STANDARD_1.name})
"""Sets that first programs had and that are gone, each with the one that judges in its place."""


def successor_of(name: str) -> str:
    """What goes on where a log names a set: itself, or what came after one that is gone.

    Raises LogUnreadable for a set that no program up to this one had.
    """
    found = SUCCESSORS.get(name, name)
    if found not in DETECTORS:
        raise LogUnreadable(
            f"a recorded policy names the detectors {name[:40]!a}, which are unknown here.",
            remedy="use the version of runoff that wrote it, or a newer one.",
        )
    return found


KINDS: tuple[Diagnosed, ...] = get_args(Diagnosed)


class RuleSet(NamedTuple):
    """What can be asked of old attempts: one rule set, or all of a set of detectors."""

    name: str
    kinds: tuple[Diagnosed, ...]
    detectors: Detectors


def _rule_sets() -> dict[str, RuleSet]:
    found = {name: RuleSet(name, KINDS, released) for name, released in DETECTORS.items()}
    for released in DETECTORS.values():
        for what, source in released.sources.items():
            found[source.name] = RuleSet(source.name, (what,), released)
    return found


RULE_SETS: Mapping[str, RuleSet] = MappingProxyType(_rule_sets())


def rule_set_named(name: str) -> RuleSet:
    """The rule set called ``name``.  Raises UsageProblem, naming those there are."""
    try:
        return RULE_SETS[name]
    except KeyError:
        raise UsageProblem(
            f"there is no rule set called {name[:40]!a}.",
            remedy=f"choose one of {', '.join(RULE_SETS)}.",
        ) from None
