"""What daemons do in a day is tested on a clock that jumps; sockets have tests of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.drain import recovery
from engine.drain.virtual import VirtualTimeLoop
from engine.executors.begun import NEVER_SPAWNED
from engine.executors.port import Report


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that jumps would not wait for the thread that looks for processes."""

    async def report_of(_directory: Path, _attempt: str, lost: str | None, _: object) -> Report:
        assert lost is None
        return Report(ended="lost", duration_ms=0, reason=NEVER_SPAWNED)

    monkeypatch.setattr(recovery, "report_of", report_of)
