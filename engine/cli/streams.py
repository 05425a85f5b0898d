"""The standard streams of a command, made fit for a drain: they exist, and never end it.

What an engine does is in its log; the lines that it prints are for whoever is there to read them.
"""

from __future__ import annotations

import io
import os
import select
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STANDARD = (0, 1, 2)
PATIENCE_S = 1.0
"""How long a reader that has stopped reading is waited for, before lines are lost to it."""


def prepare() -> None:
    """Before anything is opened: see that the three descriptors are, and that stderr forgives.

    What an encoding has no letters for is escaped on both, rather than an error.
    """
    for descriptor in STANDARD:
        _see_that_it_is_open(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = noting(1, encoding=sys.stdout.encoding if sys.stdout is not None else "utf-8")
    sys.stderr = forgiving(2, encoding=sys.stderr.encoding if sys.stderr is not None else "utf-8")


def _see_that_it_is_open(descriptor: int) -> None:
    """Otherwise a file of ours would get the number, and what is printed would go into it."""
    try:
        os.fstat(descriptor)
    except OSError:
        # The lowest free number is given out, and those below are open by now.
        opened = os.open(os.devnull, os.O_RDWR)
        assert opened == descriptor, f"{opened} was opened in place of {descriptor}"
        os.set_inheritable(descriptor, True)  # children expect it as well


class Forgiving(io.FileIO):
    """A file that takes everything; lines that could not be written are ``lost``, and counted.

    A line of which a part was written is lost, too, and the next one begins on a line of its own.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.lost = 0
        self._ends_line = True
        self._is_torn = False
        self._is_skipping = False
        self._is_stuck = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write what can be; the size of ``data`` in any case."""
        rest = self._behind_the_lost(bytes(data))
        if rest and self._is_torn:
            self._is_torn = bool(self._put(b"\n"))
        left = rest if self._is_torn else self._put(rest)
        if left:
            self.lost += left.count(b"\n")
            self._is_skipping = not left.endswith(b"\n")
            self._is_torn = not self._ends_line
        return memoryview(data).nbytes

    def _behind_the_lost(self, data: bytes) -> bytes:
        """``data`` without the rest of a line whose beginning was lost."""
        if not self._is_skipping:
            return data
        end = data.find(b"\n") + 1
        if not end:
            return b""
        self._is_skipping = False
        self.lost += 1
        return data[end:]

    def _put(self, data: bytes) -> bytes:
        """Write; what is left of ``data``."""
        while data:
            taken = None
            with suppress(OSError):
                if self._has_room():
                    taken = super().write(data[: select.PIPE_BUF])  # so much fits in any room
            if not taken:  # None when somebody has made it non-blocking and it is full
                break
            self._ends_line = data[taken - 1 : taken] == b"\n"
            data = data[taken:]
        return data

    def _has_room(self) -> bool:
        """Whether what comes now is taken without delay; a stuck reader is waited for once."""
        self._is_stuck = not has_room(self.fileno(), 0 if self._is_stuck else PATIENCE_S)
        return not self._is_stuck


def has_room(descriptor: int, patience_s: float) -> bool:
    """Whether ``select.PIPE_BUF`` bytes can be written without waiting, within ``patience_s``.

    Also true for what fails at once.
    """
    look = select.poll()
    look.register(descriptor, select.POLLOUT)
    return bool(look.poll(patience_s * 1000))


def forgiving(descriptor: int, *, encoding: str = "utf-8") -> io.TextIOWrapper:
    """A stream for text to ``descriptor`` that no write makes fail; line by line."""
    raw = Forgiving(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True
    )


def lines_lost() -> int:
    """How many lines stderr did not take so far; 0 when it is not ours."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, Forgiving) else 0


class Noting(io.FileIO):
    """A file that remembers whether it refused something (``is_stuck``)."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.is_stuck = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write; raises OSError as any file does."""
        try:
            return super().write(data)
        except OSError:
            self.is_stuck = True
            raise


def noting(descriptor: int, *, encoding: str = "utf-8") -> io.TextIOWrapper:
    """A stream for text to ``descriptor``; line by line where a person watches."""
    raw = Noting(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=raw.isatty()
    )


def is_stdout_stuck() -> bool:
    """Whether what was printed found no room, or no reader; False when stdout is not ours."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, Noting) and raw.is_stuck


def takes_stdout(patience_s: float) -> bool:
    """Whether somebody takes what is printed within ``patience_s``, or has gone; True if not ours.

    A reader that merely has stopped reading would make the next line wait as long as it likes.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return not isinstance(raw, Noting) or has_room(raw.fileno(), patience_s)


def let_go_of_stdout() -> None:
    """Nobody takes what is printed any more: let the rest, also at exit, go nowhere."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, sys.stdout.fileno())
        finally:
            os.close(null)
