"""``standard-1``: Runoff's own detectors, three rule sets in one."""

from __future__ import annotations

from engine.detect.boundary import boundary
from engine.detect.fingerprint import error_text, fingerprint
from engine.detect.port import Detectors, Source
from engine.detect.released import BOUNDARY, FINGERPRINT, SHA256, ZERO_YIELD
from engine.detect.zero_yield import zero_yield

STANDARD_1 = Detectors(
    name="standard-1",
    fingerprint=fingerprint,
    boundary=boundary,
    zero_yield=zero_yield,
    error_text=error_text,
    sources={
        "fingerprint": Source(FINGERPRINT, SHA256[FINGERPRINT]),
        "boundary": Source(BOUNDARY, SHA256[BOUNDARY]),
        "zero_yield": Source(ZERO_YIELD, SHA256[ZERO_YIELD]),
    },
)
