"""``runoff identity``: say which database this is."""

from __future__ import annotations

import click

from engine.cli.context import (
    allow_empty_option,
    database_option,
    json_option,
    reading,
    refuse_empty,
    run_async,
)
from engine.cli.moment import Moment, at_option
from engine.cli.render import as_json as to_json
from engine.store.identity import Identity, identify


@click.command()
@at_option
@database_option
@allow_empty_option
@json_option
def identity(
    database: str | None, *, at: Moment | None, allow_empty_db: bool, as_json: bool
) -> None:
    """Show URL, file, modification time, counts, head and digest."""

    async def work() -> Identity:
        # An empty database is shown before it is refused, but not as of some moment.
        allow = allow_empty_db or at is None
        async with reading(database, allow_empty=allow, quiet=True, at=at) as (place, _, board):
            return identify(place, board)

    found = run_async(work)
    click.echo(to_json(found) if as_json else found.banner())
    if at is None:
        refuse_empty(found, allow_empty=allow_empty_db)
