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
from engine.cli.render import as_json as to_json
from engine.store.identity import Identity, identify


@click.command()
@database_option
@allow_empty_option
@json_option
def identity(database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Show URL, file, modification time, counts, head and digest."""

    async def work() -> Identity:
        async with reading(database, allow_empty=True, quiet=True) as (location, store, board):
            return await identify(location, store, board)

    found = run_async(work)
    click.echo(to_json(found) if as_json else found.banner())
    refuse_empty(found, allow_empty=allow_empty_db)
