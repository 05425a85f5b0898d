"""The last room: what an engine does when the disk is full, on a command line of any kind."""

from __future__ import annotations

from collections.abc import Sequence

import click

from engine.cli.context import writing
from engine.drain.last_words import Unrecorded, last_words
from engine.errors import RunoffError
from engine.store.location import locate
from engine.store.reserve import Reserve


async def say_last_words(url: str | None, program: str, unrecorded: Sequence[Unrecorded]) -> None:
    """Give the reserve up, and record with its room the ends that the disk did not take."""
    Reserve(locate(url).beside("reserve")).release()
    if not unrecorded:
        return
    try:
        async with writing(url, f"{program}, its last words") as (_, recorder):
            said = await last_words(recorder, unrecorded)
    except* RunoffError as group:
        click.echo(f"Its last words found no room either: {group.exceptions[0]}", err=True)
    else:
        click.echo(f"Recorded the ends of {said} attempts with the reserve.", err=True)
