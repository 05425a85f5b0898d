"""The executor that a command line asks for: a program behind ``--``, or a script."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from engine.cli.context import FiniteRange
from engine.cli.drain_scope import Request
from engine.cli.render import clean
from engine.drain.drift_watch import LOOKS_EVERY
from engine.drain.tidying import KEEP_HOURS, Tidying
from engine.errors import UsageProblem
from engine.executors.command import CommandExecutor
from engine.executors.port import Executor
from engine.executors.scripted import ScriptedExecutor, load_script
from engine.store.location import Location
from engine.store.recorder import Recorder

F = TypeVar("F", bound=Callable[..., Any])


def executing_options(function: F) -> F:
    """What a drain and a daemon may be told of how attempts are made."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option(
        "--executor", type=click.Choice(["command", "scripted"]), help="[default: by use]"
    ),
    click.option("--command", "command_line", metavar="TEXT", help="The program, as one text."),
    click.option(
        "--script", type=click.Path(path_type=Path), help="Outcomes for --executor scripted."
    ),
    click.option("--workspace", type=click.Path(path_type=Path), help="Where children work."),
    click.option(
        "--pass-env", multiple=True, metavar="NAME", help="Let children see this variable."
    ),
    click.option("--require-deliverables", is_flag=True, help="No success without the files."),
    click.option(
        "--on-restart",
        type=click.Choice(["adopt", "end"]),
        default="adopt",
        help="Attempts of an engine that died.",
    ),
    click.option(
        "--presume-lost",
        metavar="HOST",
        multiple=True,
        help="Machines that are gone for good; repeatable. Their open attempts are closed as lost.",
    ),
    click.option(
        "--keep-files-hours",
        type=FiniteRange(0, 1_000_000),
        default=KEEP_HOURS,
        show_default=True,
        help="How long the files of attempts that are over are kept.",
    ),
    click.option(
        "--coefficients", metavar="FILE", help="What to estimate with. [adopted, or shipped]"
    ),
    click.option(
        "--calibrate-every",
        type=click.IntRange(0, 1_000_000),
        default=LOOKS_EVERY,
        help="Watch for drift at every Nth success; 0 = never.",
    ),
)


def executor_of(request: Request) -> Callable[[Location], Executor]:
    """How to make it, once the database is known.

    Raises UsageProblem for a program or script that there is not.
    """
    options = request.options
    argv = request.argv or _split(options["command_line"] or "")
    kind = options["executor"] or ("scripted" if options["script"] else "command")
    if kind == "scripted":
        if options["script"] is None:
            raise UsageProblem("the scripted executor needs a script.", remedy="give --script.")
        rules = load_script(options["script"])
        return lambda _location: ScriptedExecutor(rules)
    if not argv:
        raise UsageProblem(
            "no program was named to execute phases with.",
            remedy="put it behind --, such as `-- python agent.py`; or --script FILE.",
        )
    found = _from_here(argv)
    _refuse_no_folder(options["workspace"])
    return lambda location: CommandExecutor(
        found,
        files_root=location.beside("files"),
        workspace=options["workspace"],
        pass_env=options["pass_env"],
        on_engine_death=options["on_restart"],
        require_deliverables=options["require_deliverables"],
    )


def tidying_of(recorder: Recorder, place: Location, options: Mapping[str, Any]) -> Tidying:
    """What removes old files of the attempts of a log."""
    return Tidying(recorder, place.beside("files"), options["keep_files_hours"] * 3600)


def _refuse_no_folder(workspace: Path | None) -> None:
    """Every attempt would fail there; one that is missing is made."""
    if workspace is not None and workspace.exists() and not workspace.is_dir():
        raise UsageProblem(
            f"{clean(str(workspace))}, which --workspace names, is no folder.",
            remedy="name a folder; one that is missing is made.",
        )


def _split(command: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(command))
    except ValueError as error:
        raise UsageProblem(
            f"--command cannot be split into words: {error}.",
            remedy="close what is open, or put the program behind -- instead.",
        ) from None


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
