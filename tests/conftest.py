"""Shared by all tests: which event loop async tests run on, and the server that some need."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tests.servers import Server

# How long an example takes depends on what else a machine does, and the first compiles patterns;
# what must be fast is measured against a floor in the benchmarks.
settings.register_profile("runoff", deadline=None)
settings.load_profile("runoff")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Generator[Server, None, None]:
    """A PostgreSQL server of one's own, started when the first test asks for it."""
    if os.environ.get("RUNOFF_TEST_POSTGRES") != "required":
        pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    from tests.servers import running  # noqa: PLC0415

    with running() as server:
        yield server
