"""Opening a log for one quick question, without loading all of its backlog."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

import click

from engine.cli.context import run_async, show_head
from engine.cli.moment import Moment, place_of
from engine.clock import SystemClock
from engine.errors import WrongDatabase
from engine.store.boards import refuse_unreadable
from engine.store.location import Location, locate
from engine.store.moments import log_time_us
from engine.store.opening import open_quick
from engine.store.protocol import LogReader

_BACKLOG = {"backlog.run_registered", "backlog.phase_registered"}


class Peek(NamedTuple):
    """An open log, the position to look from, and the time that it is there (Unix)."""

    location: Location
    reader: LogReader
    end: int
    now_us: int


@asynccontextmanager
async def peeking(
    url: str | None, *, allow_empty: bool, at: Moment | None
) -> AsyncGenerator[Peek, None]:
    """Open for reading, with a short banner and the guardrail; as of the head, or of ``at``.

    The time is the clock's, but never before the last event; with ``at`` that event's.
    """
    location = locate(url)
    reader = await open_quick(location)
    try:
        head = await reader.head()
        await refuse_unreadable(reader, head.pos)
        show_head(location, head)
        if not allow_empty and not _BACKLOG & {shape.type for shape in await reader.shapes()}:
            raise WrongDatabase.empty(location.url, runs=0, phases=0)
        end = head.pos
        if at is not None:
            place = await place_of(reader, at)
            click.echo(f"as of {place.words()}", err=True)
            end = place.pos
        yield Peek(location, reader, end, await _now_us(reader, end, at))
    finally:
        await reader.close()


def announced_at(url: str | None, *, allow_empty: bool, at: Moment | None) -> tuple[Location, int]:
    """Say which database it is, and hold it to the guardrail, for verbs that read it by themselves.

    With the position that ``at`` means; without it that of the head.  Raises as ``peeking`` does.
    """

    async def work() -> tuple[Location, int]:
        async with peeking(url, allow_empty=allow_empty, at=at) as peek:
            return peek.location, peek.end

    return run_async(work)


async def _now_us(reader: LogReader, end: int, at: Moment | None) -> int:
    return await log_time_us(reader, end, 0 if at is not None else SystemClock().now_us())
