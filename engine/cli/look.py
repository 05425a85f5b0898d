"""``runoff run|phase|session``: look at what the log holds, and two words to say to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import click
import msgspec

from engine.cli.context import (
    allow_empty_option,
    database_option,
    json_option,
    reading,
    run_async,
)
from engine.cli.decisions import decisions, session_named
from engine.cli.groups import DefaultGroup
from engine.cli.log import record_words
from engine.cli.moment import at_option
from engine.cli.operating import say, why_options
from engine.cli.phase_name import readings, unknown_phase
from engine.cli.render import asked, clean, fields, print_json, table
from engine.errors import UsageProblem
from engine.store.location import Location
from engine.store.protocol import LogReader, Query
from engine.triage.operating import ReinstateRun, RequeuePhase, Spoken
from projections.backlog import PhaseStanding
from projections.board import Board
from projections.fold import join
from projections.run_triage import RunStanding
from projections.sessions import SessionStanding
from projections.zero_yield import YieldCounts, run_key, session_key

__all__ = ["phase", "run", "session"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
RUN_COLUMNS = (
    "run_id standing phases attempts succeeded failed timed_out deferred yield_events tokens"
)
PHASE_COLUMNS = "run_id phase_id state tier_index phase_index needs attempts last_ending reason"
SESSION_COLUMNS = (
    "session_id status because attempts succeeded failed timed_out abandoned orphaned deferred"
    " yield_events"
)
TEXT_CHARS = 80

_limit_option = click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Only the first N."
)


def _common(function: F) -> F:
    return database_option(allow_empty_option(json_option(function)))


def _looking(function: F) -> F:
    return _common(at_option(function))


def _opened(
    options: dict[str, Any],
) -> AbstractAsyncContextManager[tuple[Location, LogReader, Board]]:
    allow, at = options["allow_empty_db"], options["at"]
    return reading(options["database"], allow_empty=allow, at=at)


def _board(options: dict[str, Any], look: Callable[[Board], T]) -> T:
    async def work() -> T:
        async with _opened(options) as (_, _store, board):
            return look(board)

    return run_async(work)


def _list(title: str, found: Sequence[msgspec.Struct], columns: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    names = columns.split()
    table(title, names, [[_cell(getattr(state, name)) for name in names] for state in found])


def _cell(value: str | float | tuple[str, ...] | None) -> object:
    """A list shows the start of a text; ids are never cut, so that they can be copied."""
    if isinstance(value, tuple):
        return ", ".join(value)
    long = isinstance(value, str) and " " in value and len(value) > TEXT_CHARS
    return f"{str(value)[:TEXT_CHARS]}…" if long else value


def _phases(board: Board, run_id: str | None) -> list[PhaseStanding]:
    """The phases of a run, or all, as they were registered."""
    found = [phase for phase in board.backlog.values() if run_id in (None, phase.run_id)]
    return sorted(found, key=lambda phase: phase.registered_pos)


def _begun(session: SessionStanding) -> tuple[int, str]:
    return session.started_us, session.session_id


def _known(found: T | None, what: str, name: str) -> T:
    if found is None:
        raise UsageProblem(
            f"there is no {what} {name[:80]!a}.", remedy=f"`runoff {what} list` names them all."
        )
    return found


@click.group(cls=DefaultGroup)
def run() -> None:
    """Look at runs; reinstate one.  ``run`` alone lists them."""


@run.command("list")
@_limit_option
@_looking
def run_list(limit: int | None, **options: Any) -> None:
    """Every run: standing, phases, attempts and what they came to."""
    found = _board(
        options, lambda board: sorted(board.runs.values(), key=lambda r: r.run_id)[:limit]
    )
    _list("Runs", found, RUN_COLUMNS, as_json=options["as_json"])


class _RunLook(msgspec.Struct):
    """A run, its phases, what came of its attempts, and what was decided about it, in words."""

    state: RunStanding
    counts: dict[str, dict[str, int]]
    phases: list[PhaseStanding]
    verdict_sentence: str | None
    stop_sentence: str | None


@run.command("show")
@click.argument("run_id", metavar="RUN")
@_looking
def run_show(run_id: str, **options: Any) -> None:
    """One run in full: standing, verdict, yield with reasons, phases."""

    async def work() -> _RunLook:
        async with _opened(options) as (_, store, board):
            state = _known(board.runs.get(run_id), "run", run_id)
            verdict = await _sentence(store, state.verdict_pos)
            stop = await _sentence(store, state.stopped_pos)
            counts = _yield_counts(board, run_key(run_id))
            return _RunLook(state, counts, _phases(board, run_id), verdict, stop)

    found = run_async(work)
    said = {"verdict_sentence": found.verdict_sentence, "stop_sentence": found.stop_sentence}
    shown = msgspec.to_builtins(found.state) | found.counts | said
    if options["as_json"]:
        print_json(shown | {"phase_list": found.phases})
        return
    click.echo(fields(shown) + "\n")
    _list("Phases", found.phases, PHASE_COLUMNS, as_json=False)


def _yield_counts(board: Board, key: str) -> dict[str, dict[str, int]]:
    """Attempts of a run or a session without usage by reason, and those that a limit stopped."""
    counts = board.zero_yield.get(key) or YieldCounts()
    return {"zero_yield": counts.zero_yield, "boundaries": counts.boundaries}


async def _sentence(store: LogReader, pos: int | None) -> str | None:
    """The reason of the decision at ``pos``."""
    if pos is None:
        return None
    records = await store.records(Query(until=pos), after=pos - 1, limit=1)
    return record_words(records[0]) if records else None


@run.command()
@click.argument("run_id", metavar="RUN")
@why_options
@_common
def reinstate(run_id: str, why: str, by: str, **options: Any) -> None:
    """Set a run's verdict aside, so that it is sampled again."""
    asked(run_id, "RUN")
    next_step = say(ReinstateRun(run_id=run_id, by=by, why=why), options)
    if not options["as_json"]:
        click.echo(f"Reinstated {clean(run_id)}. {next_step}")


@click.group(cls=DefaultGroup)
def phase() -> None:
    """Look at phases; requeue one.  ``phase`` alone lists them."""


@phase.command("list")
@click.option("--run", "run_id", metavar="ID", help="Only of this run.")
@_limit_option
@_looking
def phase_list(run_id: str | None, limit: int | None, **options: Any) -> None:
    """Every phase: state, place, attempts and the last failure."""

    def look(board: Board) -> list[PhaseStanding]:
        if run_id is not None:
            _known(board.runs.get(run_id), "run", run_id)
        return _phases(board, run_id)[:limit]

    _list("Phases", _board(options, look), PHASE_COLUMNS, as_json=options["as_json"])


def _phase_named(function: F) -> F:
    phase_argument = click.argument("phase_id", metavar="[PHASE]", required=False)
    return click.argument("run_id", metavar="RUN[/PHASE]")(phase_argument(function))


def _named(board: Board, run_id: str, phase_id: str | None) -> PhaseStanding:
    """The phase that is meant.  Raises UsageProblem when there is none."""
    for pair in readings(run_id, phase_id):
        if (found := board.backlog.get(join(*pair))) is not None:
            return found
    raise unknown_phase(run_id, phase_id)


@phase.command("show")
@_phase_named
@_looking
def phase_show(run_id: str, phase_id: str | None, **options: Any) -> None:
    """One phase in full."""
    found = _board(options, lambda board: _named(board, run_id, phase_id))
    print_json(found) if options["as_json"] else click.echo(fields(found))


@phase.command()
@_phase_named
@why_options
@_common
def requeue(run_id: str, phase_id: str | None, why: str, by: str, **options: Any) -> None:
    """Put a phase back; its attempts count from one again."""
    asked(run_id, "RUN")
    asked(phase_id or "", "PHASE")

    def meant(_: Spoken, board: Board) -> Spoken:
        found = _named(board, run_id, phase_id)
        return RequeuePhase(run_id=found.run_id, phase_id=found.phase_id, by=by, why=why)

    next_step = say(RequeuePhase(run_id=run_id, phase_id="", by=by, why=why), options, meant)
    if not options["as_json"]:
        name = "/".join(clean(part) for part in (run_id, phase_id) if part)
        click.echo(f"Requeued {name}. {next_step}")


@click.group(cls=DefaultGroup)
def session() -> None:
    """Look at drain sessions.  ``session`` alone lists them."""


@session.command("list")
@_limit_option
@_looking
def session_list(limit: int | None, **options: Any) -> None:
    """Every session and what it came to."""
    found = _board(options, lambda board: sorted(board.sessions.values(), key=_begun)[:limit])
    _list("Sessions", found, SESSION_COLUMNS, as_json=options["as_json"])


@session.command("show")
@click.argument("session_id", metavar="[SESSION]", required=False)
@_looking
def session_show(session_id: str | None, **options: Any) -> None:
    """One session in full, by default the newest: limits, counts."""

    def look(board: Board) -> dict[str, object]:
        named = session_named(board, session_id)
        state = board.sessions.states[named]
        shown: dict[str, object] = msgspec.to_builtins(state)
        return shown | _yield_counts(board, session_key(named))

    found = _board(options, look)
    if options["as_json"]:
        print_json(found)
        return
    # All of the policy is thirty fields on one line; `runoff policy show SESSION` has a table.
    click.echo(fields({name: value for name, value in found.items() if name != "policy_json"}))


session.add_command(decisions)
