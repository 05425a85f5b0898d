"""A daemon that rests while others are at the same log: what it shows is the log's."""

from __future__ import annotations

import anyio

from engine.drain.intake import registering
from engine.store.memory import MemoryStore
from engine.store.recorder import recording
from tests.living import HOUR_S, WRITER, Living, group


async def test_one_that_rests_on_a_shared_log_shows_what_others_have_appended() -> None:
    living = Living()
    living.store = MemoryStore(is_shared=True)
    async with living.life(group("r", 1)) as service:
        await service.pause("ann", "lunch")
        await anyio.sleep(HOUR_S)
        async with recording(living.store, living.clock, WRITER) as other:
            await other.submit(registering(group("s", 2)))
            assert await service.settle()
            status = service.status()
            assert status.phases == {"QUEUED": 3}
            assert status.position == other.head.pos
