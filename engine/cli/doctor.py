"""``runoff doctor``: look at what could hurt a log, and say what to do about it."""

from __future__ import annotations

import click

from engine.cli.context import database_option, json_option, run_async
from engine.cli.progress import read_board
from engine.cli.render import clean, print_json
from engine.clock import SystemClock
from engine.daemon.sockets import control_paths, is_stale
from engine.doctor import checks, probes
from engine.doctor.checks import Check, Left
from engine.errors import RunoffError
from engine.store.location import Location, locate
from engine.store.opening import forgetful_settings, holder, open_reader
from engine.store.protocol import Query


@click.command()
@database_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, database: str | None, *, as_json: bool) -> None:
    """Check Python, SQLite, disk, clock, leftovers and the log; each with a remedy.

    Exit 0 when nothing fails (warnings may stand), 1 when something does. Without a database only
    the installation is looked at. Nothing is changed; a scratch file is written beside the log.

    \b
    Example:
      runoff doctor --database sqlite:///backlog.db
    """  # noqa: D301
    python, sqlite = probes.versions()
    found = [checks.python(python), checks.sqlite(sqlite), checks.distributions(probes.owners())]
    if database:
        location = locate(database)
        found += _of_disk(location)
        found += run_async(lambda: _of_log(location))
    if as_json:
        print_json(found)
    else:
        for check in found:
            click.echo(words(check))
    ctx.exit(1 if any(check.verdict == "fail" for check in found) else 0)


def words(check: Check) -> str:
    """A check for a person."""
    remedy = f"\n      try: {check.remedy}" if check.remedy else ""
    return f"{check.verdict:<4}  {check.name:<13}  {clean(check.found)}{remedy}"


def _of_disk(location: Location) -> list[Check]:
    folder = probes.folder_of(location)
    return [
        checks.file_system(probes.file_system_of(folder)),
        checks.fsync(probes.fsync_ms(folder)),
        checks.free_space(probes.free_bytes(folder), probes.free_files(folder)),
    ]


async def _of_log(location: Location) -> list[Check]:
    is_shared, held_by = location.address is not None, holder(location)
    found = [
        checks.writer(held_by, is_shared=is_shared),
        checks.files(
            has_stale_socket=any(map(is_stale, control_paths(location))),
            names=probes.names_of(location.path),
        ),
    ]
    try:
        store = await open_reader(location)
    except RunoffError as error:
        return [*found, checks.unreadable(error.problem, error.remedy)]
    try:
        found.append(checks.server(await forgetful_settings(location, store)))
        board = await read_board(store)
        open_ids = {p.open_attempt for p in board.backlog.values() if p.open_attempt}
        newest = await store.records(Query(newest_first=True), limit=1)
        newest_us = newest[0].recorded_us if newest else 0
        marked = probes.marked()
        left = [
            Left(pid=pid, attempt_id=attempt_id, is_open=attempt_id in open_ids)
            for pid, attempt_id in (marked or {}).items()
            if await store.records(Query(attempt=attempt_id), limit=1)
        ]
    except RunoffError as error:
        return [*found, checks.unreadable(error.problem, error.remedy)]
    finally:
        await store.close()
    return [
        *found,
        checks.clock(SystemClock().now_us(), newest_us),
        checks.processes(None if marked is None else left, held=is_shared or held_by != ""),
        checks.log(board.head.pos, len(open_ids)),
    ]
