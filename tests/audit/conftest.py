"""Audits of simulated drains run on a clock that jumps."""

from __future__ import annotations

from typing import Any

import pytest

from engine.drain.virtual import VirtualTimeLoop


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
