"""Pictures as SVG text, small enough to be written by hand; styled by the page's own CSS."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

DECADE = 10.0
TENTH, THOUSAND, MILLION, BILLION = 0.1, 1e3, 1e6, 1e9
FEW_DECADES = 1.2
TRIANGLE = 4.0
NAME_CHARS = 30


class LogAxis(NamedTuple):
    """Values from ``low`` to ``high``, both above 0, at ``start`` and ``end`` in pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of ``value``; beyond the ends, the end."""
        return self.beyond(min(max(value, self.low), self.high))

    def beyond(self, value: float) -> float:
        """The pixel of ``value``, outside of the picture where it is so small or large."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> Iterator[float]:
        """Round values within: the powers of ten, and 2 and 5 between where those are few."""
        steps = (1.0, 2.0, 5.0) if math.log10(self.high / self.low) < 2 * FEW_DECADES else (1.0,)
        first = math.floor(math.log10(self.low))
        for exponent in range(first, math.ceil(math.log10(self.high)) + 1):
            for step in steps:
                value = step * DECADE**exponent
                if self.low <= value * (1 + 1e-9) and value <= self.high * (1 + 1e-9):
                    yield value


def log_axis(values: Sequence[float], start: float, end: float) -> LogAxis:
    """An axis that holds ``values``, with a little room at both ends."""
    low, high = min(values) / 1.25, max(values) * 1.25
    return LogAxis(low, max(high, low * 2), start, end)


def number(value: float) -> str:
    """A number of tokens in short: ``950``, ``3.8k``, ``12k``, ``1.2M``, ``3e+09``."""
    # Rounded before the unit is chosen: 999 700 is 1M, not a thousand k.
    rounded = float(f"{value:.3g}")
    if rounded < BILLION:
        for unit, name in ((MILLION, "M"), (THOUSAND, "k")):
            if rounded >= unit:
                return f"{rounded / unit:.3g}{name}"
    return f"{rounded:.3g}"


def times(value: float | None) -> str:
    """A multiplier: ``1.94×``, of which two digits always say something, or a dash."""
    if value is None:
        return "–"
    return f"{value:.2f}×" if TENTH <= value < THOUSAND else f"{value:.2g}×"


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> str:
    """A picture of so many pixels that shrinks with the page; ``label`` says what it shows."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" role="img"'
        f' aria-label="{plain(label)}"><title>{plain(label)}</title>{"".join(parts)}</svg>'
    )


def plain(words: str) -> str:
    """Words of an agent or a source: no tags, no escapes, nothing that turns the direction."""
    return escape("".join(c if c.isprintable() else " " for c in words))


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    """A rectangle; of no size where it would be negative."""
    return (
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}"'
        f' height="{max(height, 0):.1f}"/>'
    )


def text(x: float, y: float, words: str, kind: str = "label", anchor: str = "start") -> str:
    """Words at a point; ``anchor`` is start, middle or end."""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{plain(words)}</text>'


def polygon(points: Sequence[tuple[float, float]], kind: str) -> str:
    """A closed area."""
    return f'<polygon class="{kind}" points="{_points(points)}"/>'


def clipped(along: LogAxis, up: LogAxis, parts: Sequence[str]) -> str:
    """Parts of which only what lies within two axes is seen."""
    x, y = min(along.start, along.end), min(up.start, up.end)
    width, height = abs(along.end - along.start), abs(up.end - up.start)
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    box = f'viewBox="{x:.1f} {y:.1f} {width:.1f} {height:.1f}"'
    return f"<svg {place} {box}>{''.join(parts)}</svg>"


def short(name: str) -> str:
    """A name that fits above a picture."""
    return name if len(name) <= NAME_CHARS else f"{name[: NAME_CHARS - 1]}…"


def polyline(points: Sequence[tuple[float, float]], kind: str) -> str:
    """An open line."""
    return f'<polyline class="{kind}" points="{_points(points)}"/>'


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)


def mark(x: float, y: float, *, is_cut: bool) -> str:
    """A sample: a dot, or an open triangle when it was truncated."""
    if not is_cut:
        return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>'
    corners = [(x, y - TRIANGLE), (x + TRIANGLE, y + TRIANGLE), (x - TRIANGLE, y + TRIANGLE)]
    return polygon(corners, "cut")
