"""Which samples a calibration reads, and what the rest is counted as."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from engine.calibration.result import Settings
from engine.calibration.samples import Sample


class Selected(NamedTuple):
    """Samples to calibrate from; what else there was: of other coefficients, or not asked for."""

    samples: list[Sample]
    stale: Counter[str]
    outside: int


def selected(samples: Iterable[Sample], settings: Settings) -> Selected:
    """The samples that were asked for, of the current coefficients."""
    runs = frozenset(settings.include_run_ids)
    since, until = settings.since or 0, settings.until
    current = settings.coefficient_version
    found = Selected([], Counter(), 0)
    outside = 0
    for sample in samples:
        is_late = until is not None and sample.pos > until
        if is_late or sample.pos < since or (runs and sample.run_id not in runs):
            outside += 1
        elif current is not None and sample.version != current and _is_estimated(sample):
            found.stale[sample.version] += 1
        else:
            found.samples.append(sample)
    return found._replace(outside=outside)


def _is_estimated(sample: Sample) -> bool:
    """One that no coefficients were used for is missing an estimate, not stale."""
    return bool(sample.version) or sample.estimated is not None


def input_sha256(samples: Sequence[Sample]) -> str:
    """The identity of a set of samples: sha256 over their fields as JSON, one a line, in order.

    NaN and infinity, which JSON has no word for, are written as null.
    """
    encoder = msgspec.json.Encoder()
    lines = encoder.encode_lines(sorted(samples, key=attrgetter("pos")))
    return hashlib.sha256(lines).hexdigest()
