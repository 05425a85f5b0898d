"""On public traces: what was learnt from a few samples of each group holds for the rest."""

from __future__ import annotations

import gzip
import math
import random
from collections import defaultdict
from pathlib import Path
from statistics import fmean

import pytest

from engine.calibration.drift import Watch
from engine.calibration.samples import GroupKey, Ratio, Sample, classify, grouped, log_ratio
from engine.calibration.samples_csv import samples_from_csv
from tests.calibration.conftest import calibrated

SHUFFLES = 4
SHUFFLED_MAX = 600


@pytest.fixture(scope="module")
def traces(data: Path) -> dict[GroupKey, list[Sample]]:
    """Finished and truncated answers by group, in their order."""
    packed = (data / "calibration" / "external_dev.csv.gz").read_bytes()
    found: dict[GroupKey, list[Sample]] = defaultdict(list)
    for sample in samples_from_csv(gzip.decompress(packed).decode(), "traces"):
        if classify(sample) in ("clean", "censored"):
            found[sample.group].append(sample)
    return found


@pytest.mark.parametrize(("count", "error_max"), [(30, 0.645), (12, 0.655)])
def test_a_few_samples_a_group_make_the_rest_come_out_better(
    traces: dict[GroupKey, list[Sample]], count: int, error_max: float
) -> None:
    fitted = calibrated([each for group in traces.values() for each in group[:count]])
    alone: list[float] = []
    applied: list[float] = []
    held: list[float] = []
    for group in fitted.groups:
        rest = traces[GroupKey(group.category, group.complexity)][count:]
        xs = [log_ratio(each) for each in rest if not each.truncated]
        alone += [abs(x) for x in xs]
        applied += [abs(x - (group.log_multiplier or 0.0)) for x in xs]
        budget = math.log(group.budget_p90_multiplier or 1.0)
        held.append(fmean(x <= budget for x in xs))
    assert fmean(applied) <= error_max
    assert fmean(applied) < fmean(alone)
    assert fmean(held) >= 0.88


def test_chance_alone_seldom_rings(traces: dict[GroupKey, list[Sample]]) -> None:
    rng = random.Random(1)
    rung = watched = 0
    for _ in range(SHUFFLES):
        for group in grouped([each for samples in traces.values() for each in samples]):
            xs = rng.sample(group.events, min(len(group.events), SHUFFLED_MAX))
            watch = Watch()
            for at, x in enumerate(xs):
                rung += watch.take(Ratio(at, x, False)) is not None
            watched += len(xs)
    assert 100 * rung / watched <= 0.05
