"""Both stores behind one fixture."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from engine.store.database import open_writer
from engine.store.location import locate
from engine.store.memory import MemoryStore
from engine.store.protocol import EventStore


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[EventStore, None]:
    opened: EventStore
    if request.param == "memory":
        opened = MemoryStore()
    else:
        opened = await open_writer(locate(f"sqlite:///{tmp_path}/s.db"), create=True)
    yield opened
    await opened.close()
