"""``runoff demo``: the main job, on a sample backlog, with nothing but the installed package."""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from importlib.resources import as_file, files
from pathlib import Path

import click

from engine.audit.why import explanation
from engine.backlog.legacy import read_legacy
from engine.backlog.sample import SAMPLE_PARTS, write_sample
from engine.calibration.estimator import shipped
from engine.cli.backlog import known_to, register
from engine.cli.context import ids, run_async, show_identity, writing
from engine.cli.handing import Own
from engine.cli.live import Live, summary_words
from engine.cli.render import clean
from engine.cli.why_words import explanation_lines
from engine.clock import SystemClock
from engine.drain.loop import Drain
from engine.drain.summary import Summary, summarise
from engine.errors import StorageFailed, UsageProblem
from engine.events import Limits
from engine.executors.command import CommandExecutor
from engine.executors.port import Assignment, Report, Watch
from engine.store.blobs import Blobs
from engine.triage.policy import policy_named
from engine.triage.scope import Scope

TIMEOUT_MS = 3000


class PartPlayer:
    """Runs the demo's agent under the part of the assignment's run."""

    name = "command"

    def __init__(self, agent: Path, files_root: Path) -> None:
        self._by_part = {
            part: CommandExecutor((sys.executable, str(agent), part), files_root=files_root)
            for part in set(SAMPLE_PARTS.values())
        }

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Execute and report."""
        part = SAMPLE_PARTS[assignment.sheet.run_id]
        return await self._by_part[part].run(assignment, watch)


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runoff-demo"),
    show_default=True,
    help="Where the demo's databases go.",
)
def demo(directory: Path) -> None:
    """Import a sample backlog, drain it with real child processes, and explain the result.

    Takes about ten seconds and calls no model.
    """
    url = f"sqlite:///{_place(directory)}"
    with tempfile.TemporaryDirectory() as scratch, as_file(files("engine.demo")) as room:
        source = Path(scratch) / "older-system.db"
        write_sample(source)
        summary, story = run_async(lambda: _run(url, source, room / "agent.py"))
    click.echo(summary_words(summary))
    click.echo(f"\n{story}\n")
    _what_next(url)


def _place(directory: Path) -> Path:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UsageProblem(
            f"{clean(str(directory))} is no folder.", remedy="name another --directory."
        ) from None
    except OSError as error:
        raise StorageFailed(
            f"cannot make {directory}: {error.strerror}.", remedy="name another --directory."
        ) from error
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    return (directory / f"backlog-{stamp}.db").absolute()


async def _run(url: str, source: Path, agent: Path) -> tuple[Summary, str]:
    async with writing(url, "demo", create=True) as (place, recorder):
        found = read_legacy(source, await known_to(recorder.store, recorder.board))
        await register(Own(place, recorder), [*found.registrations, found.closing])
        show_identity(place, recorder.board)
        clock = SystemClock()
        scope = Scope(ids()("ses"), policy_named("default"), _limits())
        with Live(recorder, scope, ack_lines=False) as live:
            drain = Drain(
                recorder=recorder,
                executor=PartPlayer(agent, place.beside("files")),
                scope=scope,
                clock=clock,
                ids=ids(),
                blobs=Blobs(place.beside("files") / "blobs"),
                tell=live.tell,
                coefficients=shipped(),
            )
            await drain.run(resume=False)
        summary = await summarise(recorder.store, recorder.board, scope)
        lost = next((run.run_id for run in summary.runs if run.standing == "deprioritized"), None)
        run_id = lost or summary.runs[0].run_id
        end, now_us = recorder.head.pos, clock.now_us()
        told = await explanation(recorder.store, run_id, None, end=end, now_us=now_us)
        return summary, "\n".join(explanation_lines(told))


def _limits() -> Limits:
    return Limits(
        batch_size=60, workers=4, per_run_max=2, phase_timeout_ms=TIMEOUT_MS, grace_ms=500
    )


def _what_next(url: str) -> None:
    runoff, database = _as_called(), shlex.quote(url)
    click.echo(clean(f"The database is {url[len('sqlite:///') :]}. Look around:"))
    for line in ("run list", "why media-transcode-v1", "log show --limit 20", "verify"):
        click.echo(clean(f"  {runoff} {line} --database {database}"))
    own = f"{runoff} import OLD.db --database sqlite:///my.db"
    click.echo(clean(f"Then take in a backlog of your own: {own}"))


def _as_called() -> str:
    """How it can be called from here: in a checkout nothing has put it on the path."""
    if shutil.which("runoff"):
        return "runoff"
    called, here = Path(sys.argv[0]), Path.cwd()
    if called.name != "runoff":
        return f"{shlex.quote(sys.executable)} -m engine"
    return shlex.quote(str(called.relative_to(here) if called.is_relative_to(here) else called))
