"""What a drain shows while it runs: a line per event that matters, and a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from errno import ETIMEDOUT
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import click

from engine.amounts import counted, lasting
from engine.cli.render import cells_of, clean, padded
from engine.cli.streams import let_go_of_stdout, lines_lost, takes_stdout
from engine.drain.summary import Summary
from engine.events import (
    AccountPaused,
    AccountRecovered,
    AnyEvent,
    AttemptAdopted,
    AttemptDeferred,
    AttemptFinished,
    AttemptStarted,
    BoundaryDetected,
    BreakerClosed,
    BreakerOpened,
    BreakerProbed,
    BudgetReached,
    Event,
    Record,
    RunCooledDown,
    RunJudged,
    RunStopped,
    SessionDraining,
    ZeroYieldExplained,
    event_of,
)
from engine.losses import Losses
from engine.store.recorder import Recorder
from engine.triage.end_words import HIGHER, LARGER
from engine.triage.scope import Scope

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ERROR_CHARS = 120
ACK_PATIENCE_S = 5.0
"""How long the reader of ACK lines may read nothing at a full pipe, which the drain waits for."""
_Decided = (
    RunStopped
    | RunCooledDown
    | BreakerOpened
    | BreakerProbed
    | BreakerClosed
    | AttemptDeferred
    | AccountPaused
    | AccountRecovered
    | BudgetReached
    | SessionDraining
)
_LABELS: Mapping[type[Event], str] = {
    RunStopped: "stop",
    RunCooledDown: "cooled",
    BreakerOpened: "breaker",
    BreakerProbed: "breaker",
    BreakerClosed: "breaker",
    AttemptDeferred: "deferred",
    AccountPaused: "pause",
    AccountRecovered: "account",
    BudgetReached: "budget",
    SessionDraining: "stop",
}

NOTHING_TO_ATTEMPT = (
    "  nothing is left to attempt by this policy and these options: see `runoff why`."
)
"""What holds where all is done as well as where all that is left is held back."""


class Live:
    """Lines to stderr as things are committed; ACK and READY lines to stdout when asked for."""

    def __init__(
        self, recorder: Recorder, scope: Scope, *, ack_lines: bool, as_json: bool = False
    ) -> None:
        self._logger = _json_logger() if as_json else None
        self._recorder = recorder
        self._scope = scope
        self._ack_lines = ack_lines
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._stack = ExitStack()
        self._losses = Losses(lines_lost)

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and self._logger is None:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import Progress  # noqa: PLC0415

            progress = Progress(console=Console(stderr=True), transient=True)
            self._progress = self._stack.enter_context(progress)
            self._task = progress.add_task("draining", total=self._scope.limits.batch_size)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def ready(self) -> None:
        """Recovery is over."""
        if self._ack_lines:
            self._acknowledge(f"READY {self._scope.session_id}")

    def say(self, line: str) -> None:
        """One line to the person watching."""
        self._losses.around(lambda: self._line(line), self._own_up)

    def _line(self, line: str) -> None:
        if self._logger is not None:
            self._logger.info("notice", text=line)
        elif self._progress is not None:
            self._progress.console.print(line, markup=False, highlight=False)
        else:
            click.echo(line, err=True)

    def _own_up(self, lines: int) -> None:
        self._line(f"{counted(lines, 'line')} before this one could not be written.")

    def _acknowledge(self, line: str) -> None:
        """To whoever waits for it; when nobody takes it any more, the work goes on without."""
        if not self._ack_lines:
            return
        try:
            if not takes_stdout(ACK_PATIENCE_S):
                raise TimeoutError(ETIMEDOUT, "nobody reads them")
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError as error:
            self._ack_lines = False
            let_go_of_stdout()
            self.say(f"ACK lines end here: {error.strerror}; the drain goes on.")

    def tell(self, records: tuple[Record, ...]) -> None:
        """Show what was just committed."""
        if self._ack_lines:
            for command_id in dict.fromkeys(record.command_id for record in records):
                self._acknowledge(f"ACK {command_id}")
        for record in records:
            line = words(event_of(record))
            if line is not None:
                self._show(record, line)
        self._advance()

    def _show(self, record: Record, line: str) -> None:
        if self._logger is None:
            self.say(line)
            return
        tags = {name: getattr(record, name) for name in ("session", "run", "phase", "attempt")}
        log = partial(self._logger.info, record.type, pos=record.pos, text=line, **tags)
        self._losses.around(log, self._own_up)

    def _advance(self) -> None:
        session = self._recorder.board.sessions.get(self._scope.session_id)
        if self._progress is None or self._task is None or session is None:
            return
        text = (
            f"{session.succeeded} ok, {session.failed} failed, {session.timed_out} timed out,"
            f" {session.open} running"
        )
        done = session.attempts - session.open
        self._progress.update(self._task, completed=done, description=text)


def _json_logger() -> Any:
    from engine.logs import json_logger  # noqa: PLC0415  a tenth of a second that words need not pay

    return json_logger()


def words(event: AnyEvent) -> str | None:
    """One line for a person, None for events that are not shown live."""
    if isinstance(event, _Decided):
        return _decided(event)
    match event:
        case AttemptStarted():
            name = _name(event.run_id, event.phase_id)
            return _labelled("start", f"{name} #{event.number} ({event.group}, {event.category})")
        case AttemptAdopted():
            return _labelled("adopted", _name(event.run_id, event.phase_id))
        case AttemptFinished():
            return _finished(event)
        case ZeroYieldExplained():
            detail = f", {clean(event.detail)}" if event.detail else ""
            name = _name(event.run_id, event.phase_id)
            return _labelled("", f"{name}: 0 events (reason: {event.reason}{detail})")
        case BoundaryDetected(disposition="stopped_by"):
            name = _name(event.run_id, event.phase_id)
            return _labelled("LIMIT", f"{name} stopped by {event.kind} ({clean(event.pattern)})")
        case RunJudged():
            return _labelled("verdict", f"{clean(event.run_id)}: {event.verdict} ({event.because})")
        case _:
            return None


def _decided(event: _Decided) -> str:
    ids = (getattr(event, name, None) for name in ("run_id", "phase_id"))
    about = "/".join(clean(each) for each in ids if each)
    about = f"{about}: " if about else ""
    return _labelled(_LABELS[type(event)], f"{about}{clean(event.reason.sentence)}")


def _labelled(label: str, text: str) -> str:
    """``abandoned``, the longest label, has nine letters."""
    return f"{label:<9} {text}"


def _name(run_id: str, phase_id: str) -> str:
    return f"{clean(run_id)}/{clean(phase_id)}"


def _finished(event: AttemptFinished) -> str:
    error = f": {clean(event.error)[:ERROR_CHARS]}" if event.error else ""
    usage = ""
    if event.yield_events:
        usage = f", {counted(event.yield_events, 'event')}, {counted(event.tokens, 'token')}"
    name = _name(event.run_id, event.phase_id)
    lasted = f"after {event.duration_ms / 1000:.1f} s"
    return _labelled(event.ending, f"{name} {lasted}{usage}{error}")


def summary_words(summary: Summary) -> str:
    """The summary for a person."""
    lasted = lasting(summary.active_ms)
    endings = (
        f"{summary.succeeded} succeeded, {summary.failed} failed, {summary.timed_out} timed out,"
        f" {summary.abandoned} abandoned, {summary.orphaned} orphaned, {summary.deferred} deferred"
    )
    lines = [
        f"Session {summary.session_id} ended: {summary.because} after {lasted}.",
        f"  attempts {summary.attempts}: {endings}",
        f"  usage events {summary.yield_events}, tokens {summary.tokens}",
        f"  limits hit {summary.boundary_hits}{_counts(summary.boundaries)}",
        f"  zero yield {sum(summary.zero_yield.values())}{_counts(summary.zero_yield)}",
    ]
    if summary.runs:
        width = max(3, *(cells_of(clean(run.run_id)) for run in summary.runs))
        lines.append(f"  {'run':<{width}}  standing       attempts  timeouts  usage  stopped")
        lines += [
            f"  {padded(clean(run.run_id), width)}  {run.standing:<13}  {run.attempts:>8}"
            f"  {run.timeouts:>8}  {run.yield_events:>5}  {run.stopped or ''}".rstrip()
            for run in summary.runs
        ]
    # A session that is resumed and ends at the same limit again says it in each of its parts.
    stops = list(dict.fromkeys(summary.stops))
    lines += [f"  stop: {clean(text)}" for text in stops[:20]]
    if summary.work_left:
        left = counted(summary.work_left, "phase is", "phases are")
        lines.append(f"  {left} {_of_what_is_left(summary.because)}")
    elif not summary.attempts and summary.because == "nothing_eligible":
        lines.append(NOTHING_TO_ATTEMPT)
    return "\n".join(lines)


def _of_what_is_left(because: str) -> str:
    """How to go on behind a session that ended so, after the count of what it left."""
    if because == "held_back":
        return (
            "left; an open circuit breaker holds back runs that"
            " were never sampled. `runoff why` says by what, `runoff breaker reset` lets them go."
        )
    if because == "nothing_eligible":
        return "held back; `runoff why RUN` says why."
    anew = "`runoff drain` begins a session with new counts."
    if because in LARGER:
        larger = LARGER[because]
        resumed = f"`runoff drain --resume {larger} N` with a larger N than it had"
        return f"left; {resumed} goes on, {anew}"
    resumed = "`runoff drain --resume`"
    if because in HIGHER:
        spent = "`runoff budget` says what was spent"
        higher = f"left; {spent}, {resumed} {HIGHER[because]} goes on"
        return f"{higher}, {anew}" if because == "session_budget" else f"{higher}."
    return f"left; {resumed} goes on."


def _counts(counts: dict[str, int]) -> str:
    if not counts:
        return ""
    return ": " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
