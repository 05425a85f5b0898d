"""Days at random: people who pause, seed, reload and requeue at any moment, crashes in between.

Whatever they do, the history keeps its invariants and every decision is taken again alike.
"""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import anyio
import pytest
from msgspec.structs import replace

from engine.audit.histories import Histories
from engine.audit.lines import Line, commands
from engine.audit.redecide import Redecision
from engine.daemon.service import Service
from engine.errors import RunoffError, UsageProblem
from engine.events import event_of
from engine.executors.scripted import Rule
from engine.triage.operating import ReinstateRun, RequeuePhase
from engine.triage.policy import POLICIES
from tests.living import HOUR_S, MINUTE_S, Living, SettableClock, group

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "24")))
SAID: dict[str, Any] = {"by": "sim", "why": "try"}
KINDS = (
    Rule(state="COMPLETE", rc=0, events=2),
    Rule(state="COMPLETE", rc=0),
    Rule(state="FAILED", rc=1, reason="the database is down"),
    Rule(state="FAILED", rc=1, reason="{phase} broke", events=1),
    Rule(state="FAILED", rc=1, stderr="429 rate limit exceeded. Please try again in 20m."),
)


class Days:
    """One seed's days."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        rules = [
            Rule(
                phase=f"p{number}",
                state=kind.state,
                rc=kind.rc,
                reason=kind.reason,
                events=kind.events,
                stderr=kind.stderr,
                sleep=self.random.uniform(1, 20 * MINUTE_S),
            )
            for number, kind in enumerate(self.random.choices(KINDS, k=5))
        ]
        self.living = Living(rules=rules, **self.settings())
        self.clock = self.living.clock = SettableClock(self.living.clock.now_us())
        self.runs = 0

    def settings(self) -> dict[str, Any]:
        pick = self.random.choice
        return {
            "workers": self.random.randint(1, 5),
            "session_hours": pick([1.0, 5.0, 24.0]),
            "stop_seconds": pick([0.0, 30.0, 3600.0]),
            "windows": pick([(), (), ("20:00-06:00",), ("00:00-11:00", "12:00-13:30")]),
            "timezone": pick(["UTC", "Europe/Berlin"]),
            "budget": pick([(), (), ("day:attempts=9",), ("run:minutes=60",)]),
        }

    async def do(self, service: Service) -> None:
        """Something that somebody may do, sensible or not."""
        match self.random.randint(0, 9):
            case 9:
                self.clock.set_back(self.random.choice([0.5, MINUTE_S, 5 * HOUR_S, -HOUR_S]))
            case 0:
                await service.pause(**SAID)
            case 1 | 2:
                await service.resume(**SAID)
            case 3 | 7 | 8:
                self.runs += 1
                await service.intake.register(group(f"r{self.runs}", self.random.randint(1, 5)))
            case 4:
                policy = self.random.choice([*POLICIES.values(), service.plan.policy])
                samples = self.random.choice([None, 1, 3])
                changed = replace(policy, name="sim", samples_at_first=samples)
                self.living.again(changed, **self.settings())
                await service.reload()
            case 5:
                run_id = f"r{self.random.randint(1, max(1, self.runs))}"
                await service.intake.operate(RequeuePhase(run_id=run_id, phase_id="p0", **SAID))
            case _:
                run_id = f"r{self.random.randint(1, max(1, self.runs))}"
                await service.intake.operate(ReinstateRun(run_id=run_id, **SAID))

    async def life(self) -> None:
        """Hours of a daemon with whoever comes by, two of them at once now and then."""
        async with self.living.life() as service:
            for _ in range(self.random.randint(3, 14)):
                await anyio.sleep(self.random.choice([0.0, 1.0, self.random.random() * 6 * HOUR_S]))
                try:
                    await self.do(service)
                except UsageProblem:
                    continue

    async def crash(self) -> None:
        """A life whose writer is gone at a random moment."""
        died: list[BaseException] = []
        try:
            async with self.living.life() as service:
                await anyio.sleep(self.random.random() * 3 * HOUR_S)
                service.recorder.close()
        except* RunoffError as group_:
            died += group_.exceptions


@pytest.mark.parametrize("seed", SEEDS)
async def test_whatever_people_do_the_log_keeps_its_laws(seed: int, tmp_path: Path) -> None:
    days = Days(seed)
    for _ in range(days.random.randint(1, 3)):
        await days.life()
        if days.random.random() < 0.4:
            await days.crash()
    days.living.again(POLICIES["default"], workers=4)
    async with days.living.life(group("last", 2)) as service:
        await service.resume(**SAID)
        await anyio.sleep(4 * HOUR_S)
        assert service.status().open_attempts == 0 or service.recorder.head.pos > 0
    records = await days.living.records()
    found: list[str] = []
    histories = Histories(lambda what, pos: found.append(f"{what} @{pos}"), tmp_path)
    again = Redecision(days.living.blobs.get)
    for record in records:
        histories.take(record.pos, record.cause, json.loads(record.data))
    histories.close()
    lines = [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r)) for r in records
    ]
    for each in commands(lines):
        again.take(each)
    assert [what for what in found if not what.startswith("S14")] == [], "blobs are in memory here"
    assert [difference.sentence for difference in again.differences] == []
    assert histories.open_attempts == 0
