"""``runoff whatif``: what another policy would have come to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from engine.amounts import counted, lasting
from engine.audit.connection import connect
from engine.audit.lines import Line, commands, read_lines
from engine.audit.local import local
from engine.audit.whatif import walked
from engine.audit.whatif_result import WhatIf
from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.moment import at_option
from engine.cli.peeking import announced_at
from engine.cli.policies import policy_of, with_settings
from engine.cli.progress import Progress
from engine.cli.render import aligned, clean, print_json
from engine.collector import without_collector
from engine.errors import UsageProblem
from engine.events import PolicyAdopted
from engine.pace import Pace
from engine.store.blobs import Blobs
from engine.store.location import Location
from engine.store.sqlite_errors import translated
from engine.triage.policy import Policy, policy_from_json

if TYPE_CHECKING:
    from engine.drain.rerun import Rerun

SHOWN_MAX = 40
SWEEP_MAX = 200
BAR_CHARS = 40
_RANGE = re.compile(r"(-?\d{1,12})\.\.(-?\d{1,12})(?::(\d{1,12}))?")


@click.command()
@click.option(
    "--policy", "policy_name", metavar="NAME|FILE", help="[default: the newest recorded one]"
)
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Repeatable.")
@click.option("--sweep", metavar="KEY=A..B|A,B,C", help="A line for each value, and a chart.")
@click.option("--simulate", is_flag=True, help="Go on beyond the record, on virtual time.")
@click.option("--script", type=click.Path(path_type=Path), help="Outcomes beyond the record.")
@at_option
@database_option
@json_option
@allow_empty_option
def whatif(database: str | None, *, as_json: bool, **options: Any) -> None:
    """Hold another policy against the recorded outcomes: what differs, is saved, is lost.

    Whatever the record cannot tell is named, not guessed: after the first divergence of a run its
    horizon. --simulate goes on behind it with recorded and borrowed outcomes, and says so.

    \b
    Examples:
      runoff whatif --policy classic
      runoff whatif --set fingerprint_repeats_max=2 --set breaker_runs=none
      runoff whatif --sweep fingerprint_repeats_max=1..6
      runoff whatif --policy mine.toml --simulate
      runoff whatif --policy classic --at -2h
    """  # noqa: D301
    if options["script"] is not None and (options["sweep"] or not options["simulate"]):
        raise UsageProblem(
            "--script tells outcomes beyond the record, where only --simulate goes.",
            remedy="add --simulate (without --sweep), or leave out --script.",
        )
    location, end = announced_at(database, allow_empty=options["allow_empty_db"], at=options["at"])
    with without_collector():
        _held_against(location, end, options, as_json=as_json)


def _held_against(location: Location, end: int, options: dict[str, Any], *, as_json: bool) -> None:
    with (
        Progress("Reading the log") as pace,
        local(location, pace) as place,
        translated(),
        closing(connect(place.path)) as connection,
    ):
        lines = list(read_lines(connection, end, pace))
    base = _base(options["policy_name"], lines)
    policy = with_settings(base, options["settings"]) if options["settings"] else base
    notes = _remarks(lines) if options["policy_name"] is None else ()
    blobs = Blobs(location.beside("files") / "blobs")
    if options["sweep"]:
        _sweep(options["sweep"], policy, lines, blobs, notes, as_json=as_json)
        return
    with Progress("Deciding again") as pace:
        found = walked(_paced(commands(lines), pace, end), policy, blobs.get)
    found = replace(found, notes=(*notes, *found.notes))
    simulated = _simulated(lines, policy, blobs, options) if options["simulate"] else None
    if as_json:
        print_json({"whatif": found, "simulated": simulated})
    else:
        click.echo(_in_words(found, simulated, location))


def _paced(groups: Iterable[list[Line]], pace: Pace, end: int) -> Iterator[list[Line]]:
    """The same commands, telling of each hundredth how far it is."""
    for number, group in enumerate(groups):
        if number % 100 == 0:
            pace(group[0].pos, end)
        yield group


def _base(name: str | None, lines: Sequence[Line]) -> Policy:
    """The policy asked for; without a name the newest one in the log."""
    if name is not None:
        return policy_of(name)
    for line in reversed(lines):
        if isinstance(line.event, PolicyAdopted):
            return policy_from_json(line.event.policy_json)
    raise UsageProblem(
        "the log holds no drain, so there is nothing to hold a policy against.",
        remedy="run `runoff drain` first, or name another database.",
    )


def _remarks(lines: Sequence[Line]) -> tuple[str, ...]:
    """That the newest policy of a log is held against sessions that went by others, if it is."""
    adopted = [line.event for line in lines if isinstance(line.event, PolicyAdopted)]
    count = len({each.policy_sha256 for each in adopted})
    if count < 2:  # noqa: PLR2004
        return ()
    return (f"the log's sessions went by {count} policies; the newest is held against them all",)


def _simulated(
    lines: Sequence[Line], policy: Policy, blobs: Blobs, options: dict[str, Any]
) -> Rerun:
    # Only here, because they take a third of the time that a start takes.
    from engine.drain.rerun import recorded, rerun  # noqa: PLC0415
    from engine.executors.scripted import ScriptedExecutor, load_script  # noqa: PLC0415

    script = None
    if options["script"] is not None:
        script = ScriptedExecutor(load_script(options["script"]))
    found = recorded([line.event for line in lines], blobs)
    return run_async(lambda: rerun(found, policy, script), virtual=True)


def _in_words(found: WhatIf, simulated: Rerun | None, location: Location) -> str:
    policy = f"{clean(found.policy)} ({found.policy_sha256[:12]})"
    made = f"{found.attempts_made} of {found.attempts}"
    saved = counted(found.tokens_saved, "token")
    successes = counted(found.successes_lost, "success", "successes")
    lines = [
        f"Under {policy}, as far as {clean(location.name)} can tell:",
        f"  attempts made {made}; {found.attempts_saved} saved, {found.attempts_unknown} unknown",
        f"  saved {saved}, {lasting(found.minutes_saved * 60_000)} of work",
        f"  lost {successes}, {counted(found.usage_lost, 'usage record')}",
        f"  decisions that differ: at {counted(len(found.differing), 'end')} of attempts",
    ]
    lines += [
        f"    @{each.pos} {clean(each.run_id)}: {_told(each.recorded)} -> {_told(each.instead)}"
        for each in found.differing[:SHOWN_MAX]
    ]
    lines += [
        f"    @{each.pos} {clean(each.run_id)}/{clean(each.phase_id)} not attempted:"
        f" {each.because} (it {each.ending or 'is still open'};"
        f" {'saved' if each.saved else 'unknown'})"
        for each in found.not_made[:SHOWN_MAX]
    ]
    goes_on = counted(len(found.horizons), "run goes", "runs go")
    lines.append(f"  horizon: {goes_on} on where the record has no outcome")
    lines += [
        f"    {clean(each.run_id)} from @{each.pos}: {each.unknown}"
        for each in found.horizons[:SHOWN_MAX]
    ]
    longest = max(len(found.differing), len(found.not_made), len(found.horizons))
    if longest > SHOWN_MAX:
        lines.append(f"  (at most {SHOWN_MAX} of each are shown; --json has all)")
    lines += [f"  note: {note}" for note in found.notes]
    return "\n".join([*lines, *_simulated_words(simulated)])


def _told(decisions: Sequence[str]) -> str:
    return clean("; ".join(decisions)) or "nothing"


def _simulated_words(found: Rerun | None) -> list[str]:
    if found is None:
        return []
    sources = ", ".join(f"{count} by {name}" for name, count in sorted(found.sources.items()))
    runs = counted(found.runs_deprioritized, "run")
    ends = f"{found.succeeded} succeeded, {found.failed} failed, {found.timed_out} timed out"
    return [
        "Simulated from the start, beyond the horizon (not known, only likely):",
        f"  {counted(found.attempts, 'attempt')}: {ends}",
        f"  {counted(found.tokens, 'token')}, {lasting(found.busy_minutes * 60_000)} of work",
        f"  {counted(found.usage_events, 'usage record')}, {runs} deprioritized",
        f"  outcomes: {sources or 'none'}",
    ]


def _sweep(
    text: str,
    base: Policy,
    lines: Sequence[Line],
    blobs: Blobs,
    notes: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    key, values = _values(text)
    policies = [(value, with_settings(base, [f"{key}={value}"], "--sweep")) for value in values]
    groups = list(commands(lines))
    walks = [(value, walked(groups, policy, blobs.get)) for value, policy in policies]
    found = [(value, replace(each, notes=(*notes, *each.notes))) for value, each in walks]
    if as_json:
        print_json({"key": key, "values": [{"value": v, "whatif": w} for v, w in found]})
        return
    columns = [
        "made",
        "saved",
        "unknown",
        "tokens saved",
        "successes lost",
        "differing",
        "horizons",
    ]
    rows = [
        (
            value,
            *(
                str(cell)
                for cell in (
                    each.attempts_made,
                    each.attempts_saved,
                    each.attempts_unknown,
                    each.tokens_saved,
                    each.successes_lost,
                    len(each.differing),
                    len(each.horizons),
                )
            ),
        )
        for value, each in found
    ]
    click.echo(aligned([(key, *columns), *rows]))
    click.echo("\nAttempts made (#), successes lost (x):")
    click.echo(_chart(found))
    for note in notes:
        click.echo(f"note: {note}")


def _values(text: str) -> tuple[str, list[str]]:
    """A parameter and the values of it, from ``key=1..6``, ``key=0..60:10`` or ``key=a,b``."""
    key, equals, values = text.partition("=")
    match = _RANGE.fullmatch(values)
    if match:
        first, last, step = int(match[1]), int(match[2]), int(match[3] or 1)
        numbers = range(first, last + 1, step) if step else range(0)
        count, found = len(numbers), [str(n) for n in numbers[:SWEEP_MAX]]
    else:
        found = [value.strip() for value in values.split(",") if value.strip()]
        count = len(found)
    if not equals or not 0 < count <= SWEEP_MAX:
        names = f"{count} values" if equals and count else "no values"
        raise UsageProblem(
            f"--sweep {text[:80]!a} names {names}.",
            remedy="write KEY=FIRST..LAST, KEY=FIRST..LAST:STEP or KEY=A,B,C;"
            f" {SWEEP_MAX} values at most.",
        )
    return key, found


def _chart(found: Sequence[tuple[str, WhatIf]]) -> str:
    """A bar a value: attempts made, and of those saved the successes that were lost."""
    width = max(len(value) for value, _ in found)
    most = max((each.attempts for _, each in found), default=1) or 1
    return "\n".join(
        f"{value:>{width}} |{'#' * _bar(each.attempts_made, most)}"
        f"{'x' * _bar(each.successes_lost, most)} {each.attempts_made}"
        for value, each in found
    )


def _bar(count: int, most: int) -> int:
    return 0 if count == 0 else max(1, round(count * BAR_CHARS / most))
