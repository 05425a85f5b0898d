"""``runoff audit``: was this log written by its rules, and is it whole."""

from __future__ import annotations

import click
import msgspec

from engine.amounts import counted
from engine.audit.anchored import anchors_words, is_anchored
from engine.audit.audit import LEVELS, Audit, Level, audit as audit_log
from engine.audit.compared import Difference
from engine.audit.reestimate import Reestimated, reestimated
from engine.cli.audited import as_it_stood
from engine.cli.context import database_option, json_option
from engine.cli.moment import Moment, at_option
from engine.cli.progress import Progress
from engine.cli.render import clean, print_json
from engine.errors import AuditDifference, UsageProblem

SHOWN_MAX = 200
_OF_THE_LOG: tuple[Level, ...] = ("structure", "chain", "decisions")


@click.command()
@click.option(
    "--level",
    "levels",
    multiple=True,
    type=click.Choice(LEVELS),
    help="Only this; repeatable. [default: all four; with --at all but projections]",
)
@at_option
@database_option
@json_option
@click.option("--allow-empty-db", is_flag=True, hidden=True)
@click.pass_context
def audit(
    ctx: click.Context,
    levels: tuple[Level, ...],
    at: Moment | None,
    database: str | None,
    *,
    as_json: bool,
    allow_empty_db: bool,  # noqa: ARG001  an empty log has nothing to find
) -> None:
    """Take every decision of the log again, and check chain, anchors and projections.

    Exit 0 when all of it holds, 6 with the exact list when anything differs or cannot be verified,
    5 when the log cannot be read.

    \b
    Examples:
      runoff audit
      runoff audit --level decisions --json
      runoff audit --at 2026-11-26T03:00:00Z
    """  # noqa: D301
    wanted = levels or (LEVELS if at is None else _OF_THE_LOG)
    if at is not None and "projections" in wanted:
        raise UsageProblem(
            "stored projections are of one moment only, which --at cannot choose.",
            remedy="leave out one of --at and --level projections.",
        )
    with as_it_stood(database, at) as place:
        with Progress("Auditing") as pace:
            found = audit_log(place, wanted, pace)
        if "decisions" in found.levels:
            found = _with(found, reestimated(place))
    if as_json:
        print_json(_as_json(found))
    else:
        click.echo(_in_words(found))
    ctx.exit(0 if found.ok else AuditDifference.exit_code)


def _with(found: Audit, more: Reestimated) -> Audit:
    """With estimates and calibrations, which are taken again beside the decisions."""
    return msgspec.structs.replace(
        found,
        ok=found.ok and not more.differences,
        decided=found.decided | more.decided,
        differences=(*found.differences, *more.differences),
    )


def _as_json(found: Audit) -> dict[str, object]:
    """All of it, with a sentence beside every difference."""
    shown: dict[str, object] = {name: getattr(found, name) for name in Audit.__struct_fields__}
    differences = [d._asdict() | {"sentence": d.sentence} for d in found.differences]
    return shown | {
        "differences": differences,
        "unverifiable": [each._asdict() for each in found.unverifiable],
    }


def _in_words(found: Audit) -> str:
    anchors = anchors_words(found.anchors, found.anchored)
    lines = [f"{counted(found.events, 'event')}, head {found.head[:16]}, {anchors}."]
    for name, count in sorted(found.decided.items()):
        lines.append(f"  {count:>8}  {name} decided again")
    lines += _listed([(f.pos, f"{f.level}: {f.what}") for f in found.findings])
    # What earlier programs put into other words would hide what differs in more than that.
    listed = sorted(found.differences, key=_differs_in_words)
    lines += _listed([(d.pos, f"decision: {d.sentence}") for d in listed])
    lines += _listed([(u.pos, f"unverifiable: {u.what}: {u.why}") for u in found.unverifiable])
    odd = len(found.findings) + len(found.differences)
    if found.ok:
        but = "" if is_anchored(found.anchors) else ", as far as can be told without anchors"
        lines.append(f"All holds{but} ({', '.join(found.levels)}).")
    else:
        worded = sum(map(_differs_in_words, listed))
        of_words = f" ({worded} in the words of a sentence alone)" if worded else ""
        told = f"{counted(odd, 'difference')}{of_words}, {len(found.unverifiable)} unverifiable."
        lines.append(told)
    return "\n".join(lines)


def _differs_in_words(difference: Difference) -> bool:
    return difference.fields.keys() == {"reason.sentence"}


def _listed(found: list[tuple[int | None, str]]) -> list[str]:
    lines = [f"@{pos or 0}  {clean(text)}" for pos, text in found[:SHOWN_MAX]]
    if len(found) > SHOWN_MAX:
        lines.append(f"  and {len(found) - SHOWN_MAX} more; --json lists them all.")
    return lines
