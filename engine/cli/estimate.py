"""``runoff estimate``: how many tokens of output a phase will take, and why that many."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.calibration.estimator import Estimate, estimate as estimated
from engine.cli.coefficients_file import coefficients_for
from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.log import pages
from engine.cli.moment import at_option
from engine.cli.peeking import Peek, peeking
from engine.cli.phase_name import readings, unknown_phase
from engine.cli.render import asked, clean, print_json, table
from engine.events import PhaseRegistered, event_type
from engine.store.boards import feed, seen_page
from engine.store.protocol import Query
from projections.calibration import CALIBRATION, PhaseSample
from projections.fold import Keyed, join

COLUMNS = ["at", "estimated", "allowed", "came", "success", "truncated", "coefficients"]


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A phase's estimate with its parts, and what it was estimated at and took before."""

    run_id: str
    phase_id: str
    category: str
    complexity: str
    deliverables: int
    base_tokens: float
    per_deliverable_tokens: float
    multiplier: float
    reserve: float
    estimated_tokens: int
    budget_tokens: int
    coefficient_version: str
    sentence: str
    samples: tuple[PhaseSample, ...]


@click.command()
@click.argument("what", metavar="RUN[/PHASE]")
@click.argument("phase_id", metavar="[PHASE]", required=False)
@click.option("--coefficients", metavar="FILE", help="Instead of those adopted, or shipped.")
@at_option
@database_option
@allow_empty_option
@json_option
def estimate(what: str, phase_id: str | None, **options: Any) -> None:
    """Estimate a phase as a drain would now, and explain the number.

    The estimate is right in the middle; the budget is what the phase may take. They are two
    numbers. What the phase was estimated at before and took is listed below.

    \b
    Examples:
      runoff estimate RUN/PHASE
      runoff estimate RUN PHASE --coefficients mine.toml
    """  # noqa: D301
    asked(what, "RUN")
    asked(phase_id or "", "PHASE")

    async def work() -> Explained:
        allow, at = options["allow_empty_db"], options["at"]
        async with peeking(options["database"], allow_empty=allow, at=at) as peek:
            return await _explained(peek, what, phase_id, options["coefficients"])

    found = run_async(work)
    if options["as_json"]:
        print_json(found)
        return
    click.echo(clean(found.sentence))
    if found.samples:
        click.echo()
        table("Before", COLUMNS, [_row(each) for each in found.samples])


def _row(each: PhaseSample) -> list[object]:
    return [
        each.pos,
        each.estimated_tokens,
        each.budget_tokens,
        each.output_tokens,
        each.success,
        each.truncated,
        each.version,
    ]


async def _explained(peek: Peek, what: str, phase_id: str | None, path: str | None) -> Explained:
    coefficients = await coefficients_for(path, peek.reader, peek.end)
    for pair in readings(what, phase_id):
        registered, samples = await _of_phase(peek, *pair)
        if registered is not None:
            count = len(registered.deliverables)
            made = estimated(coefficients, registered.category, registered.complexity, count)
            return _told(registered, made, samples)
    raise unknown_phase(what, phase_id)


async def _of_phase(
    peek: Peek, run_id: str, phase_id: str
) -> tuple[PhaseRegistered | None, tuple[PhaseSample, ...]]:
    """A phase as it was registered, and its samples, from its own events."""
    folded = Keyed(CALIBRATION)
    registered: PhaseRegistered | None = None
    types = tuple(sorted(event_type(kind) for kind in CALIBRATION.handles))
    query = Query(run=run_id, phase=phase_id, types=types)
    async for record in pages(peek.reader, query, 0, peek.end):
        row = (record.pos, record.recorded_us, record.type, record.schema, record.data)
        (seen,) = seen_page([row])
        feed(seen, folded)
        if isinstance(seen.event, PhaseRegistered):
            registered = seen.event
    state = folded.get(join(run_id, phase_id))
    return registered, () if state is None else state.samples


def _told(
    registered: PhaseRegistered, made: Estimate, samples: tuple[PhaseSample, ...]
) -> Explained:
    return Explained(
        run_id=registered.run_id,
        phase_id=registered.phase_id,
        **made._asdict(),
        sentence=made.sentence,
        samples=samples,
    )
