"""``runoff coefficients``: what estimates are made from; show, check, and say that they changed."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.calibration.estimator import Coefficients, shipped, shipped_toml
from engine.cli.coefficients_file import coefficients_for, coefficients_in_file
from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.operating import say, why_options
from engine.cli.peeking import peeking
from engine.cli.render import clean, print_json, table
from engine.errors import UsageProblem
from engine.triage.operating import AdoptCoefficients

SHORT_CHARS = 12


@click.group(cls=DefaultGroup)
def coefficients() -> None:
    """Show what estimates are made from, check a file of your own, say that you changed them.

    ``coefficients`` alone shows those in force.
    """


@coefficients.command()
@click.argument("file", metavar="[FILE]", required=False)
@click.option("--toml", "as_toml", is_flag=True, help="Print the shipped file, to copy.")
@database_option
@allow_empty_option
@json_option
def show(
    file: str | None, database: str | None, *, as_toml: bool, as_json: bool, **options: Any
) -> None:
    """The coefficients of FILE, those of the log, or the shipped ones.

    \b
    Examples:
      runoff coefficients show --toml > mine.toml
      runoff coefficients show mine.toml
    """  # noqa: D301
    if as_toml:
        if as_json or file is not None:
            raise UsageProblem("--toml prints the shipped file.", remedy="give it alone.")
        click.echo(shipped_toml(), nl=False)
        return
    found = _meant(file, database, allow_empty=options["allow_empty_db"])
    if as_json:
        print_json({**msgspec.to_builtins(found), "sha256": found.sha256})
        return
    click.echo(_heading(found))
    click.echo(f"budgets from {found.budget_min} to {found.budget_max} tokens\n")
    table(f"Coefficients {found.version}", ["table", "key", "value"], _rows(found))


def _meant(file: str | None, database: str | None, *, allow_empty: bool) -> Coefficients:
    if file is not None:
        return coefficients_in_file(file)
    if database is None:
        return shipped()

    async def work() -> Coefficients:
        async with peeking(database, allow_empty=allow_empty, at=None) as peek:
            return await coefficients_for(None, peek.reader)

    return run_async(work)


def _heading(found: Coefficients) -> str:
    return f"coefficients {clean(found.version)}, sha256 {found.sha256[:SHORT_CHARS]}"


def _rows(found: Coefficients) -> list[list[object]]:
    return [
        [name, key, f"{value:g}"]
        for name in ("base", "per_deliverable", "reserve", "multipliers")
        for key, value in sorted(getattr(found, name).items())
    ]


@coefficients.command()
@click.argument("file", metavar="FILE")
@json_option
def check(file: str, *, as_json: bool) -> None:
    """Whether FILE holds coefficients; what differs from the shipped."""
    found = coefficients_in_file(file)
    changed = _differences(shipped(), found)
    if as_json:
        columns = ("key", "shipped", "file")
        told = [dict(zip(columns, row, strict=True)) for row in changed]
        print_json({"version": found.version, "sha256": found.sha256, "differs": told})
        return
    number = "one value differs" if len(changed) == 1 else f"{len(changed)} values differ"
    click.echo(f"{_heading(found)}: {number} from the shipped ones.")
    if changed:
        click.echo()
        table("Differences", ["key", "shipped", "file"], changed)


def _differences(old: Coefficients, new: Coefficients) -> list[list[object]]:
    first, second = _flat(old), _flat(new)
    return [
        [key, first.get(key), second.get(key)]
        for key in sorted({*first, *second})
        if first.get(key) != second.get(key)
    ]


def _flat(found: Coefficients) -> dict[str, float]:
    flat: dict[str, float] = {"budget_min": found.budget_min, "budget_max": found.budget_max}
    for name in ("base", "per_deliverable", "reserve", "multipliers"):
        flat |= {f"{name}.{key}": value for key, value in getattr(found, name).items()}
    return flat


@coefficients.command()
@click.argument("file", metavar="FILE")
@why_options
@database_option
@allow_empty_option
@json_option
def adopt(file: str, why: str, by: str, **options: Any) -> None:
    """Record that a person changed the coefficients to those in FILE.

    Drains that name no file go by them from now on, and a daemon once the next part of its session
    begins. FILE itself is left alone; the log holds all of it.
    """
    found, replaces = run_async(lambda: _replacing(file, options))
    operation = AdoptCoefficients(
        coefficient_version=found.version,
        coefficients_sha256=found.sha256,
        coefficients_json=found.json,
        replaces=replaces,
        by=by,
        why=why,
    )
    say(operation, options)
    if not options["as_json"]:
        click.echo(f"Adopted coefficients {clean(found.version)} in place of {clean(replaces)}.")


async def _replacing(file: str, options: dict[str, Any]) -> tuple[Coefficients, str]:
    """The coefficients in ``file``, and the version in force before."""
    async with peeking(options["database"], allow_empty=options["allow_empty_db"], at=None) as peek:
        found = await coefficients_for(file, peek.reader)
        before = await coefficients_for(None, peek.reader)
    if before.version == found.version:
        raise UsageProblem(
            f"coefficients {found.version} are in force already.", remedy="nothing need be done."
        )
    return found, before.version
