"""Every decision of any simulated drain is taken again, byte for byte."""

from __future__ import annotations

import os

import pytest

from engine.audit.lines import Line, commands
from engine.audit.redecide import Redecision
from engine.drain.sheets import event_of
from engine.store.blobs import MemoryBlobs
from engine.store.protocol import Query
from tests.worlds import Simulation

BLOBS = MemoryBlobs()
SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "40")))


async def lines_of(world: Simulation) -> list[Line]:
    return [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r))
        for r in await world.store.records(Query(), limit=1_000_000)
    ]


async def drained(seed: int) -> Simulation:
    world = Simulation(seed, BLOBS)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)
    return world


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_drain_is_decided_again_to_the_last_byte(seed: int) -> None:
    world = await drained(seed)
    found = Redecision(BLOBS.get)
    for group in commands(iter(await lines_of(world))):
        found.take(group)
    assert [difference.sentence for difference in found.differences] == []
    assert found.unverifiable == []
    assert found.decided["session.ended"] > 0
