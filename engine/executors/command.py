"""The command executor: any program, under a guardian, by the child protocol."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from socket import gethostname
from typing import Literal

import anyio
import msgspec
from anyio import to_thread

from engine.errors import RunoffError, UsageProblem, not_written, nothing_left
from engine.executors import outcome
from engine.executors.guardian_process import GuardianProcess, Guardians, NotStarted
from engine.executors.outcome import OUTPUT_BYTES_KEPT, Spec, lost_report, read_report
from engine.executors.port import KILL_BUDGET_S, Assignment, Report, Spawned, Watch
from engine.executors.processes import boot_id, end_marked_processes

PLACEHOLDERS = (
    "run_id",
    "phase_id",
    "tier_id",
    "attempt_id",
    "workspace",
    "phase_file",
    "events_file",
    "result_file",
)
PASSED_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "USER", "SHELL", "TERM")
READ_AT_ONCE_BYTES = 4096
"""Some thirty lines of usage, which are read in a few tenths of a millisecond."""

OUTER_MARGIN_S = 5.0
"""How much longer than all its own limits a guardian may take before we end it ourselves."""

_PLACEHOLDER = re.compile(r"\{(" + "|".join(PLACEHOLDERS) + r")\}")


def attempt_directory(files_root: Path, attempt_id: str) -> Path:
    """Where an attempt keeps its files; a digest, because an id may hold any character."""
    return files_root.absolute() / "attempts" / _digest(attempt_id)


def workspace_directory(files_root: Path, run_id: str) -> Path:
    """Where the attempts of a run work unless told otherwise."""
    return files_root.absolute() / "workspaces" / _digest(run_id)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:24]


class CommandExecutor:
    """Runs a program for every attempt.

    ``argv``: the program and its arguments, each with placeholders such as ``{phase_file}``; no
    shell is involved.  ``files_root``: for the engine's files and, without ``workspace``, one
    working directory per run.  ``pass_env``: names of further environment variables that the
    program gets.  ``head_bytes`` and ``tail_bytes``: how much of each output stream is kept.
    ``on_engine_death``: whether an attempt lives on for the next engine or ends with this one.
    ``require_deliverables``: report the deliverables of a phase that are not there afterwards.

    Raises UsageProblem for an empty ``argv``.
    """

    def __init__(
        self,
        argv: tuple[str, ...],
        *,
        files_root: Path,
        workspace: Path | None = None,
        pass_env: tuple[str, ...] = (),
        head_bytes: int = OUTPUT_BYTES_KEPT,
        tail_bytes: int = OUTPUT_BYTES_KEPT,
        on_engine_death: Literal["adopt", "end"] = "adopt",
        require_deliverables: bool = False,
        name: str = "command",
    ) -> None:
        if not argv or not argv[0] or any("\0" in part for part in argv):
            raise UsageProblem(
                "the command to execute is empty or holds a NUL character.",
                remedy="name a program, and its arguments each by itself.",
            )
        self._argv = argv
        self._files_root = files_root
        self._workspace = workspace
        self._pass_env = pass_env
        self._head_bytes = head_bytes
        self._tail_bytes = tail_bytes
        self._on_engine_death: Literal["adopt", "end"] = on_engine_death
        self._require_deliverables = require_deliverables
        self._name = name
        self._guardians = Guardians()

    @property
    def name(self) -> str:
        """As it stands in the log."""
        return self._name

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Execute the program once and report; see ``Executor.run``.

        Raises RunoffError when the attempt has been started before, StorageFailed when its files
        cannot be written.
        """
        directory = self._lay_out(assignment)
        try:
            guardian = await self._guardians.start(directory, watch.abandon)
        except NotStarted as why:
            return lost_report(
                directory,
                reason=f"its guardian did not start: {why}",
                ended="abandoned" if watch.abandon.is_set() else "lost",
            )
        try:
            demands = self._require_deliverables and bool(assignment.sheet.deliverables)
            return await _attended(guardian, directory, assignment, watch, demands=demands)
        except BaseException:
            if self._on_engine_death == "adopt" and watch.leave():
                guardian.leave()
                raise
            with anyio.CancelScope(shield=True):
                await _leave_nothing(guardian, directory, assignment)
            raise

    def _lay_out(self, assignment: Assignment) -> Path:
        """Write what the guardian is told; the attempt's directory.

        Its other files are made by the guardian, beside the engine and not in its way.
        """
        directory = attempt_directory(self._files_root, assignment.attempt_id)
        try:
            directory.mkdir(mode=0o700, parents=True)
            workspace = self._open_workspace(assignment)
            self._spec(assignment, directory, workspace).write(directory)
        except FileExistsError:
            raise RunoffError(
                f"attempt {assignment.attempt_id} has been started before.",
                remedy="start it under a new attempt id.",
            ) from None
        except OSError as error:
            raise not_written(f"the files of an attempt in {self._files_root}", error) from error
        return directory

    def _open_workspace(self, assignment: Assignment) -> Path:
        workspace = self._workspace
        if workspace is None:
            workspace = workspace_directory(self._files_root, assignment.sheet.run_id)
        workspace = workspace.absolute()
        with suppress(FileExistsError):  # a file in its place is reported when it is entered
            workspace.mkdir(mode=0o700, parents=True, exist_ok=True)
        return workspace

    def _spec(self, assignment: Assignment, directory: Path, workspace: Path) -> Spec:
        values = _placeholder_values(assignment, directory, workspace)
        wanted = assignment.sheet.deliverables if self._require_deliverables else ()
        return Spec(
            attempt_id=assignment.attempt_id,
            argv=tuple(filled_in(part, values) for part in self._argv),
            environment=self._passed_environment | _told_environment(assignment, values),
            phase=msgspec.json.encode(assignment.sheet).decode(),
            cwd=str(workspace),
            timeout_s=assignment.timeout_s,
            grace_s=assignment.grace_s,
            kill_budget_s=KILL_BUDGET_S,
            head_max=self._head_bytes,
            tail_max=self._tail_bytes,
            on_engine_death=self._on_engine_death,
            deliverables=wanted,
        )

    @cached_property
    def _passed_environment(self) -> dict[str, str]:
        names = {*PASSED_VARIABLES, *self._pass_env}
        return {
            name: value
            for name, value in os.environ.items()
            if name in names or name.startswith("LC_")
        }


def filled_in(template: str, values: Mapping[str, str]) -> str:
    """``template`` with each ``{name}`` of a known name replaced, once, by its value."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def _placeholder_values(assignment: Assignment, directory: Path, workspace: Path) -> dict[str, str]:
    sheet = assignment.sheet
    return {
        "run_id": sheet.run_id,
        "phase_id": sheet.phase_id,
        "tier_id": sheet.tier_id,
        "attempt_id": assignment.attempt_id,
        "workspace": str(workspace),
        "phase_file": str(directory / outcome.PHASE_FILE),
        "events_file": str(directory / outcome.EVENTS_FILE),
        "result_file": str(directory / outcome.RESULT_FILE),
    }


def _told_environment(assignment: Assignment, values: Mapping[str, str]) -> dict[str, str]:
    told = {f"RUNOFF_{name.upper()}": value for name, value in values.items()}
    told["RUNOFF_DEADLINE"] = str(assignment.deadline_us // 1_000_000)
    if assignment.sheet.budget_tokens is not None:
        told["RUNOFF_BUDGET_TOKENS"] = str(assignment.sheet.budget_tokens)
    return told


def _ending_limit_s(assignment: Assignment) -> float:
    return assignment.grace_s + KILL_BUDGET_S + OUTER_MARGIN_S


async def _attended(
    guardian: GuardianProcess,
    directory: Path,
    assignment: Assignment,
    watch: Watch,
    *,
    demands: bool,
) -> Report:
    await watch.spawned(_spawned(guardian, directory))
    began_s = anyio.current_time()
    if watch.abandon.is_set():
        guardian.end()
    else:
        guardian.go()
    was_due = await _until_gone(guardian, assignment, watch)
    killed = 0
    if not guardian.gone:
        killed = await _end_by_force(guardian, assignment.attempt_id)
    elapsed_s = anyio.current_time() - began_s
    report = await _told(directory, demands=demands)
    if report is not None and report.limit is not None:
        raise nothing_left(report.limit)
    if report is None and guardian.failure is not None:
        raise guardian.failure
    if report is not None and report.ended != "lost":
        return report
    killed += await to_thread.run_sync(end_marked_processes, assignment.attempt_id)
    lost = partial(
        lost_report,
        directory,
        reason=report.reason if report else "its guardian vanished without an outcome",
        ended=_ending_without_outcome(watch, was_due=was_due),
        duration_ms=int(elapsed_s * 1000),
        killed=killed,
    )
    return await to_thread.run_sync(lost)


async def _told(directory: Path, *, demands: bool) -> Report | None:
    """What the files of an attempt tell.  Of most it is so little that a thread takes longer.

    ``demands``: whether the work that it left is to be looked at as well.
    """
    if outcome.said_bytes(directory) <= READ_AT_ONCE_BYTES and not demands:
        return read_report(directory)
    return await to_thread.run_sync(read_report, directory)


def _spawned(guardian: GuardianProcess, directory: Path) -> Spawned:
    return Spawned(
        host=gethostname(),
        boot_id=boot_id(),
        pid=guardian.pid,
        start_ticks=guardian.start_ticks,
        directory=str(directory),
    )


async def _until_gone(guardian: GuardianProcess, assignment: Assignment, watch: Watch) -> bool:
    """Until the guardian has ended, or has overstepped all its limits.

    Whether the deadline came while it was there: where an engine that stood still finds the time
    past it, a guardian that is dead by then may have died long before.
    """
    was_due = False

    async def note_deadline() -> None:
        nonlocal was_due
        await anyio.sleep(assignment.timeout_s)
        was_due = not guardian.has_hung_up

    limit_s = assignment.timeout_s + _ending_limit_s(assignment)
    with anyio.move_on_after(limit_s) as limit:
        async with anyio.create_task_group() as group:
            group.start_soon(_end_when_told, guardian, assignment, watch, limit)
            group.start_soon(note_deadline)
            await guardian.wait()
            group.cancel_scope.cancel()
    return was_due


async def _end_when_told(
    guardian: GuardianProcess, assignment: Assignment, watch: Watch, limit: anyio.CancelScope
) -> None:
    await watch.abandon.wait()
    guardian.end()
    limit.deadline = min(limit.deadline, anyio.current_time() + _ending_limit_s(assignment))


async def _end_by_force(guardian: GuardianProcess, attempt_id: str) -> int:
    """Kill a guardian that does not answer, and all that it guarded; how many that were."""
    killed = 0
    with anyio.CancelScope(shield=True):
        guardian.kill()
        await guardian.wait_at_most(KILL_BUDGET_S)
        killed = await to_thread.run_sync(end_marked_processes, attempt_id)
        guardian.leave()
    return killed


async def _leave_nothing(
    guardian: GuardianProcess, directory: Path, assignment: Assignment
) -> None:
    guardian.end()
    ended = await guardian.wait_at_most(_ending_limit_s(assignment))
    if not ended or not (directory / outcome.OUTCOME_FILE).is_file():
        await _end_by_force(guardian, assignment.attempt_id)


def _ending_without_outcome(
    watch: Watch, *, was_due: bool
) -> Literal["timed_out", "abandoned", "lost"]:
    if watch.abandon.is_set():
        return "abandoned"
    return "timed_out" if was_due else "lost"
