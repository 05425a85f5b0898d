"""What daemons do in a day is tested on a clock that jumps; sockets have tests of their own."""

from __future__ import annotations

from typing import Any

import pytest

from engine.drain.virtual import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
