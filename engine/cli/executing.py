"""The executor that a command line asks for: a program behind ``--``, or a script."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

from engine.cli.drain_scope import Request
from engine.errors import UsageProblem
from engine.executors.command import CommandExecutor
from engine.executors.port import Executor
from engine.executors.scripted import ScriptedExecutor, load_script
from engine.store.location import Location


def executor_of(request: Request) -> Callable[[Location], Executor]:
    """How to make it, once the database is known.

    Raises UsageProblem for a program or script that there is not.
    """
    options = request.options
    argv = request.argv or tuple(shlex.split(options["command_line"] or ""))
    kind = options["executor"] or ("scripted" if options["script"] else "command")
    if kind == "scripted":
        if options["script"] is None:
            raise UsageProblem("the scripted executor needs a script.", remedy="give --script.")
        rules = load_script(options["script"])
        return lambda _location: ScriptedExecutor(rules)
    if not argv:
        raise UsageProblem(
            "no program was named to execute phases with.",
            remedy="put it behind --, such as `runoff drain -- python agent.py`; or --script FILE.",
        )
    found = _from_here(argv)
    return lambda location: CommandExecutor(
        found,
        files_root=location.beside("files"),
        workspace=options["workspace"],
        pass_env=options["pass_env"],
        on_engine_death=options["on_restart"],
        require_deliverables=options["require_deliverables"],
    )


def _from_here(argv: tuple[str, ...]) -> tuple[str, ...]:
    """``argv`` as it is meant where it was typed, though children run in their workspaces.

    The program is looked up now, and arguments that name an existing file are made absolute.
    """
    program = argv[0]
    if "{" not in program:
        found = shutil.which(program)
        if found is None:
            raise UsageProblem(
                f"there is no program {program[:200]!a} that could be started.",
                remedy="check its name, its path and that it is executable.",
            )
        program = str(Path(found).absolute())
    return (program, *(_absolute(argument) for argument in argv[1:]))


def _absolute(argument: str) -> str:
    try:
        here = bool(argument) and Path(argument).is_file()
    except (OSError, ValueError):
        here = False
    return str(Path(argument).absolute()) if here else argument
