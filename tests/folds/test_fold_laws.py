"""The laws of every fold, over the logs of simulated drains."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.events import Seen
from engine.store.boards import load_board, seen_page
from engine.store.protocol import Query
from projections.board import FOLDS, Board
from projections.fold import Fold, Keyed, row_digest
from tests.worlds import Simulation


async def history(seed: int) -> list[Seen]:
    world = Simulation(seed)
    await world.register()
    await world.crash(resume=False)
    await world.drain(resume=True, crash_after_s=None)
    head = await world.store.head()
    return seen_page(await world.store.fold_rows(0, head.pos))


def folded(fold: Fold[Any], events: list[Seen], rows: list[tuple[str, str]]) -> Keyed[Any]:
    keyed = Keyed(fold, rows)
    for seen in events:
        keyed.feed(seen)
    return keyed


@pytest.mark.parametrize("name", FOLDS)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_fold_may_be_cut_anywhere(name: str, seed: int) -> None:
    fold, events = FOLDS[name], await history(seed)
    whole = sorted(folded(fold, events, []).rows())
    cuts = range(len(events) + 1)
    for cut in random.Random(seed).sample(cuts, min(20, len(cuts))):
        stored = sorted(folded(fold, events[:cut], []).rows())
        assert sorted(folded(fold, events[cut:], stored).rows()) == whole


@pytest.mark.parametrize("name", FOLDS)
async def test_the_digest_is_the_sum_over_the_rows_whatever_the_batches(name: str) -> None:
    events = await history(4)
    digests: set[bytes] = set()
    for size in (1, 7, len(events)):
        keyed = Keyed(FOLDS[name])
        for start in range(0, len(events), size):
            for seen in events[start : start + size]:
                keyed.feed(seen)
            keyed.take_changes()
        total = sum(row_digest(*row) for row in keyed.rows()) % (1 << 256)
        assert keyed.digest == total.to_bytes(32, "big")
        digests.add(keyed.digest)
    assert len(digests) == 1


async def test_every_fold_names_only_events_that_it_can_take() -> None:
    taken: set[str] = set()
    for seed in range(60):
        board = Board()
        for seen in await history(seed):
            board.feed(seen)
            taken |= {k.fold.name for k in board.all if type(seen.event) in k.fold.handles}
        if taken == set(FOLDS):
            return
    assert taken == set(FOLDS)


async def test_a_board_at_an_earlier_position_is_the_fold_up_to_there() -> None:
    world = Simulation(5)
    await world.register()
    await world.drain(resume=False, crash_after_s=None)
    head = await world.store.head()
    for pos in (0, 1, head.pos // 2, head.pos):
        board = await load_board(world.store, until=pos)
        events = seen_page(await world.store.fold_rows(0, pos))
        for keyed in board.all:
            assert sorted(keyed.rows()) == sorted(folded(keyed.fold, events, []).rows())
    assert await world.store.records(Query(), limit=1)


def test_folds_depend_on_no_hash_seed_and_no_time_zone() -> None:
    program = (
        "import asyncio, hashlib\n"
        "from engine.drain.virtual import VirtualTimeLoop\n"
        "from engine.store.boards import load_board\n"
        "from tests.worlds import Simulation\n"
        "async def main():\n"
        "    world = Simulation(6)\n"
        "    await world.register()\n"
        "    await world.drain(resume=False, crash_after_s=None)\n"
        "    board = await load_board(world.store)\n"
        "    rows = [row for keyed in board.all for row in keyed.rows()]\n"
        "    print(len(rows), hashlib.sha256(repr(rows).encode()).hexdigest())\n"
        "with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:\n"
        "    runner.run(main())\n"
    )
    home = Path(__file__).parent.parent.parent
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=home,
            env={**os.environ, "PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Kathmandu"))
    }
    assert len(outputs) == 1
    assert int(outputs.pop().split()[0]) > 5
