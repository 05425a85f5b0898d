"""Whole drains on virtual time, from a seed: crashes, stops, every kind of ending.

A failing seed is in the test's name; repeat it with ``pytest tests/sim -k seed-17``.  More seeds:
``RUNOFF_SIM_SEEDS=1000 pytest tests/sim``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.audit.histories import Histories
from engine.audit.stored import differences
from engine.store.protocol import Query
from engine.store.recorder import recording
from engine.triage.select import pick_by_scan
from tests.worlds import WRITER, Simulation

SEEDS = [
    pytest.param(seed, id=f"seed-{seed}")
    for seed in range(int(os.environ.get("RUNOFF_SIM_SEEDS", "40")))
]


async def test_crashes_in_the_simulation_do_leave_attempts_open() -> None:
    orphaned = 0
    for seed in range(20):
        world = Simulation(seed)
        await world.register()
        await world.crash(resume=False)
        await world.drain(resume=True, crash_after_s=None)
        records = await world.store.records(Query(types=("attempt.finished",)), limit=100_000)
        orphaned += sum('"ending":"orphaned"' in record.data for record in records)
    assert orphaned >= 10


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_history_keeps_the_invariants(seed: int) -> None:
    world = Simulation(seed)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)

    found: list[tuple[str, int | None]] = []
    histories = Histories(lambda what, pos: found.append((what, pos)), Path("no-blobs"))
    for record in await world.store.records(Query(), limit=100_000):
        histories.take(record.pos, record.cause, json.loads(record.data))
    histories.close()
    assert found == []
    assert histories.open_attempts == 0
    assert await differences(world.store) == []


@pytest.mark.parametrize("seed", SEEDS[:10])
async def test_a_drain_that_ran_out_of_work_left_nothing_eligible(seed: int) -> None:
    world = Simulation(seed)
    await world.register()
    await world.drain(resume=False, crash_after_s=None)
    async with recording(world.store, world.clock, WRITER) as recorder:
        session = recorder.board.sessions.states[world.scope.session_id]
        if session.because == "nothing_eligible":
            assert pick_by_scan(recorder.board, world.scope, world.clock.now_us()) is None


@pytest.mark.parametrize("seed", SEEDS[:5])
async def test_the_same_seed_gives_the_same_log(seed: int) -> None:
    heads: set[bytes] = set()
    for _ in range(2):
        world = Simulation(seed)
        await world.register()
        await world.drain(resume=False, crash_after_s=None)
        heads.add((await world.store.head()).hash)
    assert len(heads) == 1
