"""How things look on a terminal: agent text made harmless, tables, JSON."""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime

import click
import msgspec

from engine.errors import UsageProblem

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
LINE_CHARS_MAX = 8000
"""The longest line that is told of an error; a path has at most 4096."""
INDENT = "    "
TEXT_CELLS_MIN = 20
"""A text that is folded into a narrower column cannot be read."""
TEXT_CHARS_MAX = 2000
"""The longest text that an operator may pass to go into the log, or to look something up."""


def clean(text: str) -> str:
    r"""``text`` with everything unprintable escaped, so that it cannot drive a terminal.

    Control characters, ANSI sequences, marks that turn the writing direction, line ends and lone
    surrogates come out as ``\x1b``, ``\u202e`` and so on; what is printable stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clean_lines(text: str) -> str:
    """The same line by line, with the line ends kept."""
    return "\n".join(map(clean, text.split("\n")))


def in_short(text: str) -> str:
    """``text`` with the middle of every line left out that is too long to be read as one."""
    return "\n".join(map(_in_short, text.split("\n")))


def _in_short(line: str) -> str:
    half = LINE_CHARS_MAX // 2
    left_out = len(line) - 2 * half
    return line if left_out <= 0 else f"{line[:half]}[… {left_out} characters …]{line[-half:]}"


def asked(text: str, what: str) -> str:
    """``text`` as given on the command line, if a database can be asked for it.

    Raises UsageProblem naming ``what`` for bytes that are not UTF-8 and for over-long text.
    """
    remedy = f"pass at most {TEXT_CHARS_MAX} characters of UTF-8."
    if len(text) > TEXT_CHARS_MAX:
        raise UsageProblem(f"{what} has {len(text)} characters.", remedy=remedy)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageProblem(f"{what} is not valid Unicode: {text[:40]!a}.", remedy=remedy) from None
    return text


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table to stdout: drawn on a terminal that it fits, else aligned text and no title.

    Every cell is made harmless; None shows as nothing.  When it is drawn texts are folded, and ids
    never are, so that they can be copied.  NO_COLOR is respected.
    """
    cells = [["" if cell is None else clean(str(cell)) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _drawn(title, columns, cells)
    else:
        click.echo(aligned([columns, *cells]))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns padded to the widest of their cells; ``lines`` all have as many cells."""
    widths = _widths(lines)
    return "\n".join(
        "  ".join(padded(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def broken(lines: Sequence[Sequence[str]], width: int) -> str:
    """The same for a terminal of ``width`` cells: what does not fit goes on in a line below.

    All rows break before the same columns; lines below are indented, and left out when empty.
    """
    firsts, used = [0], 0
    for place, cells in enumerate(_widths(lines)):
        if place and used + cells > width:
            firsts, used = [*firsts, place], len(INDENT)
        used += cells + 2
    ends = [*firsts[1:], None]
    parts = [aligned([line[a:b] for line in lines]) for a, b in zip(firsts, ends, strict=True)]
    shown = [
        [first, *(INDENT + more for more in rest if more)]
        for first, *rest in zip(*(part.split("\n") for part in parts), strict=True)
    ]
    return "\n".join(line for row in shown for line in row)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cells_of, column)) for column in zip(*lines, strict=True)]


def cells_of(text: str) -> int:
    """How many cells of a terminal ``text`` fills: wide letters two, marks upon letters none."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) for character in text)


def _cells_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def padded(text: str, cells: int) -> str:
    """``text`` with blanks behind it, so that it fills ``cells`` of a terminal."""
    return text + " " * (cells - cells_of(text))


def _drawn(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    # Importing rich takes longer than most commands do, so only a terminal pays for it.
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(markup=False, no_color=bool(os.environ.get("NO_COLOR")))
    drawn, needed = Table(title=Text(title), title_justify="left"), 1
    for name, *column in zip(columns, *cells, strict=True):
        is_text = any(" " in cell for cell in column)
        drawn.add_column(Text(name), overflow="fold", no_wrap=not is_text)
        least = max(map(cells_of, column), default=0)
        needed += 3 + max(cells_of(name), min(least, TEXT_CELLS_MIN) if is_text else least)
    if needed > console.width:
        click.echo(broken([columns, *cells], console.width))
        return
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))
    console.print(drawn)


_LATEST_US = 253_402_300_799_000_000
"""The end of the year 9999, where calendars of Python end."""


def when(recorded_us: int) -> str:
    """Unix microseconds as a person reads them, in UTC."""
    if not 0 <= recorded_us <= _LATEST_US:
        return f"{recorded_us} us"  # no time that a clock shows, as a doctored log may have
    return datetime.fromtimestamp(recorded_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def fields(found: object) -> str:
    """One value a line, for a single thing; what is None or empty, or never was, is left out."""
    known = dict(_in_words(name, value) for name, value in _flat(msgspec.to_builtins(found)))
    shown = {name: text for name, text in known.items() if text}
    width = max(map(len, shown), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in shown.items())


def _in_words(name: str, value: object) -> tuple[str, str]:
    """A field as a person reads it: times in UTC, as ``started_at`` for ``started_us``."""
    if value is None:
        return name, ""
    if name.endswith("_us") and isinstance(value, int):
        return f"{name.removesuffix('_us')}_at", when(value) if value else ""
    if isinstance(value, tuple | list):
        each = msgspec.convert(value, list[object])
        return name, ", ".join(clean(e) if isinstance(e, str) else as_json(e) for e in each)
    return name, clean(str(value))


def _flat(fields_of: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    flat: list[tuple[str, object]] = []
    for name, value in fields_of.items():
        if isinstance(value, dict):
            flat += _flat(msgspec.convert(value, dict[str, object]), f"{prefix}{clean(name)}.")
        else:
            flat.append((f"{prefix}{clean(name)}", value))
    return flat


def as_json(found: object) -> str:
    r"""Compact JSON on one line, with everything unprintable as ``\u009b`` and so on.

    It says the same to a program, and cannot drive a terminal.
    """
    text = msgspec.json.encode(found).decode()
    return text if text.isprintable() else _UNPRINTABLE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    found = match[0]
    if found.isprintable():
        return found
    # White space between parts, which JSON that was stored may have; in texts it is escaped.
    return " " if found in "\t\n\r" else json.dumps(found)[1:-1]


def print_json(found: object) -> None:
    """Print compact JSON on one line of stdout."""
    click.echo(as_json(found))
