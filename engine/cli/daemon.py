"""``runoff daemon``: drain continuously, and tell a daemon what to do."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
import click
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream

from engine.amounts import counted, lasting
from engine.cli.coefficients_file import coefficients_for, coefficients_in_file
from engine.cli.context import (
    allow_empty_option,
    database_option,
    ids,
    json_option,
    refuse_empty,
    run_async,
    writing,
)
from engine.cli.daemon_plan import loader, settings_options
from engine.cli.drain_scope import Request
from engine.cli.executing import executing_options, executor_of, tidying_of
from engine.cli.groups import DefaultGroup
from engine.cli.last_room import last_words_of, reserved
from engine.cli.live import words
from engine.cli.operating import said, why_options
from engine.cli.render import clean, clean_lines, print_json, when
from engine.cli.stop_signals import heeded
from engine.cli.streams import lines_lost
from engine.clock import SystemClock
from engine.collector import collecting_rarely
from engine.daemon.answers import Status
from engine.daemon.client import Client, NobodyListens
from engine.daemon.control import Control
from engine.daemon.http import Address, Http, address_from, tcp_listener
from engine.daemon.messages import AskStatus, Pause, Reload, Requested, Resume, Stop, status_in
from engine.daemon.notify import Notifier
from engine.daemon.pages import pages_of
from engine.daemon.service import Service
from engine.daemon.settings import Plan
from engine.daemon.sockets import control_path, control_paths, is_stale, pid_of
from engine.daemon.telling import Reading, Teller
from engine.daemon.wire import listening
from engine.drain.drift_watch import DriftWatch
from engine.drain.last_words import Unrecorded
from engine.errors import UsageProblem
from engine.executors.port import Executor
from engine.logs import logger_of
from engine.store.blobs import Blobs
from engine.store.identity import identify
from engine.store.location import Location, locate
from engine.store.recorder import Recorder

F = TypeVar("F", bound=Callable[..., Any])


@click.group(cls=DefaultGroup)
def daemon() -> None:
    """Drain continuously; ``daemon`` alone runs it, the other verbs talk to one that runs."""


@daemon.command("run", context_settings={"show_default": True})
@database_option
@settings_options
@executing_options
@click.option("--http", metavar="HOST:PORT", help="Health and metrics, on loopback. [default: off]")
@click.option("--log-format", type=click.Choice(["auto", "words", "json"]), default="auto")
@allow_empty_option
@click.argument("argv", nargs=-1, type=click.UNPROCESSED, metavar="[-- PROGRAM [ARG]...]")
@click.pass_context
def run(ctx: click.Context, /, argv: tuple[str, ...], **options: Any) -> None:
    """Drain what there is and whatever comes, until told to stop.

    Everything after -- is the program that executes a phase, as for `runoff drain`. SIGHUP reads
    policy and settings again; SIGTERM or SIGINT stops within --stop-seconds, a second one at once.

    \b
    Examples:
      runoff daemon --database sqlite:///backlog.db -- ./agent {phase_file}
      runoff daemon --settings daemon.toml --http 127.0.0.1:9464 -- ./agent
      runoff daemon --window 20:00-06:00 --timezone Europe/Berlin -- ./agent
    """  # noqa: D301
    if options["coefficients"] is not None:
        coefficients_in_file(options["coefficients"])
    request = Request.of(ctx, options, argv)
    address = address_from(options["http"]) if options["http"] else None
    life = _Life(request, loader(options, request.given), executor_of(request), address)
    run_async(life.run)
    ctx.exit(128 + life.signal if life.signal is not None else 0)


class _Life:
    """One process of a daemon: opens what it needs, and closes it in the end."""

    def __init__(
        self,
        request: Request,
        load: Callable[[], Plan],
        executor_of: Callable[[Location], Executor],
        address: Address | None,
    ) -> None:
        self._options = request.options
        self._load = load
        self._plan = load()
        self._executor_of = executor_of
        self._address = address
        self._notifier = Notifier(os.environ)
        self.signal: int | None = None
        self._service_run: Service | None = None
        self._watch: DriftWatch | None = None

    async def run(self) -> None:
        """Hold the log and serve until told to stop; on a full disk, the last words."""
        async with last_words_of(self._options["database"], "daemon", self._unrecorded):
            await self._run()

    def _unrecorded(self) -> Sequence[Unrecorded]:
        return self._service_run.unrecorded if self._service_run is not None else ()

    async def _run(self) -> None:
        logger = logger_of(self._options["log_format"])
        pace = Reading(logger, self._notifier.getting_ready)
        opened = writing(self._options["database"], "daemon", pace=pace)
        async with opened as (place, recorder):
            teller = Teller(logger, words, lambda: recorder.head.pos, lines_lost)
            identity = identify(place, recorder.board)
            held = f"{counted(identity.runs, 'run')}, {counted(identity.phases, 'phase')}"
            text = f"{held} in {identity.file}"
            teller.say("daemon.database", text, **msgspec.to_builtins(identity))
            refuse_empty(identity, allow_empty=self._options["allow_empty_db"])
            try:
                service = self._service_run = self._service(place, recorder, teller)
                with collecting_rarely(), reserved(place):
                    await self._serve(service, place, teller)
                teller.say("daemon.stopped", "Stopped.")
            finally:
                self._notifier.close()

    def _service(self, place: Location, recorder: Recorder, teller: Teller) -> Service:
        clock = SystemClock()
        file, every = self._options["coefficients"], self._options["calibrate_every"]
        if every:
            self._watch = DriftWatch(recorder, every, lambda text: teller.say("daemon.drift", text))
        return Service(
            recorder=recorder,
            executor=self._executor_of(place),
            clock=clock,
            ids=ids(clock),
            blobs=Blobs(place.beside("files") / "blobs"),
            load=self._load,
            plan=self._plan,
            teller=teller,
            notifier=self._notifier,
            end_open=self._options["on_restart"] == "end",
            gone=frozenset(self._options["presume_lost"]),
            place=place,
            coefficients=lambda: coefficients_for(file, recorder.store),
            tidying=tidying_of(recorder, place, self._options),
            heed=self._watch.heed if self._watch is not None else None,
        )

    async def _serve(self, service: Service, place: Location, teller: Teller) -> None:
        await service.open()
        for left in filter(is_stale, control_paths(place)):
            left.unlink(missing_ok=True)
        control = Control(service)
        with listening(control_path(place)) as door:
            async with anyio.create_task_group() as group:
                await group.start(self._heed, service)
                group.start_soon(control.serve, door)
                if self._address is not None:
                    listener = tcp_listener(self._address)
                    port = listener.getsockname()[1]
                    teller.say("daemon.http", f"{self._address.host}:{port}", port=port)
                    group.start_soon(Http(pages_of(service), port).serve, listener)
                if self._watch is not None:
                    group.start_soon(self._watch.run)
                try:
                    await service.run()
                    if self._watch is not None:
                        await self._watch.look_at_last()
                finally:
                    await control.finish()
                group.cancel_scope.cancel()
        self.signal = service.stopping.signal

    async def _heed(self, service: Service, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Signals: SIGHUP reads again; the first to stop stops, the second ends attempts now."""
        numbers = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
        # One that waits sees to all that come meanwhile.
        hangup, hangups = anyio.create_memory_object_stream[None](1)
        with heeded(*numbers) as signals:
            async with anyio.create_task_group() as group, hangup:
                group.start_soon(_reload_at, hangups, service)
                task_status.started()
                async for number in signals:
                    if number == signal.SIGHUP:
                        with suppress(anyio.WouldBlock):
                            hangup.send_nowait(None)
                    elif service.stopping.asked.is_set():
                        service.stopping.signal = number
                        service.abandon()
                    else:
                        service.stop()


async def _reload_at(hangups: MemoryObjectReceiveStream[None], service: Service) -> None:
    """Read again at each, one after the other; a stop shall not wait for what they wait for."""
    async with hangups:
        async for _ in hangups:
            await service.reload_or_complain()


def _asking(function: F) -> F:
    which = click.option(
        "--pid", type=click.IntRange(1), help="Which daemon, where several share a log."
    )
    return database_option(which(json_option(function)))


_why_options = partial(why_options, default="asked for")


@daemon.command()
@_asking
def status(**options: Any) -> None:
    """How the daemon of this database stands.  Exit 1 when there is none."""
    _ask(AskStatus(), options)


@daemon.command()
@_why_options
@_asking
def pause(by: str, why: str, **options: Any) -> None:
    """Start no attempt until resumed; running ones go on.

    It outlives a restart, unless several share the log.
    """
    _ask(Pause(by=said(by, "--by"), why=said(why, "--why")), options)


@daemon.command()
@_why_options
@_asking
def resume(by: str, why: str, **options: Any) -> None:
    """Go on after a pause, or after a streak of attempts without usage."""
    _ask(Resume(by=said(by, "--by"), why=said(why, "--why")), options)


@daemon.command()
@click.option("--now", is_flag=True, help="End running attempts at once.")
@_asking
def stop(*, now: bool, **options: Any) -> None:
    """End the daemon, as SIGTERM does."""
    _ask(Stop(now=now), options)


@daemon.command()
@_asking
def reload(**options: Any) -> None:
    """Read policy and settings again, as SIGHUP does.  What is wrong with them is said here."""
    _ask(Reload(), options)


def _client(location: Location, pid: int | None) -> Client:
    """A connection to the daemon that is meant; on a shared log there may be several here."""
    if location.address is None:
        if pid is not None:
            raise UsageProblem(
                "a log in a file has one daemon.", remedy="leave --pid out; it is for shared logs."
            )
        return Client(control_path(location))
    if pid is not None:
        return Client(control_path(location, pid))
    found = [path for path in control_paths(location) if not is_stale(path)]
    if len(found) > 1:
        pids = ", ".join(str(pid_of(path)) for path in found)
        raise UsageProblem(
            f"{len(found)} daemons of this log run here.",
            remedy=f"name one of them with --pid: {pids}.",
        )
    if not found:
        raise NobodyListens(
            "no daemon of this log runs here.",
            remedy="start one with `runoff daemon`, or ask on the machine where it runs.",
        )
    return Client(found[0])


def _ask(request: Requested, options: dict[str, Any]) -> None:
    client = _client(locate(options["database"]), options["pid"])
    try:
        found = status_in(client.ask(request))
    finally:
        client.close()
    print_json(found) if options["as_json"] else click.echo(clean_lines(status_words(found)))


def status_words(found: Status) -> str:
    """The status for a person."""
    until = f" (until {when(found.until_us)})" if found.until_us is not None else ""
    phases = ", ".join(f"{count} {state}" for state, count in sorted(found.phases.items()))
    today = found.today
    spent = f"{counted(today.attempts, 'attempt')}, {counted(today.tokens, 'token')}"
    most = found.settings.workers
    return "\n".join(
        (
            f"state     {found.state}{until}: {clean(found.sentence)}",
            f"process   {found.pid}, version {found.version}, since {when(found.started_us)}",
            f"log       position {found.position}, epoch {found.epoch}",
            f"session   {found.session_id or 'none'}; policy {clean(found.policy)}",
            f"attempts  {found.open_attempts} running; this daemon runs {most} at most",
            f"backlog   {counted(found.runs, 'run')}; phases: {phases or 'none'}",
            f"today     {spent}, {lasting(today.busy_ms)}",
        )
    )
