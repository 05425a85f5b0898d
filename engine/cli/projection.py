"""``runoff projection``: list, rebuild and check the read models."""

from __future__ import annotations

import click

from engine.audit.stored import differences
from engine.cli.context import (
    allow_empty_option,
    database_option,
    json_option,
    reading,
    refuse_empty,
    run_async,
    show_identity,
    writing,
)
from engine.cli.groups import DefaultGroup
from engine.cli.render import print_json, table
from engine.errors import AuditDifference, UsageProblem
from engine.store.protocol import EventStore, LogReader
from projections.board import FOLDS

Described = dict[str, object]


@click.group(cls=DefaultGroup)
def projection() -> None:
    """List, rebuild and check the read models.  ``projection`` alone lists them."""


@projection.command("list")
@database_option
@allow_empty_option
@json_option
def list_(database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Every stored projection: version, position, rows, digest, and how far it lags."""

    async def work() -> list[Described]:
        async with reading(database, allow_empty=allow_empty_db) as (_, store, _board):
            return await _described(store)

    _show(run_async(work), as_json=as_json)


@projection.command()
@database_option
@allow_empty_option
@json_option
def check(database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Rebuild everything from nothing in memory and compare with what is stored, byte for byte."""

    async def work() -> list[Described]:
        async with reading(database, allow_empty=allow_empty_db) as (_, store, _board):
            for difference in await differences(store):
                raise AuditDifference(
                    f"{difference.what} (as of position {difference.pos}).",
                    remedy="`runoff projection rebuild`; the log itself is the truth.",
                )
            return await _described(store)

    _show(run_async(work), as_json=as_json)


@projection.command()
@click.argument("name", required=False, metavar="[NAME]")
@database_option
@allow_empty_option
@json_option
def rebuild(name: str | None, database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Drop what is stored and build it again from the log; show the digests before and after.

    All projections stand at one position, so with NAME the others are written again as well.
    """
    if name is not None and name not in FOLDS:
        raise UsageProblem(
            f"there is no projection {name[:80]!a}.", remedy=f"the names are {', '.join(FOLDS)}."
        )

    async def work() -> list[Described]:
        async with writing(database, "projection") as (location, recorder):
            identity = await show_identity(location, recorder.store, recorder.board)
            refuse_empty(identity, allow_empty=allow_empty_db)
            before = await _described(recorder.store)
            await _drop(recorder.store, name)
        async with writing(database, "projection") as (_, recorder):
            after = await _described(recorder.store)
        return [_changed(row, before) for row in after]

    _show(run_async(work), as_json=as_json)


async def _drop(store: EventStore, name: str | None) -> None:
    for stored in await store.projections():
        if name in (None, stored.name):
            await store.drop_projection(stored.name, stored.version)


def _changed(row: Described, before: list[Described]) -> Described:
    same = [old["digest"] for old in before if old["name"] == row["name"]]
    return row | {"digest_before": same[-1] if same else None}


async def _described(store: LogReader) -> list[Described]:
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


def _show(found: list[Described], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif found:
        table("Projections", list(found[0]), [list(row.values()) for row in found])
