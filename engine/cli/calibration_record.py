"""How a report becomes part of the log that it is of."""

from __future__ import annotations

import click

from engine.audit.estimates import event_of
from engine.calibration.result import Calibration
from engine.cli.context import run_async
from engine.cli.handing import keeping
from engine.triage.operating import ProposeCalibration


def record_report(database: str | None, result: Calibration) -> None:
    """Record the one event of a report, by whoever writes the log."""

    async def work() -> None:
        async with keeping(database, "calibrate") as keeper:
            await keeper.operate(ProposeCalibration(proposal=event_of(result)))

    run_async(work)
    click.echo("The proposal is in the log now.", err=True)
