"""What if: the same policy changes nothing, another one changes what it must."""

from __future__ import annotations

import os

import pytest

from engine.audit.lines import Line, commands
from engine.audit.whatif import walked
from engine.events import event_of
from engine.store.blobs import MemoryBlobs
from engine.store.protocol import Query
from tests.worlds import Simulation

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "40")))


async def lines_of(world: Simulation) -> list[Line]:
    return [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r))
        for r in await world.store.records(Query(), limit=1_000_000)
    ]


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_the_recorded_policy_changes_nothing(seed: int) -> None:
    blobs = MemoryBlobs()
    world = Simulation(seed, blobs)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)
    found = walked(commands(await lines_of(world)), world.scope.policy, blobs.get)
    assert found.differing == ()
    assert found.not_made == ()
    assert found.horizons == ()
    assert found.attempts_made == found.attempts
