"""Detectors: pure functions from what an attempt left behind to what it means."""

from engine.detect.port import (
    Boundary,
    Detectors,
    Fingerprint,
    Outcome,
    StreamName,
    ZeroYield,
)
from engine.detect.versions import DETECTORS, detectors

__all__ = [
    "DETECTORS",
    "Boundary",
    "Detectors",
    "Fingerprint",
    "Outcome",
    "StreamName",
    "ZeroYield",
    "detectors",
]
