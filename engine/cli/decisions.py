"""``runoff session decisions``: every attempt of a session with what was decided from it."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.audit.decisions import Decision, decisions_of
from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.moment import at_option
from engine.cli.render import asked, print_json, table
from engine.errors import UsageProblem
from projections.board import Board

COLUMNS = "seq run phase group category verdict final_state returncode events zero_yield fp_class"


@click.command()
@click.argument("session_id", metavar="[SESSION]", required=False)
@at_option
@database_option
@allow_empty_option
@json_option
def decisions(session_id: str | None, **options: Any) -> None:
    """Every attempt of a session, by default the newest, as picked.

    With --json one object a line: why it was picked, what it came to, what was decided from that.
    """
    asked(session_id or "", "SESSION")

    async def work() -> list[Decision]:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (_, store, board):
            return await decisions_of(store, session_named(board, session_id), board.head.pos)

    found = run_async(work)
    if options["as_json"]:
        for decision in found:
            print_json(decision)
        return
    columns = [*COLUMNS.split(), "stopped"]
    table("Decisions", columns, [_row(decision) for decision in found])


def _row(decision: Decision) -> list[object]:
    stopped = ", ".join(dict.fromkeys(stop.stopped for stop in decision.stops))
    cells = [getattr(decision, name) for name in COLUMNS.split()]
    return [*(None if cell is msgspec.UNSET else cell for cell in cells), stopped]


def session_named(board: Board, session_id: str | None) -> str:
    """The session that is meant, the newest by default.  Raises UsageProblem if there is none."""
    known = board.sessions.values()
    newest = max(known, key=lambda found: (found.started_us, found.session_id), default=None)
    if newest is None:
        raise UsageProblem("there is no session yet.", remedy="`runoff drain` begins one.")
    if session_id is None:
        return newest.session_id
    if board.sessions.get(session_id) is None:
        raise UsageProblem(
            f"there is no session {session_id[:80]!a}.",
            remedy="`runoff session list` names them all.",
        )
    return session_id
