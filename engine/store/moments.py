"""Where the log stood at a moment: times turned into positions and back."""

from __future__ import annotations

from engine.errors import LogUnreadable
from engine.store.protocol import LogReader


async def position_at(reader: LogReader, at_us: int) -> int:
    """The last position that was recorded at or before ``at_us``, 0 when none was.

    ``at_us``: Unix microseconds.  The writer's clock never goes back in a log, so some twenty rows
    of a million are read.  Raises LogUnreadable where a position is missing.
    """
    known, unknown = 0, (await reader.head()).pos
    while known < unknown:
        middle = (known + unknown + 1) // 2
        if await recorded_at(reader, middle) <= at_us:
            known = middle
        else:
            unknown = middle - 1
    return known


async def log_time_us(reader: LogReader, end: int, clock_us: int) -> int:
    """By which time a writer behind position ``end`` decides when the clock shows ``clock_us``."""
    return max(clock_us, await recorded_at(reader, end) if end else 0)


async def recorded_at(reader: LogReader, pos: int) -> int:
    """When the event at ``pos`` was recorded, in Unix microseconds; ``pos`` is within the log."""
    rows = await reader.fold_rows(pos - 1, pos)
    if not rows:
        raise LogUnreadable(
            f"the log has no event at position {pos}, and later ones.",
            remedy="restore it from a backup; `runoff verify` names what is missing.",
        )
    return rows[0][1]
