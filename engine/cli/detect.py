"""``runoff detect``: ask the detectors, about many outcomes or one file; list and explain rules."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import msgspec

from engine.cli.lines import LINE_BYTES_MAX, Line, lines
from engine.cli.render import asked, fields, print_json, table
from engine.cli.text_file import origin_of, unreadable
from engine.detect import DETECTORS, Detectors, detectors
from engine.detect.contract import REQUESTS, Kind, Request, answer
from engine.detect.rules import rule_called, rule_sets, rules
from engine.detect.standard import STANDARD_1
from engine.errors import UsageProblem
from engine.executors.untrusted import read_at_most

F = TypeVar("F", bound=Callable[..., Any])

SHORT_CHARS = 12
_READ_BYTES = 1024 * 1024


# Not the one of engine.cli.context, which loads what a database needs.
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout.")


@click.group()
def detect() -> None:
    """Ask the detectors about outcomes or a file; list and explain their rules.

    Detectors are pure: the same text has the same answer, whatever was asked before.
    """


def _asking(command: F) -> F:
    """The two options of every command that answers line by line."""
    names = click.Choice(list(DETECTORS))
    chosen = click.option(
        "--detectors",
        "name",
        type=names,
        default=STANDARD_1.name,
        show_default=True,
        help="The set that answers.",
    )
    jsonl = click.option(
        "--jsonl", is_flag=True, required=True, help="Objects on stdin, answers on stdout."
    )
    return jsonl(chosen(command))


@detect.command()
@_asking
def boundary(name: str, *, jsonl: bool) -> None:  # noqa: ARG001  there is one form so far
    """Say whether a limit of the model or its provider stopped it.

    \b
    Example:
      echo '{"id": 1, "stderr": "prompt is too long"}' |
        runoff detect boundary --jsonl
    """  # noqa: D301
    _converse("boundary", detectors(name))


@detect.command()
@_asking
def fingerprint(name: str, *, jsonl: bool) -> None:  # noqa: ARG001
    """Say what a failure is like."""
    _converse("fingerprint", detectors(name))


@detect.command("zero-yield")
@_asking
def zero_yield(name: str, *, jsonl: bool) -> None:  # noqa: ARG001
    """Say why no usage came."""
    _converse("zero-yield", detectors(name))


def _converse(kind: Kind, chosen: Detectors) -> None:
    """Answer line by line; what cannot be read is told, skipped, and leads to exit 2 at the end."""
    out = sys.stdout.buffer
    count = bad = 0
    for line in lines(_input()):
        count += 1
        try:
            told = answer(_request(kind, line), chosen, line.dropped)
        except (ValueError, RecursionError) as error:
            bad += 1
            click.echo(f"runoff: line {line.number} is skipped: {_why(error)}", err=True)
            continue
        out.write(json.dumps(told).encode() + b"\n")
        out.flush()
    if bad:
        raise UsageProblem(
            f"{bad} of {count} lines could not be read; the others were answered.",
            remedy="send one JSON object a line, of at most 128 MiB; docs/reference/detectors.md"
            " has the fields.",
        )


def _input() -> io.BufferedReader:
    """Standard input in large blocks: its own buffer is too small for lines of many megabytes."""
    raw = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)
    return io.BufferedReader(cast("io.RawIOBase", raw), _READ_BYTES)


def _request(kind: Kind, line: Line) -> Request:
    if line.problem is not None:
        raise ValueError(line.problem)
    try:
        return msgspec.json.decode(line.data, type=REQUESTS[kind])
    except msgspec.ValidationError:
        raise
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # It may hold lone surrogates, which only the standard library takes.
        return msgspec.convert(json.loads(line.data), REQUESTS[kind])


def _why(error: ValueError | RecursionError) -> str:
    return "it is nested too deep" if isinstance(error, RecursionError) else str(error)


@detect.command("list")
@click.option("--rules", "with_rules", is_flag=True, help="Name every rule.")
@json_option
def list_(*, with_rules: bool, as_json: bool) -> None:
    """Name the rule sets with version, digest and number of rules."""
    sets, named = rule_sets(), list(rules()) if with_rules else None
    if as_json:
        print_json({"rule_sets": sets} | ({"rules": named} if named is not None else {}))
        return
    counts = [", ".join(f"{n} {tier}" for tier, n in each.rules.items()) for each in sets]
    rows = [
        [each.name, each.version, each.date, each.sha256[:SHORT_CHARS], count]
        for each, count in zip(sets, counts, strict=True)
    ]
    table("Rule sets", ["rule set", "version", "date", "sha256", "rules"], rows)
    if named is not None:
        click.echo()
        told = [[rule.name, rule.tier, rule.kind, rule.rule_set] for rule in named]
        table("Rules", ["rule", "tier", "kind", "rule set"], told)


@detect.command()
@click.argument("rule", metavar="RULE")
@json_option
def explain(rule: str, *, as_json: bool) -> None:
    """Show a rule: kind, pattern, where it comes from, since when.

    \b
    Examples:
      runoff detect explain "rate limit"
      runoff detect explain stop_reason=max_tokens --json
    """  # noqa: D301
    found = rule_called(asked(rule, "the name of the rule"))
    if as_json:
        print_json(found)
    else:
        click.echo(fields(found))


@detect.command("try")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--stderr", "errors", type=click.Path(path_type=Path), help="What went to stderr.")
@click.option("--exit-code", type=int, default=1, show_default=True, help="How it exited.")
@json_option
def try_(file: Path, errors: Path | None, exit_code: int, *, as_json: bool) -> None:
    """Ask all three detectors about FILE; show what each tier saw.

    FILE is taken for standard output.  An exit code of 0 is taken for a success.
    """
    from engine.cli.detect_words import tried, words_of  # noqa: PLC0415  others go without

    found = tried(_text_in(file), _text_in(errors) if errors else "", exit_code)
    if as_json:
        print_json(found)
    else:
        click.echo(words_of(found))


def _text_in(path: Path) -> str:
    try:
        # A link is the user's own here, so it may be followed; a pipe is not waited for.
        data = read_at_most(path.resolve(), LINE_BYTES_MAX + 1)
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(origin_of(path), error) from None
    if len(data) > LINE_BYTES_MAX:
        most_mib = LINE_BYTES_MAX >> 20
        raise UsageProblem(
            f"{origin_of(path)} has more than {most_mib} MiB.",
            remedy=f"pass its last {most_mib} MiB.",
        )
    return data.decode(errors="replace")
