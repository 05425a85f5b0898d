"""``plain-1``: sound and simple detectors, the first of our own."""

from __future__ import annotations

from engine.detect.boundary import boundary
from engine.detect.fingerprint import VERSION, error_text, fingerprint
from engine.detect.port import Detectors
from engine.detect.zero_yield import zero_yield

PLAIN_1 = Detectors(
    name=VERSION,
    fingerprint=fingerprint,
    boundary=boundary,
    zero_yield=zero_yield,
    error_text=error_text,
)
