"""``runoff log copy``: move a log to another database, with its chain."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import NamedTuple

import click

from engine.amounts import counted
from engine.cli.context import json_option, run_async, set_anchors_aside, show_head
from engine.cli.render import print_json
from engine.clock import SystemClock
from engine.errors import UsageProblem
from engine.events import Head
from engine.store.anchors import Anchors, check_against
from engine.store.copying import copy_blobs, copy_log
from engine.store.location import Location, locate
from engine.store.opening import held, is_missing, open_reader, open_writer


class _Copied(NamedTuple):
    """What both databases have now."""

    head: Head
    files: int


@click.command("copy")
@click.argument("source", metavar="FROM-URL")
@click.argument("target", metavar="TO-URL")
@click.option("--resume", is_flag=True, help="Go on with a copy that is a beginning of the log.")
@click.option("--live", is_flag=True, help="A backup, beside whatever writes the log meanwhile.")
@json_option
def log_copy(source: str, target: str, *, resume: bool, live: bool, as_json: bool) -> None:
    """Copy a log with its chain and kept output into an empty database.

    Positions, epochs, hashes and bytes stay as they are; every row is checked on the way and read
    back. What was copied when it is cut short is a beginning of the log: --resume goes on. Stop
    whatever writes the source first; a source in a file is held meanwhile. With --live nothing has
    to stop: what the log holds at the beginning is copied, and the next --live --resume adds what
    has come since.

    \b
    Examples:
      runoff log copy sqlite:///backlog.db postgresql://runoff@db.example/backlog
      runoff log copy postgresql://runoff@db.example/backlog sqlite:///backlog.db
      runoff log copy --live --resume sqlite:///backlog.db sqlite:////backup/b.db
    """  # noqa: D301
    old, new = locate(source), locate(target)
    if old.path == new.path:
        raise UsageProblem("both are the same database.", remedy="name another one to copy to.")
    copied = run_async(lambda: _copied(old, new, resume=resume, live=live))
    if as_json:
        print_json(
            {
                "from": old.url,
                "to": new.url,
                "events": copied.head.pos,
                "head": copied.head.hash.hex(),
                "files": copied.files,
            }
        )
        return
    click.echo(
        f"Copied {counted(copied.head.pos, 'event')} and"
        f" {counted(copied.files, 'kept output')} to {new.url};"
        f" head {copied.head.hash.hex()[:16]}."
    )
    click.echo(f"Next: runoff verify --database {new.url}")


async def _copied(old: Location, new: Location, *, resume: bool, live: bool) -> _Copied:
    """Both held for as long as it takes; the anchor comes last, when all of it is there.

    ``live``: the source is not held.  A log only grows, so that whatever stands up to a position
    is what stood there then.
    """
    with ExitStack() as holding:
        async with AsyncExitStack() as opened:
            if not live and not await is_missing(old):
                holding.enter_context(held(old, "runoff log copy"))
            reader = await open_reader(old)
            opened.push_async_callback(reader.close)
            show_head(old, await reader.head())
            await check_against(old.beside("anchors"), reader)
            holding.enter_context(held(new, "runoff log copy"))
            fresh = await is_missing(new)
            writer = await open_writer(new, create=True)
            opened.push_async_callback(writer.close)
            show_head(new, await writer.head())
            if fresh:
                set_anchors_aside(new, SystemClock())
            head = await copy_log(reader, writer, resume=resume, tell=_tell)
            files = copy_blobs(old.beside("files") / "blobs", new.beside("files") / "blobs")
            _anchor(new, head)
    return _Copied(head, files)


def _anchor(new: Location, head: Head) -> None:
    if head.pos:
        anchors = Anchors(new.beside("anchors"))
        anchors.write(head)
        anchors.close()


def _tell(reached: int, end: int) -> None:
    click.echo(f"copied {reached} of {counted(end, 'event')}", err=True)
