"""``runoff why``: say why a run, a phase or an attempt stands where it stands."""

from __future__ import annotations

import click

from engine.audit.overview import Overview
from engine.audit.survey import survey
from engine.audit.why import Explanation, explanation
from engine.audit.why_attempt import PREFIX, AttemptExplanation, attempt_explanation
from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.moment import Moment, at_option
from engine.cli.peeking import Peek, peeking
from engine.cli.progress import read_board
from engine.cli.render import asked, print_json
from engine.cli.why_words import attempt_lines, explanation_lines, overview_lines
from engine.errors import UsageProblem
from engine.store.opening import holder


@click.command()
@click.argument("what", metavar="[RUN|ATTEMPT]", required=False)
@click.argument("phase_id", metavar="[PHASE]", required=False)
@at_option
@database_option
@allow_empty_option
@json_option
def why(
    what: str | None,
    phase_id: str | None,
    database: str | None,
    *,
    at: Moment | None,
    allow_empty_db: bool,
    as_json: bool,
) -> None:
    """Say why a run, a phase or an attempt ran, did not, or was set aside; or why nothing runs.

    \b
    Examples:
      runoff why
      runoff why RUN
      runoff why RUN PHASE
      runoff why RUN/PHASE
      runoff why ATTEMPT
      runoff why RUN --at 2026-11-26T03:00:00Z
    """  # noqa: D301
    asked(what or "", "RUN")
    asked(phase_id or "", "PHASE")

    async def work() -> Explanation | AttemptExplanation | Overview:
        async with peeking(database, allow_empty=allow_empty_db, at=at) as peek:
            held_by = holder(peek.location) if at is None else None
            if what is None:
                return await _all(peek, held_by)
            return await _one(peek, what, phase_id, is_left=held_by == "")

    found = run_async(work)
    if as_json:
        print_json(found)
    elif isinstance(found, Explanation):
        click.echo("\n".join(explanation_lines(found)))
    elif isinstance(found, Overview):
        click.echo("\n".join(overview_lines(found)))
    else:
        click.echo("\n".join(attempt_lines(found)))


async def _all(peek: Peek, held_by: str | None) -> Overview:
    board = await read_board(peek.reader, peek.end)
    return await survey(peek.reader, board, peek.now_us, held_by)


async def _one(
    peek: Peek, what: str, phase_id: str | None, *, is_left: bool
) -> Explanation | AttemptExplanation:
    """A run or a phase; an attempt when no run has that id."""
    reader, end, now_us = peek.reader, peek.end, peek.now_us
    try:
        return await explanation(reader, what, phase_id, end=end, now_us=now_us, is_left=is_left)
    except UsageProblem:
        if phase_id is not None or not what.startswith(PREFIX):
            raise
    found = await attempt_explanation(reader, what, end=end, now_us=now_us, is_left=is_left)
    if found is None:
        raise UsageProblem(
            f"there is no run and no attempt {what[:80]!a}.",
            remedy="`runoff attempt list` names the newest attempts.",
        )
    return found
