"""JSON lines from a stream, one at a time, in constant memory however long a line is.

A line of moderate length is taken as it is.  In a longer one every string is cut to its end while
it is read, because detectors look at the end of a text only; how many characters were cut off the
front is counted, so that offsets still count from the start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from engine.detect.port import WINDOW_CHARS_MAX

LINE_BYTES_MAX = 128 * 1024 * 1024
WHOLE_BYTES_MAX = 4 * 1024 * 1024
_BLOCK_BYTES = 1024 * 1024
_KEPT_BYTES = 12 * WINDOW_CHARS_MAX
"""A character takes at most twelve bytes in JSON: an escaped pair of surrogates."""

_KEY_BYTES_MAX = 64
_LONGEST_ESCAPE = 12
_LOOK_BACK = 4096
_STRUCTURE = re.compile(rb"[{}\[\]:,]")
_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_TOKENS = re.compile(rb"(?:[^\\]++|\\u[0-9a-fA-F]{4}|\\[^u])*+")
_HIGH = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_FOLLOW_ON = bytes(range(0x80, 0xC0))


class Line(NamedTuple):
    """A line's bytes, and by field the characters that were cut off its front.

    ``problem`` says why there are no bytes to read; the line was skipped then.
    """

    number: int
    data: bytes
    dropped: dict[str, int]
    problem: str | None = None


def lines(stream: BinaryIO) -> Iterator[Line]:
    """Every line that is not blank."""
    number = 0
    while block := stream.readline(WHOLE_BYTES_MAX):
        number += 1
        if block.endswith(b"\n") or len(block) < WHOLE_BYTES_MAX:
            if not block.isspace():
                yield Line(number, block, {})
        else:
            yield _long_line(number, block, stream)


def _long_line(number: int, block: bytes, stream: BinaryIO) -> Line:
    shortened = Shortened()
    size, problem = 0, None
    while block:
        size += len(block)
        if size > LINE_BYTES_MAX:
            problem = f"it is longer than {LINE_BYTES_MAX >> 20} MiB"
        elif problem is None and not shortened.feed(block):
            problem = f"it has more than {WHOLE_BYTES_MAX >> 20} MiB beside its texts"
        if block.endswith(b"\n"):
            break
        block = stream.readline(_BLOCK_BYTES)
    data = b"" if problem else shortened.finish()
    return Line(number, data, shortened.dropped, problem)


class Shortened:
    """A JSON object that is shortened while it comes in: long strings keep only their end."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self._out = bytearray()
        self._text = bytearray()
        self._cut = 0
        self._inside = False
        self._depth = 0
        self._sign = b""
        self._key = ""
        self._half_escape = b""

    def feed(self, block: bytes) -> bool:
        """Take in a block; False once there is too much beside texts to keep."""
        block = self._half_escape + block
        odd = (len(block) - len(block.rstrip(b"\\"))) % 2
        self._half_escape, block = block[len(block) - odd :], block[: len(block) - odd]
        # As long as the block, so that places agree, and with no quote but those that delimit.
        plain = block.replace(b"\\\\", b"..").replace(b'\\"', b"..")
        place = 0
        while place < len(block):
            quote = plain.find(b'"', place)
            end = len(block) if quote < 0 else quote
            self._take(block[place:end], quoted=quote >= 0)
            place = end + 1
        return len(self._out) <= WHOLE_BYTES_MAX + 2 * _KEPT_BYTES

    def finish(self) -> bytes:
        """The shortened object; an unfinished one stays unfinished, and no JSON."""
        self._out += self._text
        return bytes(self._out)

    def _take(self, piece: bytes, *, quoted: bool) -> None:
        """A piece inside or outside a string; ``quoted``: a quote ends it."""
        if self._inside:
            self._text += piece
            if len(self._text) > 2 * _KEPT_BYTES:
                self._drop()
            if quoted:
                self._close()
        else:
            self._out += piece
            for sign in _STRUCTURE.findall(piece):
                self._depth += (sign in b"{[") - (sign in b"}]")
                self._sign = sign
            if quoted:
                self._out += b'"'
        self._inside ^= quoted

    def _drop(self) -> None:
        cut = boundary_before(self._text, len(self._text) - _KEPT_BYTES)
        self._cut += code_points(self._text[:cut])
        del self._text[:cut]

    def _close(self) -> None:
        if len(self._text) > _KEPT_BYTES:
            self._drop()
        self._out += self._text + b'"'
        if self._depth == 1 and self._sign == b":":
            if self._cut:
                self.dropped[self._key] = self._cut
        elif self._depth == 1:
            self._key = self._text[:_KEY_BYTES_MAX].decode("ascii", "replace")
        self._cut = 0
        self._text.clear()


def boundary_before(text: bytes | bytearray, place: int) -> int:
    """The last place up to ``place`` where no character and no escape would be cut in two.

    ``text``: the inside of a JSON string, from its start or such a place on.
    """
    for end in range(place, max(place - _LOOK_BACK, _LONGEST_ESCAPE), -1):
        if text[end] & 0xC0 != 0x80 and text.rfind(b"\\", end - _LONGEST_ESCAPE, end) < 0:  # noqa: PLR2004  a byte that goes on with a character in UTF-8
            return end
    found = _TOKENS.match(text, 0, place)
    end = found.end() if found else 0
    while end and text[end] & 0xC0 == 0x80:  # noqa: PLR2004  the same
        end -= 1
    return end - 6 if _HIGH.search(text, max(0, end - 6), end) else end


def code_points(text: bytes | bytearray) -> int:
    """How many characters the inside of a JSON string stands for.  No escape may be cut in two."""
    plain = text.replace(b"\\\\", b".")
    count = len(plain) if plain.isascii() else len(plain.translate(None, _FOLLOW_ON))
    count -= plain.count(b"\\") + 4 * plain.count(b"\\u")
    return count - sum(1 for _ in _PAIR.finditer(plain))
