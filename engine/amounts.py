"""How many of something and how long, in words: ``1 run``, ``2 runs``, ``3.4 minutes``.  Pure."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """``count`` with the noun that fits it; ``many`` where an ``s`` behind ``one`` does not do."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def lasting(duration_ms: float) -> str:
    """A duration to one decimal in the unit that a person would take, seconds to days."""
    amount, unit = duration_ms / 1000, "seconds"
    for larger, of_these in (("minutes", 60), ("hours", 60), ("days", 24)):
        if round(amount, 1) < of_these:
            break
        amount, unit = amount / of_these, larger
    return f"{amount:.1f} {unit}"
