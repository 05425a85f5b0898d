"""Simulations run on a clock that jumps; no other tests do."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next deadline when all tasks wait.

    An hour of timeouts costs a millisecond, in the same order every run.  Do not use it with
    worker threads: a thread's real 50 ms is invisible here, and any deadline will fire first.
    """

    def __init__(self) -> None:
        selector = selectors.DefaultSelector()
        super().__init__(selector)
        self._skew_s = 0.0
        poll = selector.select

        def select(timeout: float | None = None) -> Any:
            ready = poll(None if timeout is None else 0)
            if not ready and timeout:
                self._skew_s += timeout
            return ready

        selector.select = select  # type: ignore[method-assign]

    def time(self) -> float:
        return super().time() + self._skew_s


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}
