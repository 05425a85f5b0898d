"""The last room: what an engine keeps for, and does, when the disk is full."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
import click

from engine.amounts import counted
from engine.cli.context import writing
from engine.drain.last_words import Unrecorded, last_words
from engine.errors import RunoffError, is_full
from engine.store.location import Location, locate
from engine.store.reserve import Reserve


@contextmanager
def reserved(place: Location) -> Generator[None]:
    """Hold the reserve while the block runs, and beyond it when it fails: for the last words.

    None for a log on a server, whose disk is not this one.
    """
    if place.address is not None:
        yield
        return
    reserve = Reserve(place.beside("reserve"))
    reserve.hold()
    yield
    reserve.release()


@asynccontextmanager
async def last_words_of(
    url: str | None, program: str, unrecorded: Callable[[], Sequence[Unrecorded]]
) -> AsyncGenerator[None]:
    """When the disk gets full in the block, record with the reserve's room what it did not take.

    The block opens and closes the log itself; the error goes on in any case.
    """
    try:
        yield
    except BaseException as error:
        if is_full(error):
            with anyio.CancelScope(shield=True):
                await _said(url, program, unrecorded())
        raise


async def _said(url: str | None, program: str, unrecorded: Sequence[Unrecorded]) -> None:
    Reserve(locate(url).beside("reserve")).release()
    if not unrecorded:
        return
    try:
        async with writing(url, f"{program}, its last words") as (_, recorder):
            said = await last_words(recorder, unrecorded)
    except* RunoffError as group:
        click.echo(f"Its last words found no room either: {group.exceptions[0]}", err=True)
    else:
        click.echo(f"Recorded the ends of {counted(said, 'attempt')} with the reserve.", err=True)
