"""``runoff reclassify``: ask a rule set about attempts that were diagnosed before."""

from __future__ import annotations

from typing import Any

import click

from engine.amounts import counted
from engine.audit.reclassify import Tally, Wanted, changes, move_of
from engine.cli.context import (
    allow_empty_option,
    database_option,
    json_option,
    reading,
    refuse_empty,
    run_async,
    show_identity,
)
from engine.cli.handing import keeping
from engine.cli.operating import said, why_options
from engine.cli.render import asked, clean, print_json
from engine.detect import DETECTORS, rule_set_named
from engine.detect.reclassification import Changed
from engine.store.blobs import Blobs

SHOWN_MAX = 40
IN_FLIGHT = 64


@click.command()
@click.option(
    "--rule-set",
    "name",
    required=True,
    metavar="NAME",
    help=f"One of `runoff detect list`, or all of {' or '.join(DETECTORS)}.",
)
@click.option("--session", metavar="ID", help="Only attempts of this session.")
@click.option("--run", metavar="ID", help="Only attempts of this run.")
@click.option("--dry-run", is_flag=True, help="Say what would change; record nothing.")
@why_options
@database_option
@allow_empty_option
@json_option
def reclassify(name: str, why: str, by: str, **options: Any) -> None:
    """Ask a rule set about every attempt there was, and record where it says something else.

    Events are appended and none is edited; no decision is taken again. Begun again, it goes on
    where it was cut short.

    \b
    Examples:
      runoff reclassify --rule-set boundary-1 --dry-run --why "new rules"
      runoff reclassify --rule-set fp-1 --session SESSION --why "new rules"
    """  # noqa: D301
    wanted = Wanted(
        rule_set_named(name),
        said(by, "--by"),
        said(why, "--why"),
        None if options["session"] is None else asked(options["session"], "--session"),
        None if options["run"] is None else asked(options["run"], "--run"),
    )
    tally = Tally(rule_set=name)
    work = _looked if options["dry_run"] else _recorded
    run_async(lambda: work(wanted, tally, options))
    if options["as_json"]:
        print_json(tally)
        return
    _tell(tally, dry=options["dry_run"])


async def _looked(wanted: Wanted, tally: Tally, options: dict[str, Any]) -> None:
    allow = options["allow_empty_db"]
    async with reading(options["database"], allow_empty=allow) as (location, store, board):
        blobs = Blobs(location.beside("files") / "blobs")
        async for change in changes(store, board, blobs.get, wanted, tally):
            _count(change, tally, options)


async def _recorded(wanted: Wanted, tally: Tally, options: dict[str, Any]) -> None:
    async with keeping(options["database"], "reclassify") as keeper:
        board = keeper.board
        identity = show_identity(keeper.location, board)
        refuse_empty(identity, allow_empty=options["allow_empty_db"])
        blobs = Blobs(keeper.location.beside("files") / "blobs")
        waiting: list[Changed] = []
        async for change in changes(keeper.reader, board, blobs.get, wanted, tally):
            waiting.append(change)
            if len(waiting) >= IN_FLIGHT:
                await keeper.reclassify(waiting)
                waiting.clear()
            _count(change, tally, options)
        if waiting:
            await keeper.reclassify(waiting)


def _count(change: Changed, tally: Tally, options: dict[str, Any]) -> None:
    if tally.changed < SHOWN_MAX and not options["as_json"]:
        for event in change.events:
            click.echo(
                f"@{change.pos} {clean(event.run_id)}/{clean(event.phase_id)}: {move_of(event)}"
            )
    tally.count(change)


def _tell(tally: Tally, *, dry: bool) -> None:
    if tally.changed > SHOWN_MAX:
        click.echo(f"(the first {SHOWN_MAX} of {tally.changed} are shown)")
    for move, count in tally.moves.items():
        click.echo(f"{count:>8}  {clean(move)}")
    would = "would say" if dry else "says"
    click.echo(
        f"{tally.rule_set} {would} something else of {tally.changed} of"
        f" {counted(tally.attempts, 'attempt')};"
        f" of {tally.unreadable} the output is gone or older than what rules read."
    )
