"""``runoff calibrate``: what estimates came to, and by how much they should change."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from engine.calibration.calibrate import calibrated
from engine.calibration.page import page
from engine.calibration.preview import previews
from engine.calibration.report import markdown, patch_json, verdict_rows
from engine.calibration.result import Calibration, Settings
from engine.calibration.samples import Group, classify
from engine.calibration.samples_csv import csv_from_samples
from engine.calibration.selection import selected
from engine.calibration.verdict import CONFIDENCE_THRESHOLD, MIN_SAMPLES
from engine.cli.calibration_record import record_report
from engine.cli.calibration_source import Source, settings_of, source_of
from engine.cli.context import FiniteRange, allow_empty_option, database_option, json_option
from engine.cli.groups import DefaultGroup
from engine.cli.moment import at_option, moment
from engine.cli.render import clean, clean_lines, print_json, table
from engine.cli.report_files import write_report
from engine.errors import UsageProblem

F = TypeVar("F", bound=Callable[..., Any])
MIN_SAMPLES_MAX = 1_000_000


def source_options(versions: str) -> Callable[[F], F]:
    """Where samples come from, and which to read: of ``versions`` unless one is named."""
    options = (
        json_option,
        allow_empty_option,
        database_option,
        at_option,
        click.option("--version-column", metavar="NAME", help="Where a table says coefficients."),
        click.option(
            "--coefficients",
            metavar="VERSION",
            help=f"Whose samples count.  [default: {versions}]",
        ),
        click.option("--since", type=moment, metavar="POSITION|TIME", help="Only from then on."),
        click.option(
            "--include-run-id", "runs", multiple=True, metavar="RUN", help="Only these; repeatable."
        ),
        click.option("--from-csv", metavar="FILE", help="Samples from a table, not the log."),
    )

    def decorate(function: F) -> F:
        for option in options:
            function = option(function)
        return function

    return decorate


@click.group(cls=DefaultGroup)
def calibrate() -> None:
    """Calibrate the token estimates; it reads, proposes, and changes nothing.

    ``calibrate`` alone is ``calibrate report``.
    """


@calibrate.command()
@click.option(
    "--min-samples",
    type=click.IntRange(1, MIN_SAMPLES_MAX),
    default=MIN_SAMPLES,
    show_default=True,
    help="Clean phases that a group needs.",
)
@click.option(
    "--confidence-threshold",
    type=FiniteRange(0.0, 1.0),
    default=CONFIDENCE_THRESHOLD,
    show_default=True,
    help="Confidence that a proposal needs.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the report goes.  [default: here; with --json nowhere]",
)
@click.option("--record", is_flag=True, help="Put the proposal into the log.")
@source_options("in force")
def report(**options: Any) -> None:
    """Say what estimates came to and should become; write a report.

    The database is only read; with --record the proposal is appended to its log.

    \b
    Examples:
      runoff calibrate --database sqlite:///backlog.db --output-dir reports
      runoff calibrate --from-csv samples.csv.gz --json
    """  # noqa: D301
    if options["record"] and (options["from_csv"] is not None or options["at"] is not None):
        raise UsageProblem(
            "--record is for the log as it stands.", remedy="leave out --from-csv and --at."
        )
    source = source_of(options)
    settings = _settings(source, options)
    result, groups = calibrated(
        source.samples,
        settings,
        log=source.log,
        in_force=source.multiplier(settings.coefficient_version),
    )
    if options["record"]:
        record_report(options["database"], result)  # first: if it is refused, nothing is written
    as_json: bool = options["as_json"]
    if as_json:
        print_json(result)
    else:
        _tell(result)
    directory: Path | None = options["output_dir"]
    if directory is not None or not as_json:
        _write(directory or Path(), result, groups, source, quiet=as_json)


def _settings(source: Source, options: dict[str, Any]) -> Settings:
    threshold: float = options["confidence_threshold"]
    if math.isnan(threshold):
        raise UsageProblem("--confidence-threshold is no number.", remedy="give one from 0 to 1.")
    return settings_of(
        source,
        options,
        options["coefficients"] or source.current,
        min_samples=options["min_samples"],
        confidence_threshold=threshold,
    )


def _tell(result: Calibration) -> None:
    click.echo(clean(result.sentence))
    for note in result.notes:
        click.echo(f"note: {clean(note)}")
    if result.groups:
        click.echo()
        table("Verdicts, most tokens at stake first", *verdict_rows(result))
    click.echo("\nThis is a proposal; nothing was changed.")


def _write(
    directory: Path, result: Calibration, groups: list[Group], source: Source, *, quiet: bool
) -> None:
    shown, scores = previews(result, groups), source.track_record()
    contents = {
        "md": markdown(result, shown, scores).encode(),
        "json": patch_json(result),
        "html": page(result, groups, shown, scores).encode(),
    }
    for path in write_report(directory, source.at_us, contents):
        click.echo(clean(str(path)), err=quiet)


@calibrate.command()
@click.option("--csv", "as_csv", is_flag=True, help="A table, as --from-csv reads it.  [default]")
@source_options("all")
def samples(*, as_csv: bool, as_json: bool, **options: Any) -> None:
    """Print the samples: a table, or JSON with an object a line.

    \b
    Examples:
      runoff calibrate samples > samples.csv
      runoff calibrate samples --coefficients imported --json
    """  # noqa: D301
    if as_csv and as_json:
        raise UsageProblem("--csv and --json are two forms.", remedy="give one of them.")
    source = source_of(options)
    settings = settings_of(source, options, options["coefficients"])
    found, is_watched = selected(source.samples, settings).samples, sys.stdout.isatty()
    if not as_json:
        for line in csv_from_samples(found):
            # Into a file the bytes stay as they are; on a terminal they shall not drive it.
            click.echo(clean_lines(line.replace("\r\n", "\n")) if is_watched else line, nl=False)
        return
    for sample in found:
        values = zip(sample.__struct_fields__, msgspec.structs.astuple(sample), strict=True)
        print_json({**dict(values), "class": classify(sample), "group": "/".join(sample.group)})
