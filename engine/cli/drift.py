"""``runoff drift``: whether the newest ratios of each group still look like those before them."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.calibration.drift import Drift, drift_of
from engine.calibration.samples import grouped
from engine.calibration.selection import selected
from engine.cli.calibrate import source_options
from engine.cli.calibration_source import Source, settings_of, source_of
from engine.cli.render import clean, print_json, table

COLUMNS = ["group", "coefficients", "status", "watched", "z", "alarms", "last at"]


class GroupDrift(msgspec.Struct, frozen=True, kw_only=True):
    """A group of one coefficients' version, and what the watch of it came to."""

    category: str
    complexity: str
    coefficient_version: str | None
    drift: Drift


@click.command()
@source_options("all")
def drift(**options: Any) -> None:
    """Watch every group per coefficients' version: too few to watch, steady, or alarms.

    A rank test of the newest 25 clean phases against all before them, from 45 on.  It reads only;
    `runoff drain --calibrate-every N` puts alarms into the log.

    \b
    Examples:
      runoff drift
      runoff drift --from-csv samples.csv --json
    """  # noqa: D301
    source = source_of(options)
    versions: list[str | None] = [options["coefficients"]]
    if options["coefficients"] is None:
        known = {each.version for each in source.samples if each.version}
        versions = [*sorted(known)] or [None]
    found = [each for version in versions for each in _watched(source, version, options)]
    if options["as_json"]:
        print_json(found)
        return
    alarms = sum(bool(each.drift.alarms) for each in found)
    few = sum(each.drift.status == "too_few" for each in found)
    click.echo(
        f"{alarms} of {len(found)} groups changed at some time; {few} have too few phases to watch."
    )
    if found:
        click.echo()
        table("Drift", COLUMNS, [_row(each) for each in found])


def _watched(source: Source, version: str | None, options: dict[str, Any]) -> list[GroupDrift]:
    settings = settings_of(source, options, version)
    return [
        GroupDrift(
            category=group.key.category,
            complexity=group.key.complexity,
            coefficient_version=version,
            drift=drift_of(group.ratios),
        )
        for group in grouped(selected(source.samples, settings).samples)
    ]


def _row(each: GroupDrift) -> list[object]:
    watch = each.drift
    return [
        f"{each.category}/{each.complexity}",
        clean(each.coefficient_version or "any"),
        watch.status.replace("_", " "),
        f"{watch.watched}, {watch.needed} more needed" if watch.needed else watch.watched,
        None if watch.z is None else f"{watch.z:.1f}",
        len(watch.alarms),
        watch.alarms[-1].pos if watch.alarms else None,
    ]
