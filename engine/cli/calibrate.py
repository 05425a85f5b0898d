"""``runoff calibrate``: what estimates came to, and by how much they should change."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from engine.calibration.calibrate import calibrate as calibrated
from engine.calibration.page import page
from engine.calibration.preview import previews
from engine.calibration.report import markdown, patch_json, verdict_rows
from engine.calibration.result import Calibration, Settings
from engine.calibration.samples import Sample, grouped
from engine.calibration.selection import selected
from engine.calibration.verdict import CONFIDENCE_THRESHOLD, MIN_SAMPLES
from engine.cli.context import json_option
from engine.cli.groups import DefaultGroup
from engine.cli.moment import Moment, at_option, moment
from engine.cli.render import asked, clean, print_json, table
from engine.cli.report_files import write_report
from engine.cli.samples_file import samples_in_file
from engine.clock import SystemClock
from engine.errors import UsageProblem

MIN_SAMPLES_MAX = 1_000_000


@click.group(cls=DefaultGroup)
def calibrate() -> None:
    """Calibrate the token estimates; it reads, proposes, and changes nothing.

    ``calibrate`` alone is ``calibrate report``.
    """


@calibrate.command()
@click.option("--from-csv", metavar="FILE", help="Samples from a table, packed by gzip or not.")
@click.option(
    "--min-samples",
    type=click.IntRange(1, MIN_SAMPLES_MAX),
    default=MIN_SAMPLES,
    show_default=True,
    help="Clean phases that a group needs.",
)
@click.option(
    "--confidence-threshold",
    type=click.FloatRange(0.0, 1.0),
    default=CONFIDENCE_THRESHOLD,
    show_default=True,
    help="Confidence that a proposal needs.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the report goes.  [default: here; with --json nowhere]",
)
@click.option("--include-run-id", "runs", multiple=True, metavar="RUN", help="Repeatable.")
@click.option("--since", type=moment, metavar="POSITION|TIME", help="Only samples from then on.")
@click.option("--coefficients", metavar="VERSION", help="Whose samples count.  [default: newest]")
@click.option("--version-column", metavar="NAME", help="Where a table says the coefficients.")
@at_option
@json_option
def report(*, from_csv: str | None, as_json: bool, **options: Any) -> None:
    """Say what the estimates came to and what should change; write the report as three files.

    \b
    Examples:
      runoff calibrate --from-csv samples.csv
      runoff calibrate --from-csv samples.csv.gz --json
    """  # noqa: D301
    if from_csv is None:
        raise UsageProblem("no samples are named.", remedy="name a table with --from-csv FILE.")
    samples = samples_in_file(from_csv, options["version_column"])
    result = calibrated(samples, _settings(samples, options))
    if as_json:
        print_json(result)
    else:
        _tell(result)
    directory: Path | None = options["output_dir"]
    if directory is not None or not as_json:
        _write(directory or Path(), SystemClock().now_us(), result, samples, quiet=as_json)


def _settings(samples: list[Sample], options: dict[str, Any]) -> Settings:
    threshold: float = options["confidence_threshold"]
    if math.isnan(threshold):
        raise UsageProblem("--confidence-threshold is no number.", remedy="give one from 0 to 1.")
    version: str | None = options["coefficients"]
    if version is None and samples and samples[-1].version:
        version = samples[-1].version
    since, until = options["since"], options["at"]
    return Settings(
        min_samples=options["min_samples"],
        confidence_threshold=threshold,
        coefficient_version=version,
        include_run_ids=tuple(asked(run, "--include-run-id") for run in options["runs"]),
        since=None if since is None else _first_from(samples, since),
        until=None if until is None else _last_until(samples, until),
    )


def _first_from(samples: list[Sample], wanted: Moment) -> int:
    """The first row at or after a moment."""
    if wanted.pos is not None:
        return wanted.pos
    late = [each.pos for each in samples if _time(each) >= (wanted.at_us or 0)]
    return min(late, default=len(samples) + 1)


def _last_until(samples: list[Sample], wanted: Moment) -> int:
    """The last row at or before a moment."""
    if wanted.pos is not None:
        return wanted.pos
    early = [each.pos for each in samples if _time(each) <= (wanted.at_us or 0)]
    return max(early, default=0)


def _time(sample: Sample) -> int:
    if sample.at_us is None:
        raise UsageProblem(
            f"row {sample.pos} has no timestamp, so a time names no row.",
            remedy="give --since and --at as numbers of rows.",
        )
    return sample.at_us


def _tell(result: Calibration) -> None:
    click.echo(clean(result.sentence))
    for note in result.notes:
        click.echo(f"note: {clean(note)}")
    if result.groups:
        click.echo()
        table("Verdicts, most tokens at stake first", *verdict_rows(result))
    click.echo("\nThis is a proposal; nothing was changed.")


def _write(
    directory: Path, at_us: int, result: Calibration, samples: list[Sample], *, quiet: bool
) -> None:
    chosen = selected(samples, result.settings).samples
    groups = grouped(chosen)
    shown = previews(result, groups)
    contents = {
        "md": markdown(result, shown).encode(),
        "json": patch_json(result),
        "html": page(result, groups, shown).encode(),
    }
    for path in write_report(directory, at_us, contents):
        click.echo(clean(str(path)), err=quiet)
