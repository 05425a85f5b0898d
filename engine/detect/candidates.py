"""Where phrases are looked for at all: the lines that hold a word of an event.

Most of what programs print holds none, so that a hundred patterns cost hardly more than one.
"""

from __future__ import annotations

import re
from bisect import bisect_right

from engine.detect.catalogue import boundary_rules

CANDIDATE_CHARS_MAX = 64 * 1024
"""How much of a stream is searched for phrases: the last lines with a word of an event."""

_PLACES_OF_A_WORD_MAX = 1000
_REACH = 240
_WRAPPED = re.compile(r"[ \t\r]{1,20}\n[ \t]{0,20}|\n[ \t]{1,20}")
_FLAT = str.maketrans("\r\n\t", "   ")


class _Flat:
    """Text on one line, each line end with the blanks around it as one blank; and the way back."""

    def __init__(self, text: str) -> None:
        kept = [" "]
        self._starts, self._shifts = [0], [-1]
        last, length = 0, 1
        for wrapped in _WRAPPED.finditer(text):
            kept += text[last : wrapped.start()], " "
            length += wrapped.start() - last + 1
            last = wrapped.end()
            self._starts.append(length)
            self._shifts.append(last - length)
        kept.append(text[last:])
        self.text = "".join(kept).translate(_FLAT)

    def origin(self, place: int) -> int:
        """Where in the text the character at ``place`` stands."""
        return max(0, place + self._shifts[bisect_right(self._starts, place) - 1])


def candidates(text: str) -> list[tuple[int, int]]:
    """Stretches of folded text around words of events, in order, without overlaps."""
    flat = _Flat(text)
    words = [word for word in boundary_rules().event if word in flat.text]
    spans = sorted(span for word in words for span in _around(word, text, flat))
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return _last(joined)


def _around(word: str, text: str, flat: _Flat) -> list[tuple[int, int]]:
    """The last places of a word; one stretch is looked at once."""
    found: list[tuple[int, int]] = []
    place = len(flat.text)
    while len(found) < _PLACES_OF_A_WORD_MAX:
        place = flat.text.rfind(word, 0, place)
        if place < 0:
            break
        start, end = flat.origin(place), flat.origin(place + len(word) - 1) + 1
        if not found or start < found[-1][0]:
            found.append(_stretch(text, start, end))
    return found


def _stretch(text: str, start: int, end: int) -> tuple[int, int]:
    """From two line ends before to two after, because terminals wrap lines."""
    first, last = max(0, start - _REACH), min(len(text), end + _REACH)
    for _ in range(2):
        newline = text.rfind("\n", first, start)
        start = newline if newline >= 0 else first
        newline = text.find("\n", end, last)
        end = newline + 1 if newline >= 0 else last
    return start, end


def _last(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    kept: list[tuple[int, int]] = []
    left = CANDIDATE_CHARS_MAX
    for start, end in reversed(spans):
        if left <= 0:
            break
        kept.append((max(start, end - left), end))
        left -= end - start
    return kept[::-1]
