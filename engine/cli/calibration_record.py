"""What calibration puts into the log: reports, alarms of drift, and coefficients adopted."""

from __future__ import annotations

import click
import msgspec

from engine.audit.estimates import event_of
from engine.calibration.result import Calibration
from engine.cli.context import ids, run_async, writing
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
