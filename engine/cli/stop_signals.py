"""The signals that stop an engine: heeded while it works, and none is lost while it goes."""

from __future__ import annotations

import atexit
import signal
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from types import FrameType

import anyio


@contextmanager
def heeded(*numbers: signal.Signals) -> Generator[AsyncIterator[signal.Signals], None, None]:
    """Receive ``numbers`` inside, with those that were held back before.

    Behind the block the process is on its way out, and still has to close its log and to say what
    was drained: the first signal that comes then asks for nothing more, another one ends it.  A
    hang-up never does.
    """
    try:
        with anyio.open_signal_receiver(*numbers) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
            yield signals
    finally:
        end_at_second(*numbers)


def end_at_second(*numbers: signal.Signals) -> None:
    """From here on the second of ``numbers`` ends the process, whatever it does then.

    While they are heeded, the first one is told of as before.
    """
    for number in numbers:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else _is_going)
    atexit.register(_go_quietly, numbers)


def _go_quietly(numbers: tuple[signal.Signals, ...]) -> None:
    """Python lets go of its handlers before it is down, and a first signal would end it then."""
    for number in numbers:
        if signal.getsignal(number) is _is_going:
            signal.signal(number, signal.SIG_IGN)


def _is_going(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
