"""``--at POSITION|TIME``: the moment as of which a command shows the log."""

from __future__ import annotations

import re
from typing import NamedTuple

import click

from engine.clock import SystemClock
from engine.errors import UsageProblem
from engine.iso_time import iso, unix_us
from engine.store.moments import position_at, recorded_at
from engine.store.protocol import LogReader

POS_MAX = 2**63 - 1
MOMENT_CHARS_MAX = 64
_AGO = re.compile(r"-(\d{1,9})([smhd])", re.ASCII)
_UNIT_US = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


class Moment(NamedTuple):
    """A position, or a time in Unix microseconds; exactly one of them is given."""

    pos: int | None = None
    at_us: int | None = None


class Place(NamedTuple):
    """A position of a log and when its event was recorded; position 0 is before the first."""

    pos: int
    recorded_us: int | None

    def words(self) -> str:
        """For a person; the time, given to ``--at``, leads to this position or beyond."""
        if self.recorded_us is None:
            return "position 0 (before the first event)"
        return f"position {self.pos} ({iso(self.recorded_us)})"


def moment(text: str) -> Moment:
    """What ``text`` means: digits a position, ``-15m`` a time ago, all else ISO 8601 in UTC.

    Raises UsageProblem when it means nothing.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return Moment(at_us=SystemClock().now_us() - int(ago[1]) * _UNIT_US[ago[2]])
    if text.isascii() and text.isdigit() and len(text) <= MOMENT_CHARS_MAX:
        return Moment(pos=int(text))
    try:
        return Moment(at_us=unix_us(text[: MOMENT_CHARS_MAX + 1]))
    except ValueError:
        raise UsageProblem(
            f"{text[:MOMENT_CHARS_MAX]!a} is neither a position nor a time.",
            remedy="give one such as 120, 2026-11-26T03:00:00Z, 2026-11-26, or -15m for ago.",
        ) from None


at_option = click.option(
    "--at",
    type=moment,
    metavar="POSITION|TIME",
    help="As it stood then: 120, 2026-11-26T03:00:00Z (UTC if no zone is named), or -15m.",
)


async def place_of(reader: LogReader, wanted: Moment) -> Place:
    """Where in the log ``wanted`` is; a time is the last event recorded by then.

    Raises UsageProblem for a position beyond the head.
    """
    pos = wanted.pos
    if pos is None:
        assert wanted.at_us is not None
        pos = await position_at(reader, wanted.at_us)
    head = (await reader.head()).pos
    if pos > head:
        raise UsageProblem(
            f"there is no position {pos}.", remedy=f"the log ends at position {head}."
        )
    return Place(pos, await recorded_at(reader, pos) if pos else None)
