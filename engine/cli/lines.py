"""JSON lines from a stream, one at a time, in constant memory however long a line is.

A line of moderate length is taken as it is.  In a longer one every string is cut to its end while
it is read, because detectors look at the end of a text only; how many characters were cut off the
front is counted, so that offsets still count from the start.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from io import BufferedReader
from typing import NamedTuple

from engine.detect.port import WINDOW_CHARS_MAX

LINE_BYTES_MAX = 128 * 1024 * 1024
WHOLE_BYTES_MAX = 4 * 1024 * 1024
_KEPT_BYTES = 12 * WINDOW_CHARS_MAX
"""A character takes at most twelve bytes in JSON: an escaped pair of surrogates."""

_KEY_BYTES_MAX = 64
_LONGEST_ESCAPE = 12
_LOOK_BACK = 4096
_BACKSLASHES_MAX = 8
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


def lines(stream: BufferedReader) -> Iterator[Line]:
    """Every line that is not blank."""
    number = 0
    while block := stream.readline(WHOLE_BYTES_MAX):
        number += 1
        if block.endswith(b"\n") or len(block) < WHOLE_BYTES_MAX:
            if not block.isspace():
                yield Line(number, block, {})
        else:
            yield _long_line(number, block, stream)


def _long_line(number: int, block: bytes, stream: BufferedReader) -> Line:
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
        block = _rest_of_line(stream)
    data = b"" if problem else shortened.finish()
    return Line(number, data, shortened.dropped, problem)


def _rest_of_line(stream: BufferedReader) -> bytes:
    """What is at hand of the line; several times cheaper than `readline` on long ones."""
    at_hand = stream.peek(1)
    end = at_hand.find(b"\n") + 1
    return stream.read(end or len(at_hand))


class Shortened:
    """A JSON object that is shortened while it comes in: long strings keep only their end."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self._out = bytearray()
        self._text: deque[bytes] = deque()
        self._size = 0
        self._cut = 0
        self._inside = False
        self._depth = 0
        self._sign = b""
        self._key = ""
        self._rest = b""

    def feed(self, block: bytes) -> bool:
        """Take in a block; False once there is too much beside texts to keep."""
        block = self._rest + block
        end = whole_until(block)
        self._rest = block[end:]
        self._whole(block[:end])
        return len(self._out) <= WHOLE_BYTES_MAX + 4 * _KEPT_BYTES

    def finish(self) -> bytes:
        """The shortened object; an unfinished one stays unfinished, and no JSON."""
        self._whole(self._rest)
        self._out += b"".join(self._text)
        return bytes(self._out)

    def _whole(self, block: bytes) -> None:
        place = 0
        for quote in _quotes(block):
            self._take(block[place:quote], quoted=True)
            place = quote + 1
        self._take(block[place:], quoted=False)

    def _take(self, piece: bytes, *, quoted: bool) -> None:
        """A piece inside or outside a string; ``quoted``: a quote ends it."""
        if self._inside:
            self._text.append(piece)
            self._size += len(piece)
            while self._size - len(self._text[0]) > _KEPT_BYTES:
                first = self._text.popleft()
                self._size -= len(first)
                self._cut += code_points(first)
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

    def _close(self) -> None:
        text = b"".join(self._text)
        self._out += text + b'"'
        if self._depth == 1 and self._sign == b":":
            if self._cut:
                self.dropped[self._key] = self._cut
        elif self._depth == 1:
            self._key = text[:_KEY_BYTES_MAX].decode("ascii", "replace")
        self._cut = self._size = 0
        self._text.clear()


def _quotes(block: bytes) -> Iterator[int]:
    """Where the quotes stand that delimit strings; ``block`` starts and ends between characters."""
    if not _are_all_escaped(block):
        plain = block.replace(b"\\\\", b"..").replace(b'\\"', b"..")
        quote = plain.find(b'"')
        while quote >= 0:
            yield quote
            quote = plain.find(b'"', quote + 1)


def _are_all_escaped(block: bytes) -> bool:
    """Whether before every quote stands an odd number of backslashes.

    Counting is several times cheaper than replacing, and most blocks hold no other quote.
    """
    escaped, sign, before = 0, 1, b"\\"
    while found := block.count(before + b'"'):
        escaped, sign, before = escaped + sign * found, -sign, before + b"\\"
        if len(before) > _BACKSLASHES_MAX:
            return False
    return escaped == block.count(b'"')


def whole_until(block: bytes) -> int:
    """The last place in ``block`` where no character and no escape is cut in two.

    ``block`` starts at such a place.  What is left is shorter than an escape unless it is the
    end of a text that is nothing but escapes.
    """
    for end in range(len(block), max(len(block) - _LOOK_BACK, _LONGEST_ESCAPE), -1):
        if block.rfind(b"\\", end - _LONGEST_ESCAPE, end) < 0 and not _goes_on(block, end):
            return end
    found = _TOKENS.match(block)
    end = found.end() if found else 0
    while end and _goes_on(block, end):
        end -= 1
    return end - 6 if _HIGH.search(block, max(0, end - 6), end) else end


def _goes_on(block: bytes, end: int) -> bool:
    """Whether the character before ``end`` may go on behind it, in UTF-8."""
    if end < len(block):
        return block[end] & 0xC0 == _FOLLOW_ON[0]
    return block[-1:] >= b"\x80"


def code_points(text: bytes) -> int:
    """How many characters the inside of a JSON string stands for.  No escape may be cut in two."""
    count = len(text) if text.isascii() else len(text.translate(None, _FOLLOW_ON))
    # Of a run of backslashes every two are one escape, and so is a last odd one.
    count -= text.count(b"\\") - text.count(b"\\\\")
    if b"\\u" in text:
        plain = text.replace(b"\\\\", b".")
        count -= 4 * plain.count(b"\\u") + sum(1 for _ in _PAIR.finditer(plain))
    return count
