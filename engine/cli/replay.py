"""``runoff replay``: how things stood, what each event changed, how two moments differ."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import click
import msgspec

from engine.amounts import counted
from engine.audit.replay import Step, difference, overview, rows_of, step
from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.keys import keys
from engine.cli.log import pages, record_json
from engine.cli.moment import POS_MAX, Moment, Place, moment, place_of
from engine.cli.progress import Progress, read_board
from engine.cli.render import as_json as to_json, print_json
from engine.cli.replay_words import difference_words, overview_words, step_words
from engine.errors import UsageProblem
from engine.events import Record
from engine.store.boards import catch_up
from engine.store.protocol import LogReader, Query
from projections.board import Board

LIMIT = 100
_ENDS = {b"", b"q", b"Q", b"\x1b", b"\x04"}


@click.command()
@click.option(
    "--at", "--from", "at", type=moment, metavar="POSITION|TIME",
    help="As it stood then. [default: now; the beginning with --step]",
)  # fmt: skip
@click.option("--step", "stepping", is_flag=True, help="Event by event from there on.")
@click.option(
    "--diff", type=moment, metavar="POSITION|TIME", help="What differs between then and --at."
)
@click.option(
    "--limit", type=click.IntRange(1, POS_MAX), metavar="N",
    help=f"At most N steps, or N rows of each projection. [default: {LIMIT}, or all where a key"
    " asks for each, and of --diff --json]",
)  # fmt: skip
@database_option
@allow_empty_option
@json_option
def replay(database: str | None, **options: Any) -> None:
    """Show how everything stood at some moment, and what changed after it.

    \b
    Examples:
      runoff replay --at 2026-11-26T03:00:00Z
      runoff replay --diff -15m
      runoff replay --from 120 --diff 180 --json
      runoff replay --step --from 120
    """  # noqa: D301
    if options["stepping"] and options["diff"] is not None:
        raise UsageProblem("--step and --diff are two things.", remedy="leave out one of them.")
    if options["limit"] and not options["stepping"] and options["diff"] is None:
        raise UsageProblem("--limit has nothing to limit.", remedy="add --step or --diff.")

    async def work() -> None:
        allow, at = options["allow_empty_db"], options["at"]
        if options["diff"] is not None:
            at = None  # the verb itself says which two moments it compares
        elif options["stepping"]:
            at = at or Moment(pos=0)
        async with reading(database, allow_empty=allow, at=at) as (_, store, board):
            if options["diff"] is not None:
                await _differ(store, board.head.pos, options)
            elif options["stepping"]:
                await _walk(store, board, options)
            else:
                await _stand(store, board, options)

    run_async(work)


async def _stand(store: LogReader, board: Board, options: dict[str, Any]) -> None:
    place = await place_of(store, Moment(pos=board.head.pos))
    found = overview(board, place.recorded_us)
    print_json(found) if options["as_json"] else click.echo(overview_words(found, place.words()))


async def _differ(store: LogReader, head: int, options: dict[str, Any]) -> None:
    """From the earlier moment to the later one, whichever was named first."""
    wanted = (options["at"] or Moment(pos=head), options["diff"])
    begin, end = sorted([await place_of(store, which) for which in wanted], key=lambda p: p.pos)
    click.echo(f"as of {begin.words()} and of {end.words()}", err=True)
    board = await read_board(store, begin.pos)
    before = rows_of(board)
    with Progress("Reading the log") as pace:
        await catch_up(board, store, end.pos, pace)
    found = difference(before, rows_of(board))
    limit = options["limit"]
    if not options["as_json"]:
        title = f"From {begin.words()} to {end.words()}: {counted(end.pos - begin.pos, 'event')}."
        click.echo(difference_words(title, found, limit or LIMIT))
        return
    if limit is not None:
        found = tuple(msgspec.structs.replace(each, rows=each.rows[:limit]) for each in found)
    moments = {"from": _place(begin), "to": _place(end), "events": end.pos - begin.pos}
    print_json(moments | {"projections": found})


def _place(place: Place) -> dict[str, int | None]:
    return {"position": place.pos, "recorded_us": place.recorded_us}


async def _walk(store: LogReader, board: Board, options: dict[str, Any]) -> None:
    """Fold forward from where ``board`` stands, to the head as it is now."""
    head = (await store.head()).pos
    by_key = sys.stdin.isatty() and sys.stdout.isatty() and not options["as_json"]
    limit = options["limit"] or (POS_MAX if by_key else LIMIT)
    records = pages(store, Query(), board.head.pos, head, limit)
    if by_key:
        await _by_key(records, board, head)
        return
    async for record in records:
        found = step(board, record)
        click.echo(_step_json(found) if options["as_json"] else step_words(found))
    left = head - board.head.pos
    if left:
        more = f"{left} more events; go on with --from {board.head.pos}, or a larger --limit."
        click.echo(more, err=True)


async def _by_key(records: AsyncIterator[Record], board: Board, head: int) -> None:
    click.echo("A key shows the next event, q ends.", err=True)
    with keys() as key:
        async for record in records:
            click.echo(step_words(step(board, record)))
            if record.pos < head and await key() in _ENDS:
                return
    if board.head.pos == head:
        click.echo("Here the log ends.", err=True)


def _step_json(found: Step) -> str:
    """The event as ``log show --json`` has it, and its changes."""
    return to_json(
        {"event": msgspec.Raw(record_json(found.record).encode()), "changes": found.changes}
    )
