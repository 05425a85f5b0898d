"""``runoff drain``: execute the backlog."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import click

from engine.amounts import counted
from engine.cli.coefficients_file import coefficients_for, coefficients_in_file
from engine.cli.context import (
    FiniteRange,
    allow_empty_option,
    database_option,
    ids,
    json_option,
    reading,
    refuse_empty,
    run_async,
    show_identity,
    writing,
)
from engine.cli.drain_scope import (
    BUDGET_HELP,
    HOST_WORKERS_HELP,
    LABEL_HELP,
    Request,
    refuse_unknown,
    scope_of,
)
from engine.cli.executing import executing_options, executor_of, tidying_of
from engine.cli.last_room import last_words_of, reserved
from engine.cli.live import NOTHING_TO_ATTEMPT, Live, summary_words
from engine.cli.policies import policy_of
from engine.cli.render import as_json as to_json, asked, print_json, table
from engine.cli.stop_signals import end_at_second, heeded
from engine.cli.streams import let_go_of_stdout
from engine.clock import Clock, SystemClock
from engine.collector import collecting_rarely
from engine.drain.drift_watch import DriftWatch
from engine.drain.dry import planned
from engine.drain.joining import joined, notice_the_dead
from engine.drain.last_words import Unrecorded
from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts, swept
from engine.drain.summary import Summary, summarise
from engine.drain.tidying import Tidying
from engine.drain.virtual import VirtualClock
from engine.errors import LimitReached, UsageProblem, not_written
from engine.events import Record, SessionEnd
from engine.executors.port import Executor
from engine.ids import checked_id
from engine.labels import checked_labels
from engine.store.blobs import Blobs
from engine.store.location import Location, locate
from engine.store.moments import log_time_us
from engine.store.recorder import Recorder
from engine.triage.policy import POLICIES
from engine.triage.scope import Scope

ENDED_WITH_WORK: frozenset[SessionEnd] = frozenset(
    {
        "batch_size",
        "total_time",
        "zero_yield_streak",
        "held_back",
        "run_budgets",
        "session_budget",
        "day_budget",
    }
)

_STOPS = (signal.SIGINT, signal.SIGTERM)


@click.command(context_settings={"show_default": True})
@database_option
@click.option("--workers", type=click.IntRange(1, 1024), default=4, help="Attempts at once.")
@click.option("--host-workers", type=click.IntRange(1, 65536), metavar="N", help=HOST_WORKERS_HELP)
@click.option("--max-per-run", type=click.IntRange(1, 1024), default=2, help="Of one run at once.")
@click.option("--batch-size", type=click.IntRange(1), default=10, help="Attempts in this session.")
@click.option(
    "--phase-timeout-seconds", type=FiniteRange(0.05, 604800), default=900, help="Of an attempt."
)
@click.option("--grace-seconds", type=FiniteRange(0, 600), default=5, help="TERM to KILL.")
@click.option("--max-total-tokens", type=click.IntRange(1), metavar="N", help="Of the session.")
@click.option("--max-run-tokens", type=click.IntRange(1), metavar="N", help="Of each run.")
@click.option("--max-day-tokens", type=click.IntRange(1), metavar="N", help="Of a day in UTC.")
@click.option("--budget", "budget", multiple=True, metavar="SCOPE:MEASURE=N", help=BUDGET_HELP)
@click.option("--account", metavar="NAME", help="Whose provider limits pause. [the executor's]")
@click.option("--max-total-minutes", type=FiniteRange(0), help="Of the session; 0 = none.")
@click.option("--max-timeouts-per-run", type=click.IntRange(0), help="0 = no limit. [policy: 2]")
@click.option("--max-attempts-per-phase", type=click.IntRange(0), help="0 = no limit. [policy: 2]")
@click.option("--max-fingerprint-repeats", type=click.IntRange(0), help="0 = no limit. [policy: 3]")
@click.option("--max-consecutive-zero-yield", type=click.IntRange(0), help="0 = none.")
@click.option("--skip-run-prefix", multiple=True, metavar="PREFIX", help="Repeatable.")
@click.option("--label", multiple=True, metavar="NAME", help=LABEL_HELP)
@click.option("--run-id", metavar="ID", help="Only this run.")
@click.option("--phase-id", metavar="ID", help="With --run-id: only this phase, whatever its run.")
@click.option(
    "--policy",
    "policy_name",
    metavar="NAME|FILE",
    default="default",
    help=f"{', '.join(POLICIES)}, or a FILE.toml.",
)
@click.option("--ignore-order", is_flag=True, help="Let phases of a tier go in any order.")
@executing_options
@click.option("--virtual-time", is_flag=True, help="Scripted sleeps and deadlines cost nothing.")
@click.option("--lease-seconds", type=FiniteRange(1, 3600), default=15, help="In a shared log.")
@click.option("--resume", is_flag=True, help="Go on with the newest session that has work left.")
@click.option("--dry-run", is_flag=True, help="Print the plan with reasons; write nothing.")
@click.option("--log-format", type=click.Choice(["words", "json"]), default="words")
@click.option("--ack-lines", is_flag=True, help="Print ACK lines after each commit, and READY.")
@allow_empty_option
@json_option
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM [ARG]...]")
@click.pass_context
def drain(ctx: click.Context, /, argv: tuple[str, ...], **options: Any) -> None:
    """Execute the backlog with many workers, each attempt under a deadline.

    Everything after -- is the program that executes a phase; {run_id}, {phase_id}, {workspace},
    {phase_file} and others are filled in (docs/reference/child-protocol.md). It runs in a
    workspace of the run; files that are named here are found from here.

    \b
    Examples:
      runoff drain --database sqlite:///b.db --workers 8 -- ./agent {phase_file}
      runoff drain --run-id R --phase-id P -- ./agent
      runoff drain --executor scripted --script outcomes.json --virtual-time
      runoff drain --dry-run
    """  # noqa: D301
    request = Request.of(ctx, options, argv)
    _check(request)
    if options["dry_run"]:
        run_async(lambda: _plan(request))
        return
    work = _Session(request, executor_of(request))
    summary = run_async(work.run, virtual=options["virtual_time"])
    ctx.exit(_conclude(summary, request, work.signal))


def _check(request: Request) -> None:
    options = request.options
    for name in ("run_id", "phase_id"):
        if options[name] is not None:
            checked_id(options[name], f"--{name.replace('_', '-')}")
    if options["phase_id"] and not options["run_id"]:
        raise UsageProblem(
            "--phase-id alone names no phase.", remedy="give --run-id too; ids are unique by both."
        )
    if options["virtual_time"] and not options["script"]:
        raise UsageProblem("--virtual-time needs a script.", remedy="give --script FILE.")
    if options["virtual_time"] and locate(options["database"]).address is not None:
        raise UsageProblem(
            "--virtual-time is for a log in a file; engines that share one go by real time.",
            remedy="leave it out, or drain a copy (`runoff log copy`).",
        )
    for prefix in options["skip_run_prefix"]:
        if not asked(prefix, "--skip-run-prefix"):
            raise UsageProblem(
                "--skip-run-prefix is empty, and so every run would be skipped.",
                remedy="give the beginning of the runs to skip, or leave it out.",
            )
    asked(options["account"] or "", "--account")
    policy_of(options["policy_name"])
    checked_labels(options["label"], "--label")
    if options["coefficients"] is not None:
        coefficients_in_file(options["coefficients"])


class _Session:
    """One drain from the command line."""

    def __init__(self, request: Request, executor_of: Callable[[Location], Executor]) -> None:
        self._request = request
        self._executor_of = executor_of
        self._options = request.options
        self.signal: int | None = None
        self._drain: Drain | None = None

    async def run(self) -> Summary:
        """Open, recover, drain, sum up; on a full disk, the last words."""
        async with last_words_of(self._options["database"], "drain", self._unrecorded):
            return await self._session()

    def _unrecorded(self) -> Sequence[Unrecorded]:
        return self._drain.unrecorded if self._drain is not None else ()

    async def _session(self) -> Summary:
        virtual = self._options["virtual_time"]
        clock = VirtualClock() if virtual else SystemClock()
        async with writing(self._options["database"], "drain", clock=clock) as (place, recorder):
            identity = show_identity(place, recorder.board)
            if self._options["phase_id"] is None:
                refuse_empty(identity, allow_empty=self._options["allow_empty_db"])
            await notice_the_dead(place, recorder, clock, ids(clock))
            scope = scope_of(self._request, recorder.board, ids(clock)("ses"))
            refuse_unknown(scope, recorder.board)
            options = self._options
            as_json = options["log_format"] == "json"
            live = Live(recorder, scope, ack_lines=options["ack_lines"], as_json=as_json)
            with collecting_rarely(), reserved(place), live:
                return await self._drained(place, recorder, scope, clock, live, virtual=virtual)

    async def _drained(
        self,
        place: Location,
        recorder: Recorder,
        scope: Scope,
        clock: Clock,
        live: Live,
        *,
        virtual: bool,
    ) -> Summary:
        every = self._options["calibrate_every"]
        watch = DriftWatch(recorder, every, live.say) if every else None

        def tell(records: tuple[Record, ...]) -> None:
            live.tell(records)
            if watch is not None:
                watch.heed(records)

        drain = self._drain = Drain(
            recorder=recorder,
            executor=self._executor_of(place),
            scope=scope,
            clock=clock,
            ids=ids(clock),
            blobs=Blobs(place.beside("files") / "blobs"),
            tell=tell,
            in_threads=not virtual,
            coefficients=await coefficients_for(self._options["coefficients"], recorder.store),
        )
        for left in await swept(recorder, place.beside("files")):
            live.say(f"ended    process {left.pid}, left over from an attempt that is closed")
        end, lease_s = self._options["on_restart"] == "end", self._options["lease_seconds"]
        async with _signals(drain, live) as say_ended:
            async with joined(place, drain, end=end, lease_s=lease_s) as among:
                gone = frozenset(self._options["presume_lost"])
                adopt = await open_attempts(
                    recorder,
                    clock,
                    end=end,
                    among=among,
                    gone=gone,
                    files_root=place.beside("files"),
                    tell=tell,
                )
                tidying = None if virtual else tidying_of(recorder, place, self._options)
                await _beside(
                    watch,
                    tidying,
                    drain.run(resume=self._options["resume"], adopt=adopt, ready=live.ready),
                )
            say_ended()
            summary = await summarise(recorder.store, recorder.board, scope)
        recorder.leaving.begin()
        self.signal = drain.stopping.signal
        return summary


async def _beside(
    watch: DriftWatch | None, tidying: Tidying | None, drained: Awaitable[SessionEnd]
) -> None:
    """Drain, and watch for drift and remove what is old beside it."""
    async with anyio.create_task_group() as group:
        for task in (watch, tidying):
            if task is not None:
                group.start_soon(task.run)
        await drained
        if watch is not None:
            await watch.look_at_last()
        group.cancel_scope.cancel()


@asynccontextmanager
async def _signals(drain: Drain, live: Live) -> AsyncGenerator[Callable[[], None], None]:
    """SIGINT or SIGTERM once: finish what runs, and then wait for no server.  Twice: abandon it.

    What is given out is to be called when nothing runs any more: then the second one is the end.
    """
    stopping, over = drain.stopping, anyio.Event()

    def say_ended() -> None:
        over.set()
        end_at_second(*_STOPS)

    async def heed() -> None:
        with heeded(*_STOPS) as signals:
            opened.set()
            async for number in signals:
                if over.is_set():
                    stopping.asked.set()
                elif stopping.asked.is_set():
                    live.say("Abandoning running attempts.")
                    stopping.signal = number
                    stopping.abandon.set()
                else:
                    live.say("Finishing running attempts; once more abandons them.")
                    stopping.asked.set()

    opened = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(heed)
        group.start_soon(drain.leave)
        await opened.wait()
        try:
            yield say_ended
        finally:
            group.cancel_scope.cancel()


async def _plan(request: Request) -> None:
    options = request.options
    async with reading(
        options["database"],
        allow_empty=options["allow_empty_db"],
        guarded=options["phase_id"] is None,
    ) as (_, store, board):
        scope = scope_of(request, board, "ses_dry_run")
        refuse_unknown(scope, board)
        executor = options["executor"] or ("scripted" if options["script"] else "command")
        now_us = await log_time_us(store, board.head.pos, SystemClock().now_us())
        steps = list(planned(board, scope, executor, now_us))
    if options["as_json"]:
        print_json(steps)
        return
    rows = [(at, step.run_id, step.phase_id, step.sentence) for at, step in enumerate(steps, 1)]
    table("What would be attempted", ("", "run", "phase", "why"), rows)
    click.echo(
        f"{counted(len(steps), 'attempt')} would be made if each succeeded; nothing was written."
    )
    if not steps:
        click.echo(NOTHING_TO_ATTEMPT)


def _conclude(summary: Summary, request: Request, second_signal: int | None) -> int:
    as_json = request.options["as_json"]
    _print(to_json(summary) if as_json else summary_words(summary))
    if second_signal is not None:
        return 128 + second_signal
    if request.options["phase_id"] is not None:
        return 0 if summary.succeeded else 1
    stopped_short = summary.because in ENDED_WITH_WORK and summary.work_left
    return LimitReached.exit_code if stopped_short else 0


def _print(summary: str) -> None:
    """Whoever went away did not want it; where it finds no room, the exit code must say so."""
    try:
        click.echo(summary)
    except OSError as error:
        let_go_of_stdout()
        if not isinstance(error, BrokenPipeError):
            raise not_written("the summary to standard output", error) from error
