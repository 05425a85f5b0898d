"""``runoff breaker``: causes that hold back runs without a verdict; let them go by hand."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.amounts import counted
from engine.audit.facts import Fact, fact
from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.log import pages
from engine.cli.moment import at_option
from engine.cli.operating import say, why_options
from engine.cli.render import asked, clean, fields, print_json, table, when
from engine.errors import UsageProblem
from engine.events import Record
from engine.store.boards import seen_page
from engine.store.protocol import LogReader, Query
from engine.triage.breaker import next_probe_us
from engine.triage.eligible import is_unfinished
from engine.triage.operating import ResetBreaker, Spoken
from engine.triage.policy import policy_from_json
from projections.board import Board
from projections.breakers import BreakerStanding
from projections.fold import join

COLUMNS = "fingerprint state since runs probes probe next_probe held_back template"
TYPES = ("triage.breaker_*", "operator.breaker_reset")
TEMPLATE_CHARS = 60


class BreakerView(msgspec.Struct, frozen=True, kw_only=True):
    """One cause: as the projection has it, and what follows for sessions.

    ``next_probe_us`` (Unix): when the next probe may go; None while one is out, when one may go at
    once, or when none ever will.  ``held_back`` counts the runs that wait for it: those without a
    verdict, of which something is left to do and nothing runs.
    """

    fingerprint: str
    state: str
    session_id: str
    template: str
    runs: int
    opened_pos: int | None
    opened_us: int
    probe: str | None
    probes: int
    last_probe_us: int
    closed_pos: int | None
    next_probe_us: int | None
    held_back: int


class BreakerLook(msgspec.Struct, frozen=True, kw_only=True):
    """A cause with its history, and where its failure was seen in the session that counted it."""

    breaker: BreakerView
    seen: int
    seen_in: tuple[str, ...]
    history: tuple[Fact, ...]


@click.group(cls=DefaultGroup)
def breaker() -> None:
    """Look at circuit breakers; reset one.  ``breaker`` alone lists them."""


@breaker.command("list")
@at_option
@database_option
@allow_empty_option
@json_option
def breaker_list(**options: Any) -> None:
    """Every cause that was ever taken for systemic, open ones first."""

    async def work() -> list[BreakerView]:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (_, _store, board):
            waiting = _waiting(board)
            return [view(each, board, waiting) for each in board.breakers.values()]

    found = sorted(run_async(work), key=lambda each: (-(each.opened_pos or 0), each.fingerprint))
    if options["as_json"]:
        print_json(found)
        return
    table("Breakers", COLUMNS.split(), [_row(each) for each in found])


def _row(each: BreakerView) -> list[object]:
    due = when(each.next_probe_us) if each.next_probe_us is not None else None
    return [
        each.fingerprint,
        each.state,
        each.opened_pos,
        each.runs,
        each.probes,
        each.probe,
        due,
        each.held_back,
        each.template[:TEMPLATE_CHARS],
    ]


def view(standing: BreakerStanding, board: Board, waiting: int) -> BreakerView:
    """A breaker as it is shown; ``waiting`` runs are held back by each that is open."""
    session = board.sessions.get(standing.session_id)
    is_open = standing.opened_pos is not None
    due_us = None
    if is_open and standing.probe is None and session is not None and session.policy_json:
        policy = policy_from_json(session.policy_json)
        may_at_once = standing.probes < policy.breaker_probes_max
        due_us = None if may_at_once else next_probe_us(standing, policy)
    return BreakerView(
        **msgspec.structs.asdict(standing),
        state="open" if is_open else "closed",
        next_probe_us=due_us,
        held_back=waiting if is_open else 0,
    )


def _waiting(board: Board) -> int:
    """How many runs could be sampled, were it not for breakers."""
    unfinished = {phase.run_id for phase in board.backlog.values() if is_unfinished(phase)}
    runs = (run for run in board.runs.values() if run.standing == "unsampled" and not run.open)
    return sum(run.run_id in unfinished for run in runs)


def _known(board: Board, name: str) -> BreakerStanding:
    """The breaker of a fingerprint, of which the beginning is enough."""
    found = board.breakers.get(name)
    if found is not None:
        return found
    begun = [each for each in board.breakers.values() if name and each.fingerprint.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    problem = f"{len(begun)} breakers were" if begun else "no breaker was ever"
    raise UsageProblem(
        f"{problem} opened by {name[:80]!a}.", remedy="`runoff breaker list` names them all."
    )


@breaker.command("show")
@click.argument("fingerprint", metavar="FINGERPRINT")
@at_option
@database_option
@allow_empty_option
@json_option
def breaker_show(fingerprint: str, **options: Any) -> None:
    """One cause in full: its counts, openings, probes and closings."""
    asked(fingerprint, "FINGERPRINT")

    async def work() -> BreakerLook:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (_, store, board):
            standing = _known(board, fingerprint)
            seen = board.fingerprints.get(join(standing.session_id, standing.fingerprint))
            return BreakerLook(
                breaker=view(standing, board, _waiting(board)),
                seen=seen.count if seen else 0,
                seen_in=seen.runs if seen else (),
                history=await _history(store, standing.fingerprint, board.head.pos),
            )

    found = run_async(work)
    if options["as_json"]:
        print_json(found)
        return
    click.echo(fields(found.breaker))
    runs = clean(", ".join(found.seen_in)) or "no run"
    click.echo(f"seen         {counted(found.seen, 'time')} in that session, in {runs}")
    for each in found.history:
        name = each.type.partition(".")[2]
        click.echo(f"  @{each.pos}  {when(each.recorded_us)}  {name}: {clean(each.text)}")


async def _history(store: LogReader, fingerprint: str, end: int) -> tuple[Fact, ...]:
    found: list[Fact] = []
    async for record in pages(store, Query(types=TYPES), 0, end):
        told = _told(record)
        if told is not None and told[0] == fingerprint:
            found.append(told[1])
    return tuple(found)


def _told(record: Record) -> tuple[str, Fact] | None:
    row = (record.pos, record.recorded_us, record.type, record.schema, record.data)
    (seen,) = seen_page([row])
    found = fact(seen)
    return (getattr(seen.event, "fingerprint", ""), found) if found is not None else None


@breaker.command()
@click.argument("fingerprint", metavar="FINGERPRINT")
@why_options
@database_option
@allow_empty_option
@json_option
def reset(fingerprint: str, why: str, by: str, **options: Any) -> None:
    """Close a breaker: unsampled runs go on, its count starts anew."""
    asked(fingerprint, "FINGERPRINT")
    named = fingerprint

    def meant(_: Spoken, board: Board) -> Spoken:
        nonlocal named
        named = _known(board, fingerprint).fingerprint
        return ResetBreaker(fingerprint=named, by=by, why=why)

    next_step = say(ResetBreaker(fingerprint=fingerprint, by=by, why=why), options, meant)
    if not options["as_json"]:
        click.echo(f"Reset the breaker of {clean(named)}. {next_step}")
