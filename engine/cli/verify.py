"""``runoff verify``: check the log against its invariants."""

from __future__ import annotations

from contextlib import suppress

import click
import msgspec

from engine.amounts import counted
from engine.audit.anchored import anchors_words, is_anchored
from engine.audit.stored import differences
from engine.audit.verify import Verification, verify as verify_log
from engine.cli.audited import as_it_stood
from engine.cli.context import banner, database_option, json_option, run_async
from engine.cli.moment import Moment, at_option
from engine.cli.progress import Progress, read_board
from engine.cli.render import as_json as to_json, clean
from engine.errors import AuditDifference, LogUnreadable
from engine.store.identity import identify
from engine.store.location import locate
from engine.store.opening import check, open_reader


@click.command()
@at_option
@database_option
@json_option
@click.option("--allow-empty-db", is_flag=True, hidden=True)
@click.pass_context
def verify(
    ctx: click.Context,
    at: Moment | None,
    database: str | None,
    *,
    as_json: bool,
    allow_empty_db: bool,  # noqa: ARG001  an empty log verifies
) -> None:
    """Check chain, anchors, attempts, triage, usage and stored projections.

    Exit 0 when everything holds, 6 with the list of what does not, 5 when the log cannot be read.
    With --at as much of the log as there was by then; stored projections are of today alone.
    """
    if at is None:
        result = _verified(database)
    else:
        with as_it_stood(database, at) as place, Progress("Verifying") as pace:
            result = verify_log(place, is_copy=True, pace=pace)
    click.echo(_json(result) if as_json else _words(result))
    ctx.exit(0 if result.ok else AuditDifference.exit_code)


def _verified(database: str | None) -> Verification:
    """The whole log, with the projections that are stored beside it."""
    location = locate(database)
    check(location)
    with Progress("Verifying") as pace:
        result = verify_log(location, pace=pace)

    async def projections() -> None:
        store = await open_reader(location)
        try:
            # Rows that cannot be read are a difference to report below, not a reason to stop.
            with suppress(msgspec.MsgspecError):
                banner(identify(location, await read_board(store)))
            for difference in await differences(store):
                result.report(*difference)
        finally:
            await store.close()

    try:
        run_async(projections)
    except (LogUnreadable, AssertionError) as error:
        problem = error.problem if isinstance(error, LogUnreadable) else error
        result.report(f"S3: the projections cannot be built: {problem}", None)
    return result


def _json(result: Verification) -> str:
    found = {
        "ok": result.ok,
        "violations": [{"what": v.what, "pos": v.pos} for v in result.violations],
        "events": result.events,
        "open_attempts": result.open_attempts,
        "head": result.head,
        "anchors": result.anchors,
        "anchored": result.anchored,
    }
    return to_json(found)


def _words(result: Verification) -> str:
    but = "" if is_anchored(result.anchors) else ", as far as can be told without anchors"
    verdict = f"all holds{but}" if result.ok else f"{counted(result.found, 'violation')}"
    counts = f"{counted(result.events, 'event')}, {counted(result.open_attempts, 'open attempt')}"
    anchors = anchors_words(result.anchors, result.anchored)
    lines = [f"{counts}, head {result.head[:16]}, {anchors}: {verdict}."]
    for violation in result.violations:
        place = "" if violation.pos is None else f"@{violation.pos}  "
        lines.append(f"  {place}{clean(violation.what)}")
    return "\n".join(lines)
