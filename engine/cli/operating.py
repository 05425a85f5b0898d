"""What operators say to a log: options, and how one word of theirs is recorded."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from engine.cli.context import refuse_empty, run_async, show_identity
from engine.cli.handing import keeping
from engine.cli.render import asked, clean, print_json
from engine.errors import UsageProblem
from engine.events import AnyEvent
from engine.triage.operating import ReinstateRun, Spoken
from engine.triage.used_up import used_up_run
from projections.board import Board

F = TypeVar("F", bound=Callable[..., Any])


def your_name() -> str:
    """What the system calls whoever runs this; a container may have no name for its user."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def why_options(function: F, default: str | None = None) -> F:
    """``--why`` and ``--by``; without a ``default`` a reason must be given."""
    by = click.option("--by", default=your_name, metavar="NAME", help="[default: you]")
    # For click a default of None is one, too, so that it would not miss the option.
    needed: dict[str, Any] = {"required": True} if default is None else {"default": default}
    why = click.option("--why", metavar="TEXT", help="Your reason, for the log.", **needed)
    return why(by(function))


def said(text: str, name: str) -> str:
    """``text`` of the option ``name``.  Raises UsageProblem when nothing is said."""
    if not asked(text, name).strip():
        raise UsageProblem(f"{name} is empty.", remedy="say it in a few words.")
    return text


def as_typed(operation: Spoken, _board: Board) -> Spoken:
    """What was typed names it whole."""
    return operation


def say(
    operation: Spoken,
    options: dict[str, Any],
    meant: Callable[[Spoken, Board], Spoken] = as_typed,
) -> str:
    """Record what an operator asks for, by whoever writes the log; what is to be done next.

    ``meant``: the same with ids of the log, where less may be typed.  With ``--json`` the event is
    printed.  Raises UsageProblem for what makes no sense at the head of the log.
    """
    said(operation.why, "--why")
    said(operation.by, "--by")

    async def work() -> tuple[AnyEvent, str]:
        async with keeping(options["database"], "operator") as keeper:
            refuse_empty(
                show_identity(keeper.location, keeper.board), allow_empty=options["allow_empty_db"]
            )
            event = await keeper.operate(meant(operation, keeper.board))
            if isinstance(operation, ReinstateRun):
                stuck = used_up_run(await keeper.look(), operation.run_id)
                if stuck is not None:
                    return event, f"But {clean(stuck.clause)}. Next: {clean(stuck.remedy)}"
            return event, keeper.next_step

    event, next_step = run_async(work)
    if options["as_json"]:
        print_json(event)
    return next_step
