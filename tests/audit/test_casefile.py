"""What ``why`` looks at: the same from a few rows as from the whole board."""

from __future__ import annotations

import os

import pytest

from engine.audit.casefile import Around, case_file, case_on
from engine.events import Record
from engine.store.boards import load_board
from engine.store.protocol import Query
from tests.worlds import Simulation

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "60")))


async def drained(seed: int) -> tuple[Simulation, list[Record]]:
    world = Simulation(seed)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)
    return world, await world.store.records(Query(), limit=1_000_000)


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_case_is_the_same_from_few_rows_as_from_the_whole_board(seed: int) -> None:
    world, records = await drained(seed)
    for record in records[seed % 7 :: 7]:
        board = await load_board(world.store, record.pos)
        around = await Around.load(world.store, record.pos)
        for run_id in board.runs.states:
            found = await case_file(world.store, around, run_id, record.pos, record.recorded_us)
            assert found is not None
            assert found.case == case_on(board, run_id, record.recorded_us)
        assert await case_file(world.store, around, "nope", record.pos, 0) is None
