"""``runoff run|phase|attempt|session``: look at what the log holds, and two words to say to it."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click
import msgspec

from engine.cli.context import (
    allow_empty_option,
    database_option,
    ids,
    json_option,
    reading,
    run_async,
    show_identity,
    writing,
)
from engine.cli.render import as_json as to_json, clean, fields, table
from engine.drain.sheets import event_of
from engine.errors import UsageProblem
from engine.events import AnyEvent, AttemptFinished, AttemptStarted, PhaseRequeued, RunReinstated
from engine.store.command import Command, just
from engine.store.protocol import Query
from engine.store.sqlite import SqliteStore
from projections.board import Board
from projections.fold import join

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
RUN_COLUMNS = "run_id standing phases attempts succeeded failed timed_out yield_events tokens"
PHASE_COLUMNS = "run_id phase_id state tier_index phase_index attempts last_ending reason"
SESSION_COLUMNS = "session_id status because attempts succeeded failed timed_out yield_events"
ATTEMPT_COLUMNS = "attempt_id run_id phase_id number ending duration_ms yield_events error"


def _common(function: F) -> F:
    return database_option(allow_empty_option(json_option(function)))


def _board(options: dict[str, Any], look: Callable[[Board], T]) -> T:
    async def work() -> T:
        allow = options["allow_empty_db"]
        async with reading(options["database"], allow_empty=allow) as (_, _store, board):
            return look(board)

    return run_async(work)


def _list(found: Sequence[msgspec.Struct], columns: str, options: dict[str, Any]) -> None:
    if options["as_json"]:
        click.echo(to_json(found))
        return
    names = columns.split()
    rows = [[_short(getattr(state, name, None)) for name in names] for state in found]
    click.echo(table(names, rows))


def _short(value: object) -> object:
    return value[:60] if isinstance(value, str) and "\n" not in value[:60] else value


def _one(found: msgspec.Struct, options: dict[str, Any]) -> None:
    click.echo(to_json(found) if options["as_json"] else fields(found))


def _known(found: T | None, what: str, name: str) -> T:
    if found is None:
        raise UsageProblem(
            f"there is no {what} {name[:80]!a}.", remedy=f"`runoff {what} list` names them all."
        )
    return found


@click.group()
def run() -> None:
    """Look at runs; reinstate one."""


@run.command("list")
@_common
def run_list(**options: Any) -> None:
    """Every run: standing, phases, attempts and what they came to."""
    _list(_board(options, lambda board: list(board.runs.values())), RUN_COLUMNS, options)


@run.command("show")
@click.argument("run_id", metavar="RUN")
@_common
def run_show(run_id: str, **options: Any) -> None:
    """One run in full, with its phases."""

    def look(board: Board) -> tuple[msgspec.Struct, list[Any]]:
        state = _known(board.runs.get(run_id), "run", run_id)
        return state, [p for p in board.backlog.values() if p.run_id == run_id]

    state, phases = _board(options, look)
    if options["as_json"]:
        click.echo(to_json(msgspec.to_builtins(state) | {"phase_list": phases}))
        return
    click.echo(fields(state) + "\n")
    _list(phases, PHASE_COLUMNS, options)


@run.command()
@click.argument("run_id", metavar="RUN")
@click.option("--why", required=True, metavar="TEXT")
@click.option("--by", default=getpass.getuser, metavar="NAME", help="[default: you]")
@_common
def reinstate(run_id: str, why: str, by: str, **options: Any) -> None:
    """Set a run's verdict aside, so that it is sampled again."""

    def decided(board: Board) -> AnyEvent:
        state = _known(board.runs.get(run_id), "run", run_id)
        if state.standing == "unsampled":
            raise UsageProblem("the run has no verdict.", remedy="drain it; it goes first.")
        return RunReinstated(run_id=run_id, generation=state.generation + 1, by=by, why=why)

    _say(run_id, decided, options)
    click.echo(f"Reinstated {clean(run_id)}. Next: runoff drain")


@click.group()
def phase() -> None:
    """Look at phases; requeue one."""


@phase.command("list")
@click.option("--run", "run_id", metavar="ID", help="Only of this run.")
@_common
def phase_list(run_id: str | None, **options: Any) -> None:
    """Every phase: state, place, attempts and the last failure."""
    found = _board(
        options,
        lambda board: [p for p in board.backlog.values() if run_id in (None, p.run_id)],
    )
    _list(found, PHASE_COLUMNS, options)


@phase.command("show")
@click.argument("run_id", metavar="RUN")
@click.argument("phase_id", metavar="PHASE")
@_common
def phase_show(run_id: str, phase_id: str, **options: Any) -> None:
    """One phase in full."""
    key = join(run_id, phase_id)
    _one(_board(options, lambda b: _known(b.backlog.get(key), "phase", phase_id)), options)


@phase.command()
@click.argument("run_id", metavar="RUN")
@click.argument("phase_id", metavar="PHASE")
@click.option("--why", required=True, metavar="TEXT")
@click.option("--by", default=getpass.getuser, metavar="NAME", help="[default: you]")
@_common
def requeue(run_id: str, phase_id: str, why: str, by: str, **options: Any) -> None:
    """Put a phase back; its attempts count from one again."""

    def decided(board: Board) -> AnyEvent:
        state = _known(board.backlog.get(join(run_id, phase_id)), "phase", phase_id)
        if state.open_attempt is not None:
            raise UsageProblem("an attempt of the phase is open.", remedy="wait until it ends.")
        return PhaseRequeued(run_id=run_id, phase_id=phase_id, by=by, why=why)

    _say(run_id, decided, options)
    click.echo(f"Requeued {clean(run_id)}/{clean(phase_id)}. Next: runoff drain")


def _say(run_id: str, decided: Callable[[Board], AnyEvent], options: dict[str, Any]) -> None:
    async def work() -> None:
        async with writing(options["database"], "operator") as (location, recorder):
            await show_identity(location, recorder.store, recorder.board)
            event = decided(recorder.board)
            request = msgspec.json.encode(event)
            stream = f"operator/{run_id}"
            await recorder.submit(Command(ids()("cmd"), stream, request, just(event)))

    run_async(work)


@click.group()
def session() -> None:
    """Look at drain sessions."""


@session.command("list")
@_common
def session_list(**options: Any) -> None:
    """Every session and what it came to."""
    found = _board(options, lambda board: list(board.sessions.values()))
    _list(found, SESSION_COLUMNS, options)


@session.command("show")
@click.argument("session_id", metavar="SESSION")
@_common
def session_show(session_id: str, **options: Any) -> None:
    """One session in full: limits, policy, counts."""
    _one(
        _board(options, lambda b: _known(b.sessions.get(session_id), "session", session_id)),
        options,
    )


@click.group()
def attempt() -> None:
    """Look at attempts."""


@attempt.command("list")
@click.option("--session", metavar="ID")
@click.option("--run", metavar="ID")
@click.option("--phase", metavar="ID")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@_common
def attempt_list(limit: int, **options: Any) -> None:
    """The newest attempts that have ended, newest first."""
    query = Query(
        session=options["session"],
        run=options["run"],
        phase=options["phase"],
        types=("attempt.finished",),
        newest_first=True,
    )
    events = _events(query, limit, options)
    _list([e for e in events if isinstance(e, AttemptFinished)], ATTEMPT_COLUMNS, options)


@attempt.command("show")
@click.argument("attempt_id", metavar="ATTEMPT")
@_common
def attempt_show(attempt_id: str, **options: Any) -> None:
    """Everything the log says of one attempt, in order."""
    events = _events(Query(attempt=attempt_id), 10_000, options)
    _known(next((e for e in events if isinstance(e, AttemptStarted)), None), "attempt", attempt_id)
    if options["as_json"]:
        click.echo(to_json(events))
        return
    click.echo("\n\n".join(fields(event) for event in events))


def _events(query: Query, limit: int, options: dict[str, Any]) -> list[AnyEvent]:
    async def work() -> list[AnyEvent]:
        allow = options["allow_empty_db"]
        async with reading(options["database"], allow_empty=allow) as (_, store, _board):
            return await _read(store, query, limit)

    return run_async(work)


async def _read(store: SqliteStore, query: Query, limit: int) -> list[AnyEvent]:
    return [event_of(record) for record in await store.records(query, limit=limit)]
