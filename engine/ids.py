"""Ids: time-ordered ones that we make, and the limits on those that come from outside.

An id of ours is a prefix and 26 characters of Crockford's base 32: 48 bits of Unix milliseconds,
then 80 bits that count up within one millisecond, so ids of one maker sort as they were made
(the layout of a ULID, https://github.com/ulid/spec).  They cost about a microsecond, and rows
keyed by them land side by side in an index, which random ids do not.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import UsageProblem

ID_BYTES_MAX = 512
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_ENTROPY_BITS = 80
_LOW_BITS = 50
_ENTROPY_MASK = (1 << _ENTROPY_BITS) - 1


class IdMaker:
    """Makes time-ordered ids; never twice the same, even when the clock stands or steps back.

    ``now_us``: Unix microseconds.  ``entropy``: a fresh number below 2**80, asked for once per
    millisecond; hand in a seeded one and the ids of a simulation repeat.
    """

    def __init__(self, now_us: Callable[[], int], entropy: Callable[[], int]) -> None:
        self._now_us = now_us
        self._entropy = entropy
        self._last = 0
        # The upper 80 of 130 bits change once a millisecond at most; their text is kept.
        self._high = -1
        self._high_text = ""

    def __call__(self, prefix: str) -> str:
        """A new id, ``prefix`` first (``att_01J…``)."""
        fresh = (self._now_us() // 1000) << _ENTROPY_BITS
        if fresh > self._last | _ENTROPY_MASK:
            # Half the range stays free, so counting up cannot overflow into the milliseconds.
            self._last = fresh | (self._entropy() & (_ENTROPY_MASK >> 1))
        else:
            self._last += 1
        high = self._last >> _LOW_BITS
        if high != self._high:
            self._high, self._high_text = high, _base32(high, 8)
        return f"{prefix}_{self._high_text}{_base32(self._last, 5)}"


def _base32(number: int, pairs: int) -> str:
    """The last ``pairs`` * 10 bits of ``number``, two characters for ten bits."""
    found: list[str] = []
    for _ in range(pairs):
        found.append(_PAIRS[number & 1023])
        number >>= 10
    found.reverse()
    return "".join(found)


def checked_id(text: str, what: str) -> str:
    """``text`` itself if it may name a run, tier or phase.

    Limits: 1 to 512 bytes of UTF-8, no control characters, no surrogates, no blank edges.
    Slashes, dots and markup are allowed: ids are never used as paths and always escaped when
    shown.  Raises UsageProblem naming ``what``.
    """
    remedy = f"use 1 to {ID_BYTES_MAX} bytes without control characters or blank edges."
    try:
        size_bytes = len(text.encode())
    except UnicodeEncodeError:
        raise UsageProblem(f"{what} is not valid Unicode: {text[:40]!a}.", remedy=remedy) from None
    if not 0 < size_bytes <= ID_BYTES_MAX:
        raise UsageProblem(f"{what} has {size_bytes} bytes.", remedy=remedy)
    if not text.isprintable() or text != text.strip():
        raise UsageProblem(
            f"{what} has a control character or a blank edge: {text[:40]!a}.", remedy=remedy
        )
    return text
