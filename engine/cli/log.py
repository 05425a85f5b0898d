"""``runoff log``: read the log itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import click
import msgspec

from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.render import as_json as to_json, clean
from engine.events import Record
from engine.store.protocol import Query
from engine.store.sqlite import SqliteStore

POLL_S = 0.2
DATA_CHARS = 160


@click.group()
def log() -> None:
    """Read the log itself."""


@log.command()
@database_option
@allow_empty_option
@click.option("--session", metavar="ID")
@click.option("--run", metavar="ID")
@click.option("--phase", metavar="ID")
@click.option("--attempt", metavar="ID")
@click.option("--type", "types", multiple=True, metavar="GLOB", help="Such as 'attempt.*'.")
@click.option("--after", type=click.IntRange(0), help="Only beyond this position, oldest first.")
@click.option("--at", type=click.IntRange(1), help="Only this position.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--follow", is_flag=True, help="Go on as the log grows, until interrupted.")
@click.option("--raw", is_flag=True, help="The stored bytes of the data, whole.")
@json_option
def show(database: str | None, **options: Any) -> None:
    """Show events: the newest 50, or those that the options name."""

    async def work() -> None:
        allow = options["allow_empty_db"]
        async with reading(database, allow_empty=allow) as (_, store, _board):
            last = await _print(store, options, options["after"])
            while options["follow"]:
                await anyio.sleep(POLL_S)
                last = await _print(store, options, last)

    run_async(work)


async def _print(store: SqliteStore, options: dict[str, Any], after: int | None) -> int:
    head = (await store.head()).pos
    at = options["at"]
    query = Query(
        session=options["session"],
        run=options["run"],
        phase=options["phase"],
        attempt=options["attempt"],
        types=options["types"],
        until=at,
        newest_first=after is None and at is None,
    )
    start = at - 1 if at is not None else after or 0
    records = await store.records(query, after=start, limit=1 if at else options["limit"])
    for record in sorted(records):
        click.echo(_json(record) if options["as_json"] else _line(record, raw=options["raw"]))
    return records[-1].pos if records and not query.newest_first else head


def _json(record: Record) -> str:
    row = record._asdict() | {"data": msgspec.Raw(record.data.encode())}
    return to_json(row | {"hash": record.hash.hex(), "request": record.request.hex()})


def _line(record: Record, *, raw: bool) -> str:
    time = datetime.fromtimestamp(record.recorded_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")
    tags = "/".join(tag for tag in (record.run, record.phase) if tag)
    data = record.data if raw else record.data[:DATA_CHARS]
    return clean(f"{record.pos:>7}  {time}  {record.type:<30}  {tags}  {data}")
