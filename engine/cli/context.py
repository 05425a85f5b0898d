"""What commands share: the database option, the identity banner and its guardrail, opening."""

from __future__ import annotations

import math
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import anyio
import click

from engine import __version__
from engine.cli.moment import Moment, place_of
from engine.cli.progress import Progress, read_board
from engine.cli.render import clean, clean_lines
from engine.clock import Clock, SystemClock
from engine.drain.virtual import VirtualTimeLoop
from engine.errors import WrongDatabase
from engine.events import Head
from engine.executors.processes import boot_id
from engine.ids import IdMaker
from engine.pace import Pace
from engine.store.anchors import check_against, set_aside
from engine.store.identity import Identity, identify, short_banner
from engine.store.location import Location, locate
from engine.store.opening import check, held, is_missing, open_reader, open_writer
from engine.store.protocol import LogReader
from engine.store.recorder import Recorder, Writer, recording
from projections.board import Board

ANCHORS_MISSING = (
    "{} is missing: whether the log was cut short before now cannot be told any more;"
    " new anchors are written from here on."
)

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

database_option = click.option(
    "--database",
    "database",
    envvar=["RUNOFF_DATABASE", "DATABASE_URL"],
    metavar="URL",
    help="The log, such as sqlite:///backlog.db. No default. [env: DATABASE_URL]",
)
allow_empty_option = click.option(
    "--allow-empty-db", is_flag=True, help="Go on when the database holds no runs and no phases."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


class FiniteRange(click.FloatRange):
    """A number between bounds.  ``nan``, which no bound keeps out, is none, and so is ``inf``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number of an option's text; a click usage error for what is none."""
        found: float = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return found


def ids(clock: Clock | None = None) -> IdMaker:
    """A maker of time-ordered ids."""
    return IdMaker((clock or SystemClock()).now_us, lambda: secrets.randbits(80))


def run_async(work: Callable[[], Coroutine[Any, Any, T]], *, virtual: bool = False) -> T:
    """Run a command's coroutine; a single error inside task groups comes out as itself.

    ``virtual``: on a clock that jumps whenever nothing real is going on.
    """
    options = {"loop_factory": VirtualTimeLoop} if virtual else {}
    try:
        return anyio.run(work, backend_options=options)
    except BaseExceptionGroup as group:
        raise _single(cast("BaseException", group)) from None


def _single(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        error = group.exceptions[0]
    return error


def banner(identity: Identity) -> None:
    """Show which database this is, on stderr."""
    click.echo(clean_lines(identity.banner()), err=True)


def show_head(location: Location, head: Head) -> None:
    """Show which database this is, on stderr, without what takes reading its backlog."""
    click.echo(clean_lines(short_banner(location, head)), err=True)


@asynccontextmanager
async def reading(
    url: str | None,
    *,
    allow_empty: bool,
    guarded: bool = True,
    quiet: bool = False,
    at: Moment | None = None,
) -> AsyncGenerator[tuple[Location, LogReader, Board], None]:
    """Open for reading, with banner and guardrail; the board stands at the head, or at ``at``.

    Banner and guardrail speak of the head in any case: they say which database this is.
    """
    location = locate(url)
    store = await open_reader(location)
    try:
        board = await read_board(store)
        identity = identify(location, board)
        if not quiet:
            banner(identity)
        if guarded:
            refuse_empty(identity, allow_empty=allow_empty)
        if at is not None:
            place = await place_of(store, at)
            click.echo(f"as of {place.words()}", err=True)
            board = await read_board(store, place.pos)
        yield location, store, board
    finally:
        await store.close()


def refuse_empty(identity: Identity, *, allow_empty: bool) -> None:
    """The guardrail: 0 runs and 0 phases are probably the wrong database."""
    if not allow_empty and identity.runs == 0 and identity.phases == 0:
        raise WrongDatabase.empty(identity.url, runs=0, phases=0)


@asynccontextmanager
async def writing(
    url: str | None,
    program: str,
    *,
    create: bool = False,
    clock: Clock | None = None,
    pace: Pace | None = None,
) -> AsyncGenerator[tuple[Location, Recorder], None]:
    """Hold the log as its one writer; ``create`` may start a new database, and says so.

    ``pace`` is told how far the log was read, if stored projections cannot be gone on with; by
    default a person is.
    """
    location = locate(url)
    fresh = await is_missing(location)
    if fresh and not create:
        # Refuse before a lock file appears beside a database that is not there.
        await (await open_reader(location)).close()
    if not fresh:
        check(location)  # before its lock is written to, for which something else may stand there
    with held(location, f"runoff {program}"):
        store = await open_writer(location, create=create)
        try:
            anchors, clock = location.beside("anchors"), clock or SystemClock()
            if fresh:
                place = location.path if location.address is None else location.url
                click.echo(clean(f"Started a new database at {place}."), err=True)
                set_anchors_aside(location, clock)
            if not anchors.exists() and (await store.head()).pos:
                click.echo(clean(ANCHORS_MISSING.format(anchors.name)), err=True)
            await check_against(anchors, store)
            with Progress("Reading the log") as told:
                opened = recording(
                    store, clock, _writer(program), anchors=anchors, pace=pace or told
                )
                async with opened as recorder:
                    yield location, recorder
        finally:
            await store.close()


def set_anchors_aside(location: Location, clock: Clock) -> None:
    """Where a new log begins, keep the anchors of one that stood there apart, and say so."""
    kept = set_aside(location.beside("anchors"), clock.now_us())
    if kept is not None:
        told = f"An earlier log stood here; its anchors are kept as {kept.name}."
        click.echo(clean(told), err=True)


def _writer(program: str) -> Writer:
    return Writer(socket.gethostname(), boot_id(), os.getpid(), program, __version__)


def show_identity(location: Location, board: Board) -> Identity:
    """Identify, show the banner, and hand the identity back."""
    identity = identify(location, board)
    banner(identity)
    return identity
