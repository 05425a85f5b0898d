"""``runoff projection``: list, rebuild and check the read models."""

from __future__ import annotations

import click
import msgspec

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
from engine.cli.progress import read_board
from engine.cli.render import print_json, table
from engine.errors import AuditDifference, LogUnreadable, UnknownEvent, UsageProblem
from engine.store.location import Location, locate
from engine.store.opening import check as check_place, held, open_reader, open_writer
from engine.store.protocol import LogReader
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
    """Every stored projection: version, position, lag, rows, digest."""

    async def work() -> list[Described]:
        async with reading(database, allow_empty=allow_empty_db) as (_, store, _board):
            return await _described(store)

    _show(run_async(work), as_json=as_json)


@projection.command()
@database_option
@allow_empty_option
@json_option
def check(database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Rebuild everything in memory and compare with what is stored."""

    async def work() -> list[Described]:
        location = locate(database)
        store = await open_reader(location)
        try:
            await _guarded(location, store, allow_empty=allow_empty_db)
            for difference in await differences(store):
                raise AuditDifference(
                    f"{difference.what} (as of position {difference.pos}).",
                    remedy="`runoff projection rebuild`; the log itself is the truth.",
                )
            return await _described(store)
        finally:
            await store.close()

    _show(run_async(work), as_json=as_json)


async def _guarded(location: Location, store: LogReader, *, allow_empty: bool) -> None:
    """Banner and guardrail, if the stored rows that they are read from can be read at all."""
    try:
        identity = show_identity(location, await read_board(store))
    except UnknownEvent:
        raise  # a newer program's log: nothing here may touch it
    except (LogUnreadable, msgspec.MsgspecError):
        return
    refuse_empty(identity, allow_empty=allow_empty)


@projection.command()
@click.argument("name", required=False, metavar="[NAME]")
@database_option
@allow_empty_option
@json_option
def rebuild(name: str | None, database: str | None, *, allow_empty_db: bool, as_json: bool) -> None:
    """Drop what is stored and build it again from the log.

    All projections stand at one position, so with NAME the others are written again as well.
    """
    if name is not None and name not in FOLDS:
        raise UsageProblem(
            f"there is no projection {name[:80]!a}.", remedy=f"the names are {', '.join(FOLDS)}."
        )

    async def work() -> list[Described]:
        before = await _dropped(database, name, allow_empty=allow_empty_db)
        async with writing(database, "projection") as (_, recorder):
            after = await _described(recorder.store)
        return [row | {"digest_before": before.get(str(row["name"]))} for row in after]

    _show(run_async(work), as_json=as_json)


async def _dropped(database: str | None, name: str | None, *, allow_empty: bool) -> dict[str, str]:
    """Drop without reading a row, since rows may be what is damaged; the digests there were."""
    location = locate(database)
    check_place(location)
    with held(location, "runoff projection"):
        store = await open_writer(location, create=False)
        try:
            await _guarded(location, store, allow_empty=allow_empty)
            found = await store.projections()
            for stored in found:
                if name in (None, stored.name):
                    await store.drop_projection(stored.name, stored.version)
        finally:
            await store.close()
    return {stored.name: stored.checkpoint.digest.hex() for stored in found}


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
