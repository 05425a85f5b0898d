"""The statistics against a second implementation, and against what the original printed."""

from __future__ import annotations

import json
import math
import random
import sqlite3
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.calibration.documented import documented
from engine.calibration.drift import drift_of, moving_average
from engine.calibration.result import GroupResult
from engine.calibration.samples import Group, GroupKey, Ratio, Sample, grouped
from tests.calibration import reference
from tests.calibration.conftest import by_chance, calibrated, sample


def rows_of(samples: Sequence[Sample]) -> dict[str, list[reference.Row]]:
    found: dict[str, list[reference.Row]] = defaultdict(list)
    for each in samples:
        if (each.success or each.truncated) and each.estimated and each.actual:
            name = f"{each.category}/{(each.complexity or '').lower()}"
            row = reference.Row(
                each.pos, (each.run_id, each.phase_id), each.estimated, each.actual, each.truncated
            )
            found[name].append(row)
    return found


def differences(mine: GroupResult, theirs: dict[str, Any]) -> dict[str, float]:
    return {name: abs(getattr(mine, name) - value) for name, value in theirs.items()}


@pytest.mark.parametrize("seed", range(6))
def test_documented_statistics_are_those_of_their_definitions(seed: int) -> None:
    samples = by_chance(seed, 300)
    rows = rows_of(samples)
    for group in calibrated(samples).groups:
        found = differences(group, reference.documented(rows[group.name]))
        assert max(found.values()) < 1e-9, found


@pytest.mark.parametrize("seed", range(6))
def test_extended_statistics_are_those_of_a_second_implementation(seed: int) -> None:
    samples = by_chance(seed, 60 + 60 * seed, truncated=0.06 * seed)
    groups = {name: reference.phases(rows) for name, rows in rows_of(samples).items()}
    theirs = reference.extended(groups)
    result = calibrated(samples)
    assert {group.name for group in result.groups if group.shrink is not None} == set(theirs)
    for group in result.groups:
        if group.name not in theirs:
            continue
        want = theirs[group.name]
        found = differences(
            group,
            {
                "km_log_median": want["theta"],
                "log_sd": want["sd"],
                "shrink": want["shrink"],
                "log_multiplier": want["m"],
                "log_multiplier_sd": want["se"],
                "proposed_multiplier": math.exp(want["m"]),
                "multiplier_low": math.exp(want["m"] - 1.6449 * want["se"]),
                "multiplier_high": math.exp(want["m"] + 1.6449 * want["se"]),
                "confidence": want["confidence"],
                "budget_p90_multiplier": math.exp(want["p90"]),
                "budget_p98_multiplier": math.exp(want["p98"]),
            },
        )
        assert max(found.values()) < 1e-4, (group.name, found)


@pytest.mark.parametrize("seed", range(4))
def test_one_sample_per_phase_is_the_last_clean_or_the_longest_truncated(seed: int) -> None:
    rng = random.Random(seed)
    samples = [
        replace(each, phase_id=f"p{rng.randrange(9)}")
        for each in by_chance(seed, 80, groups=2, truncated=0.6)
    ]
    for group in grouped(samples):
        mine = [(ratio.pos, ratio.is_censored) for ratio in group.ratios]
        theirs = reference.phases(rows_of(samples)["/".join(group.key)])
        assert mine == [(row.at, row.is_cut) for row in theirs]


@pytest.mark.parametrize("seed", range(8))
def test_the_watch_rings_when_the_plain_rank_test_does(seed: int) -> None:
    rng = random.Random(seed)
    # Whole tenths, so that there are ties; a step, so that there are alarms.
    xs = [round(rng.gauss(0.9 * (120 < i < 260), 1), 1) for i in range(700 if seed == 0 else 330)]
    drift = drift_of([Ratio(at, x, False) for at, x in enumerate(xs, 1)])
    assert [alarm.pos for alarm in drift.alarms] == reference.alarms(xs)
    first = drift.alarms[0]
    assert first.z == pytest.approx(
        reference.rank_z(xs[: first.pos - 25], xs[first.pos - 25 : first.pos])
    )


def test_the_watch_counts_finished_answers_only_and_stands_equal_ones() -> None:
    alike = [Ratio(at, 0.5, at % 4 == 0) for at in range(100)]
    drift = drift_of(alike)
    assert (drift.watched, drift.needed, drift.z, drift.alarms) == (75, 0, 0.0, ())
    assert drift_of(alike[:40]).needed == 15


def test_the_average_for_the_eye_moves_by_a_tenth() -> None:
    assert moving_average([1.0, 2.0, 2.0]) == pytest.approx([1.0, 1.1, 1.19])


def test_what_the_original_printed_is_printed_again(data: Path) -> None:
    golden = json.loads((data / "golden_calibration_autopack.json").read_text())["seed_a093f0d0"]
    found: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    columns = "category, complexity, predicted_output_tokens, actual_output_tokens"
    with closing(sqlite3.connect(f"file:{data}/autopack_legacy.db?mode=ro", uri=True)) as source:
        table = f"SELECT {columns} FROM token_estimation_v2_events"
        for row in source.execute(f"{table} WHERE success = 1 AND truncated = 0"):
            place = len(found[row[:2]])
            found[row[:2]].append(sample(place, estimated=float(row[2]), actual=float(row[3])))
    assert set(found) == {(want["category"], want["complexity"]) for want in golden}
    for want in golden:
        group = Group(GroupKey("any", "any"), found[want["category"], want["complexity"]])
        assert_as_printed(documented(group)._asdict(), want, group)


def assert_as_printed(mine: dict[str, Any], want: dict[str, Any], group: Group) -> None:
    for name in ("avg_actual", "avg_estimated", "avg_ratio", "min_ratio", "max_ratio"):
        assert mine[name] == pytest.approx(want[name], abs=1e-6), name
    assert mine["sample_count"] == want["n"]
    assert mine["documented_confidence"] == pytest.approx(want["confidence"], abs=1e-6)
    ratios = sorted((each.actual or 0) / (each.estimated or 1) for each in group.clean)
    # The original took the upper of two middles.
    assert ratios[len(ratios) // 2] == pytest.approx(want["median_ratio"], abs=1e-6)


@pytest.mark.slow
def test_a_hundred_thousand_samples_take_two_seconds() -> None:
    samples = by_chance(1, 100_000, groups=14, truncated=0.1)
    took: list[float] = []
    for _ in range(3):
        begun = time.process_time()
        calibrated(samples)
        took.append(time.process_time() - begun)
    assert min(took) < 2.0
