"""``runoff fingerprint``: the failures there are, what they touched, and which look alike."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.amounts import counted
from engine.audit.failures import TYPES, Alike, Failure, Failures, alike, alike_to, sample_text
from engine.cli.context import allow_empty_option, database_option, json_option, reading, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.moment import at_option
from engine.cli.render import asked, clean, print_json, table, when
from engine.errors import UsageProblem
from engine.events import AttemptFinished
from engine.store.blobs import Blobs
from engine.store.boards import seen_page
from engine.store.protocol import LogReader, Query

COLUMNS = "fingerprint count runs first_seen last_seen verdicts template"
TEMPLATE_CHARS = 70
SAMPLE_CHARS = 2000


class FailureLook(msgspec.Struct, frozen=True, kw_only=True):
    """A fingerprint with what its last attempt really said.

    ``sample_text`` is None when that is gone.
    """

    failure: Failure
    sample_text: str | None


@click.group(cls=DefaultGroup)
def fingerprint() -> None:
    """Look at failures by fingerprint.  ``fingerprint`` alone lists them."""


@fingerprint.command("list")
@click.option("--session", metavar="ID", help="Only of this session.")
@click.option("--run", metavar="ID", help="Only of this run.")
@click.option("--alike", "pairs", is_flag=True, help="Pairs that differ but look alike.")
@at_option
@database_option
@allow_empty_option
@json_option
def fingerprint_list(*, pairs: bool, **options: Any) -> None:
    """Every fingerprint, the most frequent first: runs, times, decisions.

    \b
    Examples:
      runoff fingerprint
      runoff fingerprint list --alike
      runoff fingerprint list --session SESSION --json
    """  # noqa: D301
    found = _found(options)
    if pairs:
        _tell_alike(alike(found), as_json=options["as_json"])
    elif options["as_json"]:
        print_json(found)
    else:
        table("Fingerprints", COLUMNS.split(), [_row(each) for each in found])


@fingerprint.command("show")
@click.argument("name", metavar="FINGERPRINT")
@at_option
@database_option
@allow_empty_option
@json_option
def fingerprint_show(name: str, **options: Any) -> None:
    """One fingerprint in full: template, raw sample, and those like it.

    The beginning of a fingerprint is enough where it names one alone.
    """
    asked(name, "FINGERPRINT")
    look = _look(name, options)
    if options["as_json"]:
        print_json(look)
    else:
        click.echo("\n".join(_words(look)))


def _found(options: dict[str, Any]) -> list[Failure]:
    async def work() -> list[Failure]:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (_, store, board):
            return (await _failures(store, board.head.pos, options)).all

    return run_async(work)


async def _failures(store: LogReader, end: int, options: dict[str, Any]) -> Failures:
    session, run = options.get("session"), options.get("run")
    query = Query(
        session=None if session is None else asked(session, "--session"),
        types=TYPES,
        until=end,
    )
    # Not by run: some stops name none, and belong to the run of the attempt that caused them.
    failures, after = Failures(None if run is None else asked(run, "--run")), 0
    while records := await store.records(query, after=after):
        rows = [(r.pos, r.recorded_us, r.type, r.schema, r.data) for r in records]
        for record, seen in zip(records, seen_page(rows), strict=True):
            failures.take(seen, record.cause)
        after = records[-1].pos
    return failures


def _look(name: str, options: dict[str, Any]) -> FailureLook:
    async def work() -> FailureLook:
        allow, at = options["allow_empty_db"], options["at"]
        async with reading(options["database"], allow_empty=allow, at=at) as (where, store, board):
            found = (await _failures(store, board.head.pos, options)).all
            failure = _named(name, found)
            failure.alike = alike_to(failure, found)
            blobs = Blobs(where.beside("files") / "blobs")
            return FailureLook(failure=failure, sample_text=await _said(store, blobs, failure))

    return run_async(work)


def _named(name: str, found: list[Failure]) -> Failure:
    exact = [each for each in found if each.fingerprint == name]
    begun = exact or [each for each in found if each.fingerprint.startswith(name)]
    if len(begun) == 1:
        return begun[0]
    problem = "no fingerprint" if not begun else f"not one fingerprint but {len(begun)}"
    raise UsageProblem(
        f"{problem} begins with {name[:80]!a}.", remedy="`runoff fingerprint list` names them all."
    )


async def _said(store: LogReader, blobs: Blobs, failure: Failure) -> str | None:
    query = Query(attempt=failure.sample, types=("attempt.finished",))
    records = await store.records(query, limit=1)
    rows = [(r.pos, r.recorded_us, r.type, r.schema, r.data) for r in records]
    for seen in seen_page(rows):
        if isinstance(seen.event, AttemptFinished):
            stdout, stderr = (blobs.kept(each) for each in (seen.event.stdout, seen.event.stderr))
            said = sample_text(seen.event, stdout, stderr)
            return None if said is None else said[-SAMPLE_CHARS:]
    return None


def _row(each: Failure) -> list[object]:
    return [
        each.fingerprint,
        each.count or f"({each.reclassified})",
        each.run_count,
        when(each.first_us),
        when(each.last_us),
        _counts({**each.verdicts, **each.stops}),
        each.template[:TEMPLATE_CHARS],
    ]


def _counts(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in found.items())


def _words(look: FailureLook) -> list[str]:
    found = look.failure
    seen = f"first @{found.first_pos} {when(found.first_us)}"
    seen += f", last @{found.last_pos} {when(found.last_us)}"
    lines = [
        f"fingerprint  {clean(found.fingerprint)}",
        f"family       {clean(found.family)}",
        f"detector     {clean(found.detector)}",
        f"exit class   {found.exit_class or 'not told'}",
        f"seen         {counted(found.count, 'time')}, {seen}",
    ]
    if found.reclassified:
        lines.append(f"called so    {counted(found.reclassified, 'attempt')}, after the fact")
    more = found.run_count - len(found.runs)
    names = clean(", ".join(found.runs)) + (f" and {more} more" if more > 0 else "")
    lines += [
        f"runs         {found.run_count}: {names}",
        f"sessions     {clean(', '.join(found.sessions))}",
        f"verdicts     {_counts(found.verdicts) or 'none'}",
        f"stops        {_counts(found.stops) or 'none'}",
        "",
        "template, what makes it this failure:",
        *_indented(found.template),
        f"sample, what attempt {clean(found.sample)} said:",
        *_indented(look.sample_text if look.sample_text is not None else "(its output is gone)"),
    ]
    if found.alike:
        lines += ["looks alike, for you to judge:", *(_alike_line(each) for each in found.alike)]
    return lines


def _indented(text: str) -> list[str]:
    return [f"  | {clean(line)}" for line in text.splitlines() or [""]]


def _alike_line(each: Alike) -> str:
    return (
        f"  {each.likeness:.2f}  {clean(each.fingerprint)}  {clean(each.template[:TEMPLATE_CHARS])}"
    )


def _tell_alike(pairs: list[tuple[Failure, Alike]], *, as_json: bool) -> None:
    if as_json:
        names = ("fingerprint", "template")
        print_json(
            [{**{n: getattr(one, n) for n in names}, "alike": other} for one, other in pairs]
        )
        return
    if not pairs:
        click.echo("No two fingerprints look alike.")
    for one, other in pairs:
        click.echo(f"{other.likeness:.2f}  {clean(one.fingerprint)}  x{one.count}")
        click.echo("\n".join(_indented(one.template)))
        click.echo(f"      {clean(other.fingerprint)}")
        click.echo("\n".join(_indented(other.template)))
