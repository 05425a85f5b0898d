"""Every store behind one fixture."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from engine.store.location import locate
from engine.store.memory import MemoryStore
from engine.store.opening import open_writer
from engine.store.protocol import EventStore
from tests.servers import Server


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EventStore, None]:
    opened: EventStore
    if request.param == "memory":
        opened = MemoryStore()
    elif request.param == "sqlite":
        opened = await open_writer(locate(f"sqlite:///{tmp_path}/s.db"), create=True)
    else:
        server: Server = request.getfixturevalue("postgres")
        opened = await open_writer(locate(await server.fresh()), create=True)
    yield opened
    await opened.close()
