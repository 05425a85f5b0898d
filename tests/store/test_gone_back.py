"""A server that has lost what was acknowledged: no engine goes on as if it had not.

As one that was restored from a backup, or a replica that had not heard of the rest.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from typing import NamedTuple

import anyio
import pytest

from engine.clock import HandSetClock
from engine.errors import LogWentBack
from engine.store.command import Command, just
from engine.store.location import locate
from engine.store.opening import open_writer
from engine.store.recorder import Recorder, Writer, recording
from tests.between import Between, standing
from tests.servers import Server
from tests.store.test_sharing import registered

LIMIT_S = 20.0
LOOK = Command("look", "engine", b"look", just())
_LOSE = """
SET session_replication_role = replica;
DELETE FROM runoff.events WHERE pos > {pos};
UPDATE runoff.head SET (pos, hash, epoch, recorded_us) =
    (SELECT pos, hash, epoch, recorded_us FROM runoff.events WHERE pos = {pos})"""


class Log(NamedTuple):
    """A log on a server, by a way that can be cut, and directly."""

    server: Server
    url: str
    way: Between
    opened: AsyncExitStack

    async def writer(self, number: int, *, directly: bool = True) -> Recorder:
        """A writer of it, at work."""
        place = locate(self.url if directly else self.way.url(self.url))
        store = await open_writer(place, create=True)
        self.opened.push_async_callback(store.close)
        writer = Writer(f"host-{number}", "boot", number, "test", "0")
        entering = recording(store, HandSetClock(1_000_000 + number), writer)
        return await self.opened.enter_async_context(entering)

    async def lose(self, pos: int) -> None:
        """Have the log end at ``pos`` again."""
        operator = await self.server.connect(self.url.rpartition("/")[2])
        await operator.execute(_LOSE.format(pos=pos))
        await operator.close()


@pytest.fixture
async def log(postgres: Server) -> AsyncGenerator[Log, None]:
    url = await postgres.fresh()
    async with AsyncExitStack() as opened:
        way = await opened.enter_async_context(standing(postgres.port))
        yield Log(postgres, url, way, opened)


@pytest.mark.parametrize("others", [0, 1, 2, 3], ids="behind {} words of others".format)
async def test_who_knows_more_than_the_log_holds_appends_nothing(log: Log, others: int) -> None:
    """However far it has come again: there is another history behind what was lost."""
    first = await log.writer(1)
    await first.submit(registered("before"))
    kept = first.head
    for name in "ab":
        await first.submit(registered(name))
    await log.lose(kept.pos)
    second = await log.writer(2)
    for number in range(others):
        await second.submit(registered(f"other-{number}"))
    with pytest.raises(LogWentBack) as refused:
        await first.submit(registered("x"))
    assert refused.value.exit_code == 5
    assert refused.value.problem == (
        "the log went back: it does not hold any more what was seen of it at position 4."
    )
    assert first.failed is refused.value
    # One that has seen nothing of it goes on.
    receipt = await second.submit(registered("y"))
    assert receipt.records[0].pos == kept.pos + others + 2


async def test_who_only_follows_is_told_so(log: Log) -> None:
    first = await log.writer(1)
    for name in "ab":
        await first.submit(registered(name))
    await log.lose(2)
    with pytest.raises(LogWentBack):
        await first.submit(LOOK)


async def test_it_is_found_out_behind_an_append_that_was_lost_with_the_rest(log: Log) -> None:
    first = await log.writer(1, directly=False)
    for name in "ab":
        await first.submit(registered(name))
    with anyio.fail_after(LIMIT_S):
        async with anyio.create_task_group() as group:

            async def fail_over() -> None:
                await log.way.cut_at(b"COMMIT", carried=False)
                await log.lose(2)
                log.way.open()

            group.start_soon(fail_over)
            with pytest.raises(LogWentBack):
                await first.submit(registered("c"))
            group.cancel_scope.cancel()
    assert (await (await log.writer(2)).store.head()).pos == 2
