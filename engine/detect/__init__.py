"""Detectors: pure functions from what an attempt left behind to what it means."""

from engine.detect.port import (
    Boundary,
    Detectors,
    Fingerprint,
    Outcome,
    StreamName,
    ZeroYield,
)
from engine.detect.versions import (
    DETECTORS,
    RULE_SETS,
    RuleSet,
    detectors,
    rule_set_named,
    successor_of,
)

__all__ = [
    "DETECTORS",
    "RULE_SETS",
    "Boundary",
    "Detectors",
    "Fingerprint",
    "Outcome",
    "RuleSet",
    "StreamName",
    "ZeroYield",
    "detectors",
    "rule_set_named",
    "successor_of",
]
