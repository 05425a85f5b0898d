"""What operators say to a log: options, and how one word of theirs is recorded."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from typing import Any, TypeVar

import click
import msgspec

from engine.cli.context import ids, refuse_empty, run_async, show_identity, writing
from engine.cli.render import asked, print_json
from engine.clock import SystemClock
from engine.errors import UsageProblem
from engine.events import AnyEvent
from engine.store.command import Command, just
from engine.store.moments import recorded_at
from projections.board import Board

F = TypeVar("F", bound=Callable[..., Any])


def why_options(function: F) -> F:
    """``--why`` and ``--by``."""
    by = click.option("--by", default=getpass.getuser, metavar="NAME", help="[default: you]")
    why = click.option("--why", required=True, metavar="TEXT", help="Your reason, for the log.")
    return why(by(function))


def say(
    subject: str,
    texts: tuple[str, str],
    decided: Callable[[Board, int], AnyEvent],
    options: dict[str, Any],
) -> None:
    """Record what an operator decided; ``texts`` are why, and by whom.

    ``decided`` gets the board at the head and the writer's time (Unix microseconds), and raises
    UsageProblem for what makes no sense there.
    """
    for text, name in zip(texts, ("--why", "--by"), strict=True):
        if not asked(text, name).strip():
            raise UsageProblem(f"{name} is empty.", remedy="say it in a few words.")

    async def work() -> AnyEvent:
        async with writing(options["database"], "operator") as (location, recorder):
            identity = show_identity(location, recorder.board)
            refuse_empty(identity, allow_empty=options["allow_empty_db"])
            end = recorder.head.pos
            last_us = await recorded_at(recorder.store, end) if end else 0
            event = decided(recorder.board, max(last_us, SystemClock().now_us()))
            request, stream = msgspec.json.encode(event), f"operator/{subject}"
            await recorder.submit(Command(ids()("cmd"), stream, request, just(event)))
            return event

    event = run_async(work)
    if options["as_json"]:
        print_json(event)
