"""At the limit of open files nothing is known, which is not the same as nothing being there."""

from __future__ import annotations

import errno
import os
import resource
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import StorageFailed, not_written
from engine.events import Deliverable
from engine.executors import outcome
from engine.executors.adoption import guardian_lives
from engine.executors.deliverables import missing_deliverables
from engine.executors.leftovers import leftovers
from engine.executors.outcome import Spec, read_report
from engine.executors.port import Output, Report, Spawned
from engine.executors.processes import boot_id, end_marked_processes, marked_processes
from tests.drain.test_diagnose import of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
ENDED = (
    '{"ended":"exited","exit_code":0,"signal":null,"spawn_error":null,"duration_ms":1,'
    '"killed":0,"survivors":0}'
)


@contextmanager
def no_more_files() -> Generator[None]:
    """Let this process open none."""
    usual = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, usual)


def ended_in(directory: Path) -> Path:
    """An attempt that is over, and told of a limit."""
    Spec(attempt_id="a", cwd=str(directory), timeout_s=1, grace_s=1, kill_budget_s=1).write(
        directory
    )
    outcome.put(directory, outcome.OUTCOME_FILE, ENDED.encode())
    outcome.put(directory, outcome.EVENTS_FILE, b'{"type":"usage"}\n')
    outcome.put(directory, outcome.GUARDIAN_LOCK, b"")
    outcome.put(directory, "stdout", b"said")
    return directory


def spawned_in(directory: Path) -> Spawned:
    return Spawned(
        host="h", boot_id=boot_id(), pid=os.getpid(), start_ticks=1, directory=str(directory)
    )


LOOKS: tuple[Callable[[Path], object], ...] = (
    read_report,
    lambda folder: guardian_lives(spawned_in(folder)),
    lambda folder: missing_deliverables(folder, [Deliverable(path="spec.json")]),
    lambda _: marked_processes("a"),
    lambda _: end_marked_processes("a"),
    lambda folder: leftovers(folder, []),
    lambda folder: of(
        Report(ended="exited", duration_ms=1, stdout=Output(head_bytes=4, path=folder / "stdout"))
    ),
)


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_is_concluded_from_what_cannot_be_looked_at(
    tmp_path: Path, look: Callable[[Path], object]
) -> None:
    boot_id()
    ended_in(tmp_path)
    look(tmp_path)
    with no_more_files(), pytest.raises(StorageFailed, match="limits of this user or machine"):
        look(tmp_path)


def test_a_file_that_cannot_be_written_for_a_limit_is_no_fault_of_the_disk() -> None:
    for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
        error = not_written("it", OSError(number, os.strerror(number)))
        assert "raise them" in error.remedy
