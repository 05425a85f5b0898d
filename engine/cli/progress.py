"""How far long work on a log has come: a line that is rewritten on a terminal, else plain lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import click

from engine.amounts import counted
from engine.store.boards import load_board
from engine.store.protocol import LogReader
from projections.board import Board

FIRST_S = 1.0
"""Work that is done sooner needs no telling."""
TERMINAL_S = 0.2
PLAIN_S = 10.0
"""Between two lines, and before the first one, where each of them stays."""


class Progress:
    """Call it with the position that was reached, and the one that the work goes to.

    ``what``: what is done, as the beginning of a sentence.  On a terminal nothing of it is left at
    the end.
    """

    def __init__(self, what: str, now_s: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._now_s = now_s
        self._is_terminal = sys.stderr.isatty()
        self._drawn = 0
        self._due_s = now_s() + (FIRST_S if self._is_terminal else PLAIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._erase()

    def __call__(self, reached: int, end: int) -> None:
        """Tell of it, if it is time to."""
        if reached >= end:
            self._erase()
        elif self._now_s() >= self._due_s:
            self._tell(f"{self._what}: {reached} of {counted(end, 'event')}")
            self._due_s = self._now_s() + (TERMINAL_S if self._is_terminal else PLAIN_S)

    def _tell(self, text: str) -> None:
        if self._is_terminal:
            click.echo(f"\r{text:<{self._drawn}}", err=True, nl=False)
            self._drawn = len(text)
        else:
            click.echo(text, err=True)

    def _erase(self) -> None:
        if self._drawn:
            click.echo(f"\r{'':<{self._drawn}}\r", err=True, nl=False)
            self._drawn = 0


async def read_board(reader: LogReader, until: int | None = None) -> Board:
    """``load_board``, telling how far it has come: without stored projections it reads all."""
    with Progress("Reading the log") as pace:
        return await load_board(reader, until, pace)
