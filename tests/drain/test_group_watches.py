"""Watching step by step comes to what watching everything again would."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from msgspec.structs import replace

from engine.calibration.drift import drift_of
from engine.calibration.samples import grouped
from engine.drain.group_watches import GroupWatches
from engine.events import DriftAlarmed
from projections.calibration import IMPORTED, PhaseSample, PhaseSamples, samples_of

STEPS = 400
SHIFTS = (1.0, 9.0, 0.5)


def measured(pos: int, actual: int, category: str, version: str, *, success: bool) -> PhaseSample:
    return PhaseSample(
        pos=pos,
        at_us=None,
        attempt_id=None,
        category=category,
        complexity="low",
        alias="",
        estimated_tokens=1000,
        budget_tokens=None,
        deliverables=None,
        output_tokens=actual,
        version=version,
        success=success,
        truncated=False,
    )


class World:
    """Phases whose samples come, change and come again; ``steps`` counts what happened."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.phases: list[PhaseSamples] = []
        self.steps: Counter[str] = Counter()

    def step(self, pos: int) -> PhaseSamples:
        kind = self.random.choices(("new", "again", "cut"), (90, 7, 3))[0]
        if not self.phases:
            kind = "new"
        self.steps[kind] += 1
        if kind == "new":
            self.phases.append(PhaseSamples(run_id="r", phase_id=f"p{pos}"))
        place = len(self.phases) - 1 if kind == "new" else self.random.randrange(len(self.phases))
        phase = self.phases[place]
        if kind == "cut":
            last = replace(phase.samples[-1], truncated=True)
            phase = replace(phase, samples=(*phase.samples[:-1], last))
        else:
            phase = replace(phase, samples=(*phase.samples, self.sample(pos)))
        self.phases[place] = phase
        return phase

    def sample(self, pos: int) -> PhaseSample:
        middle = 1000 * SHIFTS[pos * len(SHIFTS) // (STEPS + 1)]
        return measured(
            pos,
            int(middle * self.random.lognormvariate(0, 0.5)) + 1,
            self.random.choices(("docs", "tests"), (9, 1))[0],
            self.random.choices(("1", "2", "", IMPORTED), (90, 4, 3, 3))[0],
            success=self.random.random() > 0.05,
        )

    def alarms(self) -> dict[DriftAlarmed, bool]:
        """Of everything, watched from the beginning; with whether each is recent."""
        every = samples_of(self.phases)
        found: dict[DriftAlarmed, bool] = {}
        for version in ("1", "2"):
            for group in grouped(each for each in every if each.version == version):
                drift = drift_of(group.ratios)
                for alarm in drift.alarms:
                    event = DriftAlarmed(
                        category=group.key.category,
                        complexity=group.key.complexity,
                        coefficient_version=version,
                        position=alarm.pos,
                        z=alarm.z,
                    )
                    found[event] = drift.status == "alarm" and alarm == drift.alarms[-1]
        return found


@pytest.mark.parametrize("seed", range(12))
def test_every_look_finds_what_watching_all_of_it_again_would(seed: int) -> None:
    world, watches = World(seed), GroupWatches()
    rung: set[DriftAlarmed] = set()
    for pos in range(1, STEPS + 1):
        watches.put(world.step(pos))
        if world.random.random() < 0.1 or pos == STEPS:
            told, wanted = dict(watches.alarms()), world.alarms()
            rung.update(told)
            assert told.items() <= wanted.items()
            assert wanted.keys() <= rung
    assert world.alarms(), "a shift of this size rings"
    assert min(world.steps.values()) >= 3
    assert len(world.steps) == 3


def test_an_alarm_is_news_until_25_more_phases_have_come() -> None:
    watches = GroupWatches()
    recent: list[tuple[int, bool]] = []
    for pos in range(1, 101):
        actual = 1000 + pos % 7 if pos <= 60 else 9000 + pos % 7
        sample = measured(pos, actual, "docs", "1", success=True)
        watches.put(PhaseSamples(run_id="r", phase_id=f"p{pos}", samples=(sample,)))
        recent += [(pos - news.event.position, news.is_recent) for news in watches.alarms()]
    assert recent
    assert all(is_recent == (age < 25) for age, is_recent in recent)


def test_a_group_to_which_nothing_came_is_not_looked_at_again() -> None:
    watches = GroupWatches()
    phases = [
        PhaseSamples(
            run_id="r",
            phase_id=f"p{pos}",
            samples=(measured(pos, 1000 if pos <= 60 else 9000, "docs", "1", success=True),),
        )
        for pos in range(1, 101)
    ]
    for phase in phases:
        watches.put(phase)
    assert len([*watches.alarms()]) == 1
    watches.put(phases[-1])
    assert [*watches.alarms()] == []
