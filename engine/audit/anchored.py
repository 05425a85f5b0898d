"""The part of verify that holds a log against its anchors: what was given out must still be so.

A log cut at its end is a valid chain, and so is one that was forged from some position on; only
positions and hashes kept elsewhere tell.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from engine.audit.chain import Report

AnchorsState = Literal["ok", "missing", "none", "broken"]
"""``none``: an empty log needs none.  ``missing``: there is a log, and no file beside it."""

_LINE_BYTES_MAX = 256
_ANCHOR = re.compile(rb"([0-9]{1,18}) ([0-9a-f]{64})\n")
_MERGED = re.compile(rb"([0-9]{1,18}) ([0-9a-f]{64})\n\Z")


class Anchor(NamedTuple):
    """A position and the hash, in hex, that its event had."""

    pos: int
    digest: str


class Anchors:
    """The anchors of one log, merged with its rows as both go by.

    Only what the file held when this was made is read, so a log that is being written to while
    it is verified never seems cut short.
    """

    def __init__(self, path: Path, report: Report) -> None:
        self._path = path
        self._report = report
        self._size = _size_of(path)
        self._lines = self._read()
        self._next = next(self._lines, None)
        self._odd: list[bytes | Anchor] = []
        self._broken = False

    @property
    def next_pos(self) -> int:
        """The position of the next anchor; whatever stands before it need not be handed in."""
        return sys.maxsize if self._next is None else self._next.pos

    def take(self, pos: int, digest: str) -> None:
        """The log has ``digest`` at ``pos``; compare the anchor there, if there is one."""
        while self._next is not None and self._next.pos <= pos:
            if self._next != (pos, digest):
                self._odd.append(self._next)
            self._next = next(self._lines, None)

    def close(self, head: int, hash_at: Callable[[int], str | None]) -> AnchorsState:
        """What is left over when the log has ended at position ``head``."""
        beyond = self._next
        while self._next is not None:
            self._next = next(self._lines, None)
        for odd in self._odd[:1000]:
            self._settle(odd, hash_at)
        if beyond is not None:
            self._break(
                f"S2: the log was cut short: it ends at {head}, and {beyond.pos} is anchored",
                beyond.pos,
            )
        if self._size is None:
            return "missing" if head else "none"
        return "broken" if self._broken else "ok"

    def _settle(self, odd: bytes | Anchor, hash_at: Callable[[int], str | None]) -> None:
        if isinstance(odd, Anchor):
            # Not in order, which is no fault of the log as long as it holds.
            if hash_at(odd.pos) != odd.digest:
                self._break(f"S2: the log was changed: the anchor at {odd.pos} is another", odd.pos)
        elif not any(hash_at(pos) == digest for pos, digest in _merged(odd)):
            self._break(f"S2: a line of the anchors is no anchor: {odd[:80]!a}", None)

    def _break(self, what: str, pos: int | None) -> None:
        self._broken = True
        self._report(what, pos)

    def _read(self) -> Iterator[Anchor]:
        if not self._size:
            return
        try:
            with self._path.open("rb") as file:
                while file.tell() < self._size:
                    line = file.readline(_LINE_BYTES_MAX)
                    match = _ANCHOR.fullmatch(line)
                    if match:
                        yield Anchor(int(match[1]), match[2].decode())
                    elif line.endswith(b"\n") or len(line) == _LINE_BYTES_MAX:
                        self._odd.append(line)
                    else:
                        return  # cut short by a crash
        except OSError as error:
            self._break(f"S2: the anchors cannot be read: {error.strerror}", None)


def _size_of(path: Path) -> int | None:
    """Bytes, 0 for what is no regular file (and so holds no anchors), None when it is missing."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _merged(line: bytes) -> Iterator[Anchor]:
    """What an anchor may be that was written behind one that a crash cut short."""
    match = _MERGED.search(line)
    if match:
        for start in range(len(match[1])):
            yield Anchor(int(match[1][start:]), match[2].decode())
