"""``runoff projection``: list, rebuild and check the read models."""

from __future__ import annotations

import click

from engine.audit.stored import differences
from engine.cli.context import (
    allow_empty_option,
    database_option,
    json_option,
    reading,
    run_async,
    show_identity,
    writing,
)
from engine.cli.render import as_json as to_json, table
from engine.errors import AuditDifference
from engine.store.protocol import LogReader


@click.group()
def projection() -> None:
    """List, rebuild and check the read models."""


@projection.command("list")
@database_option
@allow_empty_option
@json_option
def list_(database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Every stored projection: version, position, rows, digest, and how far it lags."""

    async def work() -> list[dict[str, object]]:
        async with reading(database, allow_empty=allow_empty_db) as (_, store, _board):
            return await _described(store)

    _show(run_async(work), as_json=as_json)


@projection.command()
@database_option
@allow_empty_option
@json_option
def check(database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Rebuild everything from nothing in memory and compare with what is stored, byte for byte."""

    async def work() -> list[dict[str, object]]:
        async with reading(database, allow_empty=allow_empty_db) as (_, store, _board):
            for difference in await differences(store):
                raise AuditDifference(
                    f"{difference.what} (as of position {difference.pos}).",
                    remedy="`runoff projection rebuild`; the log itself is the truth.",
                )
            return await _described(store)

    _show(run_async(work), as_json=as_json)


@projection.command()
@database_option
@json_option
def rebuild(database: str | None, *, as_json: bool) -> None:
    """Drop every stored projection and build it again from the log."""

    async def work() -> list[dict[str, object]]:
        async with writing(database, "projection") as (location, recorder):
            for stored in await recorder.store.projections():
                await recorder.store.drop_projection(stored.name, stored.version)
            await show_identity(location, recorder.store, recorder.board)
        async with writing(database, "projection") as (_, recorder):
            return await _described(recorder.store)

    _show(run_async(work), as_json=as_json)


async def _described(store: LogReader) -> list[dict[str, object]]:
    head = (await store.head()).pos
    return [
        {
            "name": stored.name,
            "version": stored.version,
            "position": stored.checkpoint.pos,
            "lag": head - stored.checkpoint.pos,
            "rows": len(await store.projection_rows(stored.name, stored.version)),
            "digest": stored.checkpoint.digest.hex(),
        }
        for stored in await store.projections()
    ]


def _show(found: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(found))
    elif found:
        click.echo(table(list(found[0]), [list(row.values()) for row in found]))
