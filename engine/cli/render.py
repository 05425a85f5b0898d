"""How things look on a terminal: agent text made harmless, tables, JSON."""

from __future__ import annotations


def clean(text: str) -> str:
    """``text`` with everything unprintable escaped, so that it cannot drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
