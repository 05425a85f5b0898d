"""A drain whose link to the server is cut in its appends, again and again, decides as any other."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from engine.errors import ServerLost
from engine.store.boards import load_board
from engine.store.leaving import Leaving
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.store.protocol import Query
from tests.audit.test_redecide import BLOBS, redecided
from tests.worlds import Simulation

SEEDS = range(12)
LOST = 0.4


class Losing(MemoryStore):
    """A log on a server whose link is cut in some commits, before or behind them."""

    def __init__(self, random_: random.Random) -> None:
        super().__init__(is_shared=True)
        self.leaving = Leaving()
        self.taken_back = 0
        self._random = random_

    async def until_back(self) -> None:
        """It is back at once."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        before = len(self._log)
        is_carried = self._random.random() < 0.5
        async with super().transaction() as transaction:
            yield transaction
            has_grown = len(self._log) > before
            # Who starts and only writes projections is told, and may start again.
            is_cut = self._random.random() < LOST and (has_grown or not transaction.kept)
            if is_cut and not is_carried:
                self.taken_back += has_grown
                raise ServerLost("lost before the commit.", remedy="none.")
        if is_cut:
            raise ServerLost("lost behind the commit.", remedy="none.")


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_drain_goes_on_and_decides_by_what_the_log_says(seed: int) -> None:
    is_crowded = seed % 3 == 0
    world = Simulation(seed, BLOBS, crowded=is_crowded)
    world.store = store = Losing(random.Random(seed))
    await world.register()
    await world.drain(resume=False, crash_after_s=None)
    assert store.taken_back > (2 if is_crowded else -1)
    found = await redecided(world)
    assert [difference.sentence for difference in found.differences] == []
    assert found.unverifiable == []
    assert found.decided["session.ended"] == 1
    commands = [(r.command_id, r.idx) for r in await store.records(Query(), limit=1_000_000)]
    assert len(commands) == len(set(commands))
    board = await load_board(store)
    assert [phase.open_attempt for phase in board.backlog.values() if phase.open_attempt] == []
