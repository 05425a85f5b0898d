"""``runoff detect``: ask the detectors, about many outcomes or one file; list and explain rules."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, TypeVar

import click
import msgspec

from engine.cli.groups import DefaultGroup
from engine.cli.lines import Line, lines
from engine.detect import DETECTORS, Detectors, detectors
from engine.detect.contract import REQUESTS, Kind, Request, answer
from engine.errors import UsageProblem

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT = "plain-1"
_READ_BYTES = 1024 * 1024


@click.group(cls=DefaultGroup)
def detect() -> None:
    """Ask the detectors about outcomes or a file; list and explain their rules.

    Detectors are pure: the same text has the same answer, whatever was asked before.
    """


def _asking(command: F) -> F:
    """The two options of every command that answers line by line."""
    names = click.Choice(list(DETECTORS))
    chosen = click.option("--detectors", "name", type=names, default=DEFAULT, show_default=True)
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
      echo '{"id": 1, "stderr": "prompt is too long"}' | runoff detect boundary --jsonl
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
    asked = bad = 0
    for line in lines(_input()):
        asked += 1
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
            f"{bad} of {asked} lines could not be read; the others were answered.",
            remedy="send one JSON object a line, of at most 128 MiB; docs/reference/detectors.md"
            " has the fields.",
        )


def _input() -> BinaryIO:
    """Standard input in large blocks: its own buffer is too small for lines of many megabytes."""
    raw = getattr(sys.stdin.buffer, "raw", None)
    return (
        io.BufferedReader(raw, _READ_BYTES) if isinstance(raw, io.RawIOBase) else sys.stdin.buffer
    )


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
