"""The signals that stop an engine: heeded while it works, and none is lost while it goes."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from types import FrameType

import anyio


@contextmanager
def heeded(*numbers: signal.Signals) -> Generator[AsyncIterator[signal.Signals], None, None]:
    """Receive ``numbers`` inside.

    Behind the block the process is on its way out, and still has to close its log and to say what
    was drained: the first signal that comes then asks for nothing more, another one ends it.
    """
    try:
        with anyio.open_signal_receiver(*numbers) as signals:
            yield signals
    finally:
        for number in numbers:
            signal.signal(number, _is_going)


def _is_going(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
