"""``runoff seed`` and ``runoff import``: how work gets into the log."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from engine.amounts import counted
from engine.backlog.batch import Known, Registration, refuse_known_runs
from engine.cli.context import (
    allow_empty_option,
    database_option,
    json_option,
    run_async,
    show_identity,
)
from engine.cli.handing import Keeper, keeping
from engine.errors import UsageProblem
from engine.events import (
    EstimateImported,
    Finding,
    ImportFinished,
    PhaseRegistered,
    TierRegistered,
    UsageImported,
    event_type,
)
from engine.store.boards import seen_page
from engine.store.protocol import LogReader
from projections.board import Board

RUNS_SHOWN = 5
_KNOWN_TYPES = frozenset(
    event_type(kind) for kind in (TierRegistered, PhaseRegistered, UsageImported, EstimateImported)
)


@click.command()
@database_option
@click.option("--run-id", metavar="ID", help="Register the plan's run under this id.")
@click.option(
    "--repeat",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="Register N copies, so that each group gets N times the samples.",
)
@click.option(
    "--plan",
    "plan_path",
    type=click.Path(path_type=Path),
    help="Your own plan, TOML or JSON (docs/reference/plan-file.md).",
)
@click.option("--needs", multiple=True, metavar="LABEL", help="For every phase; repeatable.")
@allow_empty_option
@json_option
def seed(
    database: str | None,
    run_id: str | None,
    repeat: int,
    plan_path: Path | None,
    needs: tuple[str, ...],
    *,
    allow_empty_db: bool,  # noqa: ARG001  accepted everywhere; seeding fills an empty database
    as_json: bool,
) -> None:
    """Register the ten phases of the telemetry plan, or a plan of your own.

    \b
    Examples:
      runoff seed --database sqlite:///backlog.db
      runoff seed --repeat 5 --database sqlite:///backlog.db
      runoff seed --plan plan.toml --run-id two --database sqlite:///backlog.db
      runoff seed --needs gpu --database sqlite:///backlog.db
    """  # noqa: D301
    from engine.backlog.plan import load_plan  # noqa: PLC0415
    from engine.backlog.seed import built_in_plan, needing, registrations  # noqa: PLC0415

    plan = load_plan(plan_path) if plan_path else built_in_plan("telemetry")
    groups = registrations(needing(plan, needs), run_id=run_id, repeat=repeat)

    async def work() -> tuple[int, str]:
        async with keeping(database, "seed", create=True) as keeper:
            show_identity(keeper.location, keeper.board)
            refuse_known_runs(groups, await known_to(keeper.reader, keeper.board))
            return await register(keeper, groups), keeper.next_step

    head, next_step = run_async(work)
    phases = [e for g in groups for e in g.events if isinstance(e, PhaseRegistered)]
    runs = list(dict.fromkeys(phase.run_id for phase in phases))
    if as_json:
        found = {"runs": runs, "phases": len(phases), "head": head}
        click.echo(msgspec.json.encode(found))
        return
    more = f" and {len(runs) - RUNS_SHOWN} more" if len(runs) > RUNS_SHOWN else ""
    names = ", ".join(runs[:RUNS_SHOWN])
    click.echo(
        f"Registered {counted(len(phases), 'phase')} in {counted(len(runs), 'run')}: {names}{more}."
    )
    is_ours = next_step.endswith("drain")
    click.echo(f"{next_step} -- YOUR-AGENT-COMMAND" if is_ours else next_step)


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@database_option
@allow_empty_option
@json_option
def import_(
    file: Path,
    database: str | None,
    *,
    allow_empty_db: bool,  # noqa: ARG001
    as_json: bool,
) -> None:
    """Take in the backlog of an older database; FILE is only read.

    Importing again adds only what is new.

    \b
    Example:
      runoff import autopack_legacy.db --database sqlite:///backlog.db
    """  # noqa: D301
    from anyio import to_thread  # noqa: PLC0415

    from engine.backlog.legacy import read_legacy  # noqa: PLC0415

    if not file.exists():
        raise UsageProblem(f"there is no file {file}.", remedy="check the path.")
    first = read_legacy(file, Known())  # refuse a bad source before a database is touched

    async def work() -> ImportFinished:
        async with keeping(database, "import", create=True) as keeper:
            show_identity(keeper.location, keeper.board)
            known = await known_to(keeper.reader, keeper.board)
            found = first
            if known != Known():
                found = await to_thread.run_sync(read_legacy, file, known)
            if found.registrations:
                await register(keeper, [*found.registrations, found.closing])
            return found.finished

    finished = run_async(work)
    if as_json:
        click.echo(msgspec.json.encode(finished))
    else:
        _report(finished)


def _report(finished: ImportFinished) -> None:
    click.echo(
        f"Imported {counted(finished.runs, 'run')}, {counted(finished.tiers, 'tier')},"
        f" {counted(finished.phases, 'phase')}, {counted(finished.usage_rows, 'usage row')},"
        f" {counted(finished.estimate_rows, 'estimate')};"
        f" {counted(finished.already_known, 'row was', 'rows were')} known already."
    )
    for finding in finished.findings:
        click.echo(f"  {_words(finding)}")


def _words(finding: Finding) -> str:
    example = f" (such as {finding.example!a})" if finding.example else ""
    return f"{finding.count} × {finding.what}{example}"


async def known_to(reader: LogReader, board: Board) -> Known:
    """What the log of ``board`` holds already of what could be registered."""
    tiers: set[tuple[str, str]] = set()
    usage: set[str] = set()
    estimates: set[str] = set()
    pos, end = 0, board.head.pos
    while pos < end and (rows := await reader.fold_rows(pos, end, _KNOWN_TYPES)):
        for seen in seen_page(rows):
            match seen.event:
                case TierRegistered(run_id=run_id, tier_id=tier_id):
                    tiers.add((run_id, tier_id))
                case UsageImported(row_digest=digest):
                    usage.add(digest)
                case EstimateImported(row_digest=digest):
                    estimates.add(digest)
                case _:
                    pass
        pos = rows[-1][0]
    return Known(
        runs=frozenset(run_id for run_id, _ in board.runs.items()),
        tiers=frozenset(tiers),
        phases=frozenset((p.run_id, p.phase_id) for p in board.backlog.values()),
        usage_rows=frozenset(usage),
        estimate_rows=frozenset(estimates),
    )


async def register(keeper: Keeper, groups: list[Registration]) -> int:
    """Take in every group, in order, each at most once; where the log then ends or goes on."""
    head = keeper.board.head.pos
    for group in groups:
        head = max(head, await keeper.register(group))
    return head


@click.command(
    "collect_telemetry_data",
    hidden=True,
    context_settings={"ignore_unknown_options": True},
)
@click.argument("rest", nargs=-1, type=click.UNPROCESSED)
def collect_telemetry_data(rest: tuple[str, ...]) -> None:  # noqa: ARG001  whatever was passed
    """Say what replaced the old script."""
    raise UsageProblem(
        "collect_telemetry_data is gone: it could not work with today's phases.",
        remedy="`runoff seed` registers the telemetry run, `runoff drain` executes it, and"
        " `runoff identity` shows that usage was collected.",
    )
