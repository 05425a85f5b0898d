"""TOML from outside, before the standard library's parser is let at it."""

from __future__ import annotations

DOTS_PER_LINE_MAX = 256


def has_too_many_dots(text: str, most: int = DOTS_PER_LINE_MAX) -> bool:
    """Whether a line may hold a key of so many parts that parsing it takes minutes."""
    return any(line.count(".") > most for line in text.split("\n"))
