"""Time zones as programs name them, in messages that people are to read.

A name that is not known is never taken for UTC: a time that is read hours off is worse than none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from types import MappingProxyType
from zoneinfo import ZoneInfo

_OFFSETS_H: Mapping[str, int] = MappingProxyType(
    {"Z": 0, "UTC": 0, "GMT": 0}
    | {"EST": -5, "EDT": -4, "CST": -6, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7}
)
"""Abbreviations with the meaning that RFC 5322 section 4.3 gives them; others have several."""

AHEAD_H_MAX = 14
_NUMERIC = re.compile(r"(?:UTC|GMT)?([+-])(\d\d?)(?::?([0-5]\d))?")


def fixed_zone(said: str) -> tzinfo | None:
    """The zone of an abbreviation or an offset (``PST``, ``+0530``, ``UTC-8``), if it is known."""
    name = said.upper()
    if name in _OFFSETS_H:
        return timezone(timedelta(hours=_OFFSETS_H[name]))
    numeric = _NUMERIC.fullmatch(name)
    if numeric is None or int(numeric[2]) > AHEAD_H_MAX:
        return None
    ahead = timedelta(hours=int(numeric[2]), minutes=int(numeric[3] or 0))
    return timezone(-ahead if numeric[1] == "-" else ahead)


def zone(said: str) -> tzinfo | None:
    """The zone called ``said``, also by its name in the time zone database of this machine."""
    fixed = fixed_zone(said)
    if fixed is not None or "/" not in said:
        return fixed
    try:
        return ZoneInfo(said)
    except (KeyError, ValueError, OSError):  # unknown; no name; the name of a folder
        return None


def next_time_us(minute: int, where: tzinfo, after_us: int) -> int | None:
    """The first moment behind ``after_us`` at which clocks in ``where`` show ``minute``.

    ``minute`` counts from midnight; both moments are Unix times in microseconds.  None where no
    calendar reaches.
    """
    wanted = time(*divmod(minute, 60))
    try:
        day = datetime.fromtimestamp(after_us // 1_000_000, UTC).astimezone(where).date()
        while True:
            first = datetime.combine(day, wanted, where)
            for shown in (first, first.replace(fold=1)):  # twice where clocks are put back
                found_us = round(shown.timestamp()) * 1_000_000
                if found_us > after_us:
                    return found_us
            day += timedelta(days=1)
    except (ValueError, OverflowError, OSError):
        return None
