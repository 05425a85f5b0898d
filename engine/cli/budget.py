"""``runoff budget``: what was spent, against what may be."""

from __future__ import annotations

import click

from engine.audit.ledger import Ledger, LedgerLine, ledger
from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.moment import Moment, at_option
from engine.cli.peeking import peeking
from engine.cli.progress import read_board
from engine.cli.render import asked, clean, print_json, table
from engine.events import Budget, Measure

COLUMNS = "scope what tokens minutes attempts limits reached"


@click.command()
@click.option("--session", "session_id", metavar="ID", help="Whose limits. [default: the newest]")
@click.option(
    "--top", type=click.IntRange(1, 100_000), default=10, show_default=True, help="Of each scope."
)
@at_option
@database_option
@allow_empty_option
@json_option
def budget(
    session_id: str | None,
    top: int,
    database: str | None,
    *,
    at: Moment | None,
    allow_empty_db: bool,
    as_json: bool,
) -> None:
    """The ledger: tokens, minutes and attempts per session, day, run and phase, and their limits.

    \b
    Examples:
      runoff budget
      runoff budget --session ses_01M8... --top 50 --json
    """  # noqa: D301
    asked(session_id or "", "--session")

    async def work() -> Ledger:
        async with peeking(database, allow_empty=allow_empty_db, at=at) as peek:
            board = await read_board(peek.reader, peek.end)
            return ledger(board, session_id, peek.now_us, top)

    found = run_async(work)
    if as_json:
        print_json(found)
        return
    click.echo(_head(found))
    table("Budget", COLUMNS.split(), [_row(line) for line in found.lines])


def _head(found: Ledger) -> str:
    bounds = ", ".join(_bound(each) for each in found.budgets) or "no budgets"
    caps = "; phases' own token caps are heeded" if found.heeds_incident_caps else ""
    if found.session_id is None:
        return f"No drain has begun yet ({bounds}{caps})."
    return f"Session {clean(found.session_id)} ({found.policy}): {bounds}{caps}."


def _bound(each: Budget) -> str:
    return f"{each.scope} at most {_amount(each.measure, each.limit)}"


def _amount(measure: Measure, amount: int) -> str:
    return f"{amount / 60_000:.1f} minutes" if measure == "ms" else f"{amount} {measure}"


def _row(line: LedgerLine) -> list[object]:
    limits = ", ".join(_amount(measure, most) for measure, most in line.limits.items())
    reached = ", ".join("minutes" if name == "ms" else name for name in line.reached)
    minutes = f"{line.ms / 60_000:.1f}"
    return [line.scope, line.id, line.tokens, minutes, line.attempts, limits, reached]
