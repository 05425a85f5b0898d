"""What calibration puts into the log: reports, alarms of drift, and coefficients adopted."""

from __future__ import annotations

import click
import msgspec

from engine.calibration.result import Calibration, Change
from engine.cli.context import ids, run_async, writing
from engine.events import CalibrationProposed, ProposedMultiplier
from engine.store.command import Command, just

STREAM = "calibration"


def record_report(database: str | None, result: Calibration) -> None:
    """Append the one event of a report."""
    event = event_of(result)

    async def work() -> None:
        async with writing(database, "calibrate") as (_, recorder):
            request = msgspec.json.encode(event)
            await recorder.submit(Command(ids()("cmd"), STREAM, request, just(event)))

    run_async(work)
    click.echo("The proposal is in the log now.", err=True)


def event_of(result: Calibration) -> CalibrationProposed:
    """A report of the log, as the log has it."""
    assert result.log is not None
    return CalibrationProposed(
        position=result.log.position,
        hash=result.log.hash,
        input_sha256=result.input_sha256,
        formula_version=result.formula_version,
        coefficient_version=result.settings.coefficient_version,
        min_samples=result.settings.min_samples,
        confidence_threshold=result.settings.confidence_threshold,
        samples=result.totals.read,
        groups=len(result.groups),
        sentence=result.sentence,
        proposals=tuple(_proposed(change) for change in result.patch.proposed_changes),
    )


def _proposed(change: Change) -> ProposedMultiplier:
    return ProposedMultiplier(
        category=change.category,
        complexity=change.complexity,
        multiplier=change.proposed_multiplier,
        multiplier_low=change.multiplier_low,
        multiplier_high=change.multiplier_high,
        confidence=change.confidence,
        phase_count=change.phase_count,
    )
