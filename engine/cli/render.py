"""How things look on a terminal: agent text made harmless, tables, JSON."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec


def clean(text: str) -> str:
    """``text`` with everything unprintable escaped, so that it cannot drive a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Aligned columns for a terminal or a pipe; every cell is made harmless."""
    cells = [[clean("" if cell is None else str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    lines = [columns, *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def fields(state: msgspec.Struct) -> str:
    """One value a line, for a single thing."""
    shown = {k: v for k, v in msgspec.to_builtins(state).items() if v is not None}
    width = max(map(len, shown))
    return "\n".join(f"{name:<{width}}  {clean(str(value))}" for name, value in shown.items())


def as_json(found: object) -> str:
    """Compact JSON."""
    return msgspec.json.encode(found).decode()
