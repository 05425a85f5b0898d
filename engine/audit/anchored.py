"""The part of verify that holds a log against its anchors: what was given out must still be so.

A log cut at its end is a valid chain, and so is one that was forged from some position on; only
positions and hashes kept elsewhere tell.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from engine.audit.chain import Report

AnchorsState = Literal["ok", "short", "missing", "none", "broken"]
"""``none``: an empty log needs none.  ``missing``: there is a log, and no file beside it.

``short``: the file reaches far less, and may: who made it died at once, or others write the log.
"""

SLACK_US = 60_000_000
"""By the writer's clock; a commit is anchored within a fraction of a second, or its engine died."""
_LINE_BYTES_MAX = 256
_ODD_MAX = 1000
_ANCHOR = re.compile(rb"([0-9]{1,18}) ([0-9a-f]{64})\n")
_CUT_SHORT = re.compile(rb"[0-9]{0,18}|[0-9]{1,18} [0-9a-f]{0,64}")
_MERGED = re.compile(rb"([0-9]{1,18}) ([0-9a-f]{64})\n\Z")


class Anchor(NamedTuple):
    """A position and the hash, in hex, that its event had."""

    pos: int
    digest: str


class End(NamedTuple):
    """The last row of a log: its position, its writer's time (Unix, microseconds) and epoch."""

    pos: int
    recorded_us: int
    epoch: int


class Anchors:
    """The anchors of one log, merged with its rows as both go by.

    Only what the file held when this was made is read, so a log that is being written to while
    it is verified never seems cut short.  ``is_shared``: others write the log too, whose anchors
    stand elsewhere.  ``reach``: the last position that an anchor holds, 0 for none.
    """

    def __init__(self, path: Path, report: Report, *, is_shared: bool = False) -> None:
        self._path = path
        self._report = report
        self._is_shared = is_shared
        self._size = _size_of(path)
        self._odd: list[bytes | Anchor] = []
        self._broken = False
        self.reach, self._reach_us = 0, 0
        self._behind_us: int | None = 0
        self._lines = self._read()
        self._next = next(self._lines, None)

    @property
    def next_pos(self) -> int:
        """Of the next anchor, or right behind one; what stands before need not be handed in."""
        if self._behind_us is None:
            return self.reach + 1
        return sys.maxsize if self._next is None else self._next.pos

    def take(self, pos: int, digest: str, recorded_us: int) -> None:
        """The log has ``digest`` at ``pos``; compare the anchor there, if there is one.

        ``recorded_us``: the writer's time (Unix, microseconds).
        """
        if self._behind_us is None:
            self._behind_us = recorded_us
        while self._next is not None and self._next.pos <= pos:
            if self._next == (pos, digest):
                self.reach, self._reach_us, self._behind_us = pos, recorded_us, None
            else:
                self._note_odd(self._next)
            self._next = next(self._lines, None)

    def close(self, end: End, hash_at: Callable[[int], str | None]) -> AnchorsState:
        """What is left over when the log has ended, with the row ``end`` (zeros for no row)."""
        beyond = self._next
        while self._next is not None:
            self._next = next(self._lines, None)
        for odd in self._odd:
            self._settle(odd, hash_at)
        if beyond is not None:
            self._break(
                f"S2: the log was cut short: it ends at {end.pos}, and {beyond.pos} is anchored",
                beyond.pos,
            )
        if self._size is None and not self._broken:
            return "missing" if end.pos else "none"
        return "broken" if self._broken else self._reached(end)

    def _reached(self, end: End) -> AnchorsState:
        """Whether much of the log is not anchored, which is reported if it cannot be by chance."""
        # Since the first commit without one: before that the engine may have rested for days.
        since_us = end.recorded_us if self._behind_us is None else self._behind_us
        if self._is_shared:  # whose commit that is nobody says
            since_us = self._reach_us
        if end.pos == 0 or (self.reach and end.recorded_us - since_us <= SLACK_US):
            return "ok"
        # The engine that made the file may have died before its first anchor; none did later.
        if self._is_shared or (not self.reach and end.epoch <= 1):
            return "short"
        until = f"end at {self.reach}" if self.reach else "hold nothing"
        self._break(f"S2: the anchors {until}, and the log goes on to {end.pos}", end.pos)
        return "broken"

    def _note_odd(self, odd: bytes | Anchor) -> None:
        if len(self._odd) < _ODD_MAX:
            self._odd.append(odd)

    def _settle(self, odd: bytes | Anchor, hash_at: Callable[[int], str | None]) -> None:
        if isinstance(odd, Anchor):
            # Not in order, which is no fault of the log as long as it holds.
            if hash_at(odd.pos) == odd.digest:
                self.reach = max(self.reach, odd.pos)
            else:
                self._break(f"S2: the log was changed: the anchor at {odd.pos} is another", odd.pos)
        elif not any(hash_at(pos) == digest for pos, digest in _merged(odd)):
            self._break(f"S2: a line of the anchors is no anchor: {odd[:80]!a}", None)

    def _break(self, what: str, pos: int | None) -> None:
        self._broken = True
        self._report(what, pos)

    def _read(self) -> Iterator[Anchor]:
        if os.path.lexists(self._path) and not self._path.is_file():
            self._break("S2: what bears the name of the anchors is no file", None)
        if not self._size:
            return
        try:
            with self._path.open("rb") as file:
                for line in lines_of(file, self._size):
                    anchor = said_by(line)
                    if anchor is not None:
                        yield anchor
                    elif line.endswith(b"\n") or not _CUT_SHORT.fullmatch(line):
                        self._note_odd(line)
                    else:
                        return  # cut short by a crash
        except OSError as error:
            self._break(f"S2: the anchors cannot be read: {error.strerror}", None)


def lines_of(file: BinaryIO, size: int) -> Iterator[bytes]:
    """The lines in the first ``size`` bytes; one that is much too long comes in pieces.

    After a thousand such pieces there are no more: whatever that is, it holds no anchors.
    """
    pieces = 0
    while file.tell() < size and pieces < _ODD_MAX:
        line = file.readline(_LINE_BYTES_MAX)
        if not line:
            return  # it has become shorter meanwhile
        pieces += not line.endswith(b"\n")
        yield line


def said_by(line: bytes) -> Anchor | None:
    """The anchor that a line is, None for any other."""
    match = _ANCHOR.fullmatch(line)
    return Anchor(int(match[1]), match[2].decode()) if match else None


def _size_of(path: Path) -> int | None:
    """Bytes; None for what is no regular file, and when nothing is there."""
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


def is_anchored(state: str) -> bool:
    """Whether a verdict rests on anchors, as far as it looked at them."""
    return state not in ("missing", "short")


def anchors_words(state: str, reach: int) -> str:
    """What the anchors came to and how far they reach, for a person."""
    return f"anchors {state}, up to {reach}" if reach else f"anchors {state}"
