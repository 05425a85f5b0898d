"""``runoff log``: read the log itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from fnmatch import fnmatchcase
from typing import Any

import click
import msgspec

from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.log_copy import log_copy
from engine.cli.log_follow import SameName, growth
from engine.cli.moment import POS_MAX, moment, place_of
from engine.cli.render import as_json as to_json, asked, clean, when
from engine.cli.words import in_words
from engine.errors import UsageProblem
from engine.events import Record, event_of
from engine.events.codec import EVENT_CLASSES
from engine.store.location import locate
from engine.store.opening import open_reader
from engine.store.protocol import PAGE_ROWS, LogReader, Query

WORDS_CHARS = 160
_Position = click.IntRange(0, POS_MAX)


@click.group(cls=DefaultGroup)
def log() -> None:
    """Read the log itself; ``log`` alone shows its newest events."""


@log.command()
@database_option
@allow_empty_option
@click.option("--session", metavar="ID", help="Only of this session.")
@click.option("--run", metavar="ID", help="Only of this run.")
@click.option("--phase", metavar="ID", help="Only of this phase.")
@click.option("--attempt", metavar="ID", help="Only of this attempt.")
@click.option("--type", "types", multiple=True, metavar="GLOB", help="Such as 'attempt.*'.")
@click.option("--after", type=_Position, help="Only beyond this position, oldest first.")
@click.option("--at", type=click.IntRange(1, POS_MAX), help="Only this position.")
@click.option("--until", type=moment, metavar="POSITION|TIME", help="Nothing beyond then.")
@click.option("--limit", type=click.IntRange(1, POS_MAX), default=50, show_default=True)
@click.option("--follow", is_flag=True, help="Go on as the log grows, until interrupted.")
@click.option("--raw", is_flag=True, help="Stored bytes instead of words, unread.")
@json_option
def show(database: str | None, **options: Any) -> None:
    """Show events in order: the newest 50, or those that the options name.

    \b
    Examples:
      runoff log --follow
      runoff log show --run RUN --type 'attempt.*' --type 'triage.*'
      runoff log show --after 0 --limit 1000000 --json
      runoff log show --until -2h
    """  # noqa: D301
    query = _query(options)
    if options["at"] is not None and (options["follow"] or options["after"] is not None):
        raise UsageProblem("--at shows one event.", remedy="leave out --follow and --after.")
    if options["until"] is not None and (options["follow"] or options["at"] is not None):
        raise UsageProblem("--until ends a list.", remedy="leave out --follow and --at.")

    async def work() -> None:
        name = SameName(locate(database))
        async with _opened(database, options) as store:
            if options["at"] is not None:
                await _print_one(store, options)
            else:
                await _print_many(store, name, query, options)

    run_async(work)


@asynccontextmanager
async def _opened(database: str | None, options: dict[str, Any]) -> AsyncGenerator[LogReader, None]:
    """The log; raw, it is shown even where this program cannot read it, so without a banner."""
    if not options["raw"]:
        allow = options["allow_empty_db"]
        async with reading(database, allow_empty=allow) as (_, store, _board):
            yield store
        return
    store = await open_reader(locate(database))
    try:
        yield store
    finally:
        await store.close()


def _query(options: dict[str, Any]) -> Query:
    def tag(name: str) -> str | None:
        return None if options[name] is None else asked(options[name], f"--{name}")

    return Query(
        session=tag("session"),
        run=tag("run"),
        phase=tag("phase"),
        attempt=tag("attempt"),
        types=_types(options["types"]),
    )


def _types(globs: tuple[str, ...]) -> tuple[str, ...]:
    """Every event type that one of ``globs`` matches; empty for all when none is given."""
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in EVENT_CLASSES):
            raise UsageProblem(
                f"no type of event matches {glob[:80]!a}.",
                remedy=f"the types are {', '.join(sorted(EVENT_CLASSES))}.",
            )
    return tuple(n for n in EVENT_CLASSES if any(fnmatchcase(n, glob) for glob in globs))


async def _print_one(store: LogReader, options: dict[str, Any]) -> None:
    at = options["at"]
    records = await store.records(Query(until=at), after=at - 1, limit=1)
    if not records:
        end = (await store.head()).pos
        raise UsageProblem(f"there is no position {at}.", remedy=f"the log ends at {end}.")
    _print(records[0], options)


async def _print_many(
    store: LogReader, name: SameName, query: Query, options: dict[str, Any]
) -> None:
    after, until, limit = options["after"], options["until"], options["limit"]
    end = (await store.head() if until is None else await place_of(store, until)).pos
    if after is None:
        newest = msgspec.structs.replace(query, newest_first=True, until=end)
        for record in reversed(await store.records(newest, limit=limit)):
            _print(record, options)
    else:
        end = max(end, after)
        bound = POS_MAX if options["follow"] else limit  # following leaves nothing out
        async for record in pages(store, query, after, end, bound):
            _print(record, options)
    if options["follow"]:
        async for start, reached in growth(store, name, end):
            async for record in pages(store, query, start, reached):
                _print(record, options)


async def pages(
    store: LogReader, query: Query, after: int, until: int, limit: int = POS_MAX
) -> AsyncGenerator[Record, None]:
    """Matching records in ``after`` < pos <= ``until``, oldest first, read page by page."""
    bounded = msgspec.structs.replace(query, until=until)
    while limit > 0:
        records = await store.records(bounded, after=after, limit=min(limit, PAGE_ROWS))
        if not records:
            return
        for record in records:
            yield record
        after, limit = records[-1].pos, limit - len(records)


def _print(record: Record, options: dict[str, Any]) -> None:
    click.echo(record_json(record) if options["as_json"] else _line(record, raw=options["raw"]))


def record_json(record: Record) -> str:
    """All columns as one JSON object: ``hash`` and ``request`` in hex, ``data`` as an object."""
    row = record._asdict() | {"data": msgspec.Raw(record.data.encode())}
    return to_json(row | {"hash": record.hash.hex(), "request": record.request.hex()})


def record_words(record: Record) -> str:
    """What the record says, made harmless, on one line."""
    event = event_of(record)
    return clean(in_words(event))


def _line(record: Record, *, raw: bool) -> str:
    tags = "/".join(clean(tag) for tag in (record.run, record.phase) if tag)
    text = clean(record.data) if raw else record_words(record)[:WORDS_CHARS]
    place = f"{record.pos:>7}  {when(record.recorded_us)}  {record.type:<30}  {tags}"
    return f"{place}  {text}"


log.add_command(log_copy)  # behind `show`, which `runoff log` alone means
