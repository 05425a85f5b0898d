"""Single keys from the terminal at standard input."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager

import anyio

KEY_BYTES_MAX = 32


@contextmanager
def keys() -> Generator[Callable[[], Awaitable[bytes]]]:
    """A function that waits for the next key; its bytes, none when the terminal has gone.

    Within the block keys are neither echoed nor kept back until Enter, and what was typed ahead
    counts.  Interrupts work as ever, because the loop waits, not a read.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSADRAIN)

    async def key() -> bytes:
        await anyio.wait_readable(descriptor)
        try:
            return os.read(descriptor, KEY_BYTES_MAX)
        except OSError:
            return b""

    try:
        yield key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
