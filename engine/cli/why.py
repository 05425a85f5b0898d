"""``runoff why``: say why a run or phase stands where it stands."""

from __future__ import annotations

import click
import msgspec

from engine.audit.why import explain, explanation
from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.moment import Moment, at_option
from engine.cli.render import asked, clean


@click.command()
@click.argument("run_id", metavar="RUN")
@click.argument("phase_id", metavar="[PHASE]", required=False)
@at_option
@database_option
@allow_empty_option
@json_option
def why(
    run_id: str,
    phase_id: str | None,
    database: str | None,
    *,
    at: Moment | None,
    allow_empty_db: bool,
    as_json: bool,
) -> None:
    """Say why RUN, or one PHASE of it, was attempted, is not, or was set aside.

    \b
    Examples:
      runoff why RUN
      runoff why RUN PHASE
      runoff why RUN/PHASE
      runoff why RUN --at 2026-11-26T03:00:00Z
    """  # noqa: D301
    asked(run_id, "RUN")
    asked(phase_id or "", "PHASE")

    async def work() -> str:
        async with reading(database, allow_empty=allow_empty_db, at=at) as (_, store, board):
            run, phase = run_id, phase_id
            if phase is None and board.runs.get(run) is None and "/" in run:
                run, _, phase = run.rpartition("/")
            if as_json:
                found = await explanation(store, board, run, phase)
                return msgspec.json.encode(found).decode()
            return await explain(store, board, run, phase)

    text = run_async(work)
    click.echo(text if as_json else "\n".join(clean(line) for line in text.split("\n")))
