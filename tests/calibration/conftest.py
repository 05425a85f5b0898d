"""Samples for the statistics: made by hand, by chance, and from the shared data."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.calibration.calibrate import calibrate
from engine.calibration.result import Calibration, Settings
from engine.calibration.samples import Sample

DATA = Path(__file__).parents[3] / "shared" / "data"


def sample(pos: int, x: float = 1.0, **more: object) -> Sample:
    """A clean sample of its own phase, estimated at 1000 tokens, of which ``x`` times came."""
    made = Sample(pos, "r", f"p{pos}", "docs", "low", 1000.0, 1000.0 * x, True, False)
    return replace(made, **more)


def calibrated(samples: Sequence[Sample], min_samples: int = 5, **more: object) -> Calibration:
    settings = Settings(min_samples=min_samples, confidence_threshold=0.7, **more)  # type: ignore[arg-type]
    return calibrate(samples, settings)


def by_chance(seed: int, count: int, groups: int = 5, truncated: float = 0.15) -> list[Sample]:
    """Log-normal ratios of several groups, some cut off at a ceiling, some phases repeated."""
    rng = random.Random(seed)
    found: list[Sample] = []
    for pos in range(1, count + 1):
        group = rng.randrange(groups)
        estimated = rng.choice([500.0, 1000.0, 4200.0])
        actual = float(round(estimated * rng.lognormvariate(0.4 - 0.3 * group, 0.3 + 0.1 * group)))
        is_cut = rng.random() < truncated
        found.append(
            Sample(
                pos,
                f"r{group}",
                f"p{rng.randrange(count)}",
                f"c{group}",
                rng.choice(["low", "LOW"]),
                estimated,
                actual * rng.uniform(0.4, 0.95) if is_cut else actual,
                rng.random() < 0.9,
                is_cut,
            )
        )
    return found


@pytest.fixture(scope="session")
def data() -> Path:
    """The shared calibration data; tests that need it are skipped where it is not."""
    if not DATA.exists():
        pytest.skip("needs the shared data")
    return DATA
