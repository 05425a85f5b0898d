"""``runoff attempt``: look at attempts, the open ones too."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.log import pages, record_words
from engine.cli.moment import at_option
from engine.cli.render import asked, clean, print_json, table, when
from engine.errors import UsageProblem
from engine.events import AttemptFinished, AttemptStarted, Ending, Record, event_of
from engine.store.protocol import PAGE_ROWS, LogReader, Query

COLUMNS = "attempt_id run_id phase_id number ending duration_ms yield_events tokens error"
ERROR_CHARS = 80


class AttemptRow(msgspec.Struct, kw_only=True):
    """One attempt; what its end decides is None while it is open.  ``started_us``: Unix."""

    attempt_id: str
    session_id: str
    run_id: str
    phase_id: str
    number: int
    group: str
    category: str
    executor: str
    timeout_ms: int
    started_pos: int
    started_us: int
    finished_pos: int | None = None
    ending: Ending | None = None
    final_state: str | None = None
    exit_code: int | None = None
    duration_ms: int | None = None
    yield_events: int | None = None
    tokens: int | None = None
    error: str | None = None


@click.group(cls=DefaultGroup)
def attempt() -> None:
    """Look at attempts.  ``attempt`` alone lists the newest."""


@attempt.command("list")
@at_option
@click.option("--session", metavar="ID", help="Only of this session.")
@click.option("--run", metavar="ID", help="Only of this run.")
@click.option("--phase", metavar="ID", help="Only of phases of this id.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True)
@database_option
@allow_empty_option
@json_option
def attempt_list(limit: int, **options: Any) -> None:
    """The newest attempts, newest first; those without an ending are open."""
    for name in ("session", "run", "phase"):
        asked(options[name] or "", f"--{name}")
    query = Query(
        session=options["session"],
        run=options["run"],
        phase=options["phase"],
        types=("attempt.started", "attempt.finished"),
        newest_first=True,
    )

    async def work() -> list[AttemptRow]:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (_, store, board):
            bounded = msgspec.structs.replace(query, until=board.head.pos)
            return await newest_attempts(store, bounded, limit)

    rows = run_async(work)
    if options["as_json"]:
        print_json(rows)
        return
    columns = COLUMNS.split()
    table("Attempts", columns, [[_cell(row, name) for name in columns] for row in rows])


def _cell(row: AttemptRow, name: str) -> object:
    if name == "ending":
        return row.ending or "open"
    return row.error and row.error[:ERROR_CHARS] if name == "error" else getattr(row, name)


async def newest_attempts(store: LogReader, query: Query, limit: int) -> list[AttemptRow]:
    """The ``limit`` attempts that started last.

    Read backwards: the end of an attempt is always met before its start.
    """
    rows: list[AttemptRow] = []
    ends: dict[str, tuple[int, AttemptFinished]] = {}
    before = 0
    while len(rows) < limit:
        records = await store.records(query, after=before, limit=min(PAGE_ROWS, 4 * limit))
        for record in records:
            event = event_of(record)
            if isinstance(event, AttemptFinished):
                ends[event.attempt_id] = (record.pos, event)
            elif isinstance(event, AttemptStarted):
                rows.append(_row(record, event, ends.pop(event.attempt_id, None)))
        if not records or records[-1].pos == 1:
            break
        before = records[-1].pos
    return rows[:limit]


def _row(
    record: Record, start: AttemptStarted, end: tuple[int, AttemptFinished] | None
) -> AttemptRow:
    row = AttemptRow(
        attempt_id=start.attempt_id,
        session_id=start.session_id,
        run_id=start.run_id,
        phase_id=start.phase_id,
        number=start.number,
        group=start.group,
        category=start.category,
        executor=start.executor,
        timeout_ms=start.timeout_ms,
        started_pos=record.pos,
        started_us=record.recorded_us,
    )
    if end is not None:
        row.finished_pos, finished = end
        for name in ("ending", "final_state", "exit_code", "duration_ms"):
            setattr(row, name, getattr(finished, name))
        for name in ("yield_events", "tokens", "error"):
            setattr(row, name, getattr(finished, name))
    return row


def no_attempt(attempt_id: str) -> UsageProblem:
    """What to say of an id that no attempt has."""
    return UsageProblem(
        f"there is no attempt {attempt_id[:80]!a}.",
        remedy="`runoff attempt list` names the newest.",
    )


@attempt.command("show")
@click.argument("attempt_id", metavar="ATTEMPT")
@at_option
@database_option
@allow_empty_option
@json_option
def attempt_show(attempt_id: str, **options: Any) -> None:
    """Everything the log says of one attempt, in order, with the reasons."""
    query = Query(attempt=asked(attempt_id, "ATTEMPT"))

    async def work() -> list[Record]:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (_, store, board):
            return [record async for record in pages(store, query, 0, board.head.pos)]

    records = run_async(work)
    if not records:
        raise no_attempt(attempt_id)
    if options["as_json"]:
        print_json([msgspec.Raw(record.data.encode()) for record in records])
        return
    first = records[0]
    click.echo(f"{clean(attempt_id)}  {clean(f'{first.run}/{first.phase}')}")
    for record in records:
        name = record.type.partition(".")[2]
        click.echo(f"  @{record.pos}  {when(record.recorded_us)}  {name}: {record_words(record)}")
