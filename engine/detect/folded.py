"""Text made comparable: lower case, plain quotes, no terminal codes, with the way back.

Every character maps to one, so a place in the folded text is a place in the original but for the
terminal codes that were cut out; those are counted.
"""

from __future__ import annotations

from bisect import bisect_right

from engine.detect.basis import ANSI

_PLAIN = str.maketrans({"’": "'", "‘": "'", "`": "'", "“": '"', "”": '"', "\u0130": "i"})


def fold(text: str) -> str:
    """``text`` in lower case and with plain quotes; exactly as long as before."""
    return text.translate(_PLAIN).lower()


class Folded:
    """One stream, folded; ``origin(place)`` leads back to a place in the original text."""

    def __init__(self, original: str, base: int = 0) -> None:
        """``base``: where ``original`` starts in the text that offsets are to count in."""
        self._base = base
        self._starts = [0]
        self._shifts = [0]
        kept: list[str] = []
        last = length = 0
        for code in ANSI.finditer(original) if "\x1b" in original else ():
            kept.append(original[last : code.start()])
            length += code.start() - last
            last = code.end()
            self._starts.append(length)
            self._shifts.append(last - length)
        kept.append(original[last:])
        self.raw = "".join(kept)
        self.text = fold(self.raw)

    def origin(self, place: int) -> int:
        """The offset in the original of the folded text's character ``place``."""
        return place + self._shifts[bisect_right(self._starts, place) - 1] + self._base

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Offsets in the original of a non-empty stretch of the folded text."""
        return self.origin(start), self.origin(end - 1) + 1
