"""How many of something, in words: ``1 run``, ``2 runs``.  Pure."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """``count`` with the noun that fits it; ``many`` where an ``s`` behind ``one`` does not do."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"
