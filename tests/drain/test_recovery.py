"""What a dead engine left open: what is adopted, what is ended, and what is not for us to judge."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.clock import HandSetClock
from engine.drain import recovery
from engine.drain.recovery import ENGINES_READ, open_attempts, swept
from engine.errors import LogHeld, StorageFailed
from engine.events import (
    AttemptAdopted,
    AttemptSpawned,
    PolicyAdopted,
    Record,
    RunRegistered,
    SessionStarted,
    event_of,
)
from engine.executors.begun import NEVER_SPAWNED, Trace
from engine.executors.command import attempt_directory
from engine.executors.leftovers import Leftover
from engine.executors.outcome import GUARDIAN_LOCK, Spec
from engine.executors.port import Report, Spawned
from engine.executors.processes import boot_id, process_start_ticks
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.protocol import Query, Transaction
from engine.store.recorder import Recorder, Writer, recording
from engine.triage.policy import Policy
from tests.harness.backlogs import queued
from tests.rules.standings import limits, started

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

CLOCK = HandSetClock()
WRITER = Writer("host", "boot", 1, "test", "0")
POLICY = Policy(name="t")
HERE = Spawned(
    host=socket.gethostname(),
    boot_id=boot_id(),
    pid=os.getpid(),
    start_ticks=process_start_ticks(os.getpid()),
    directory="/nowhere",
)
DEAD = Spawned(
    host=HERE.host, boot_id=HERE.boot_id, pid=2**22 + 7, start_ticks=1, directory="/nowhere"
)
ELSEWHERE = Spawned(
    host="far-away", boot_id="another", pid=os.getpid(), start_ticks=None, directory="/nowhere"
)


@asynccontextmanager
async def left_open(
    *, is_shared: bool = False, writer: Writer = WRITER, **attempts: Spawned | None
) -> AsyncGenerator[Recorder, None]:
    """A log with attempts by the names of their runs, each with its guardian, if it had one.

    Another run waits there, of which nothing is open.
    """
    async with recording(MemoryStore(is_shared=is_shared), CLOCK, writer) as recorder:
        adopted = PolicyAdopted(
            session_id="s", policy=POLICY.label, policy_sha256="", policy_json=POLICY.json
        )
        begun = SessionStarted(session_id="s", executor="x", limits=limits())
        await recorder.submit(Command("begun", "x", b"", just(adopted, begun)))
        idle = RunRegistered(run_id="idle", origin="test", state="NEW")
        await recorder.submit(Command("idle", "x", b"", just(idle, queued("idle", "p"))))
        for name, process in attempts.items():
            tags = {"run_id": name, "attempt_id": name}
            run = RunRegistered(run_id=name, origin="test", state="NEW")
            work = just(run, queued(name, "p"), started(**tags))
            await recorder.submit(Command(f"work-{name}", "x", b"", work))
            if process is not None:
                await recorder.submit(Command(f"{name}.spawned", "x", b"", just(of(name, process))))
        yield recorder


def of(name: str, process: Spawned) -> AttemptSpawned:
    return AttemptSpawned(
        session_id="s",
        run_id=name,
        phase_id="p",
        attempt_id=name,
        host=process.host,
        boot_id=process.boot_id,
        pid=process.pid,
        start_ticks=process.start_ticks,
        directory=process.directory,
    )


async def adopted(recorder: Recorder) -> list[str]:
    records = await recorder.store.records(Query(types=("attempt.adopted",)))
    events = [event_of(record) for record in records]
    return [event.attempt_id for event in events if isinstance(event, AttemptAdopted)]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each attempt that is taken over is told to end now."""
    told: list[bool] = []

    async def taken(process: Spawned, attempt_id: str, abandon: anyio.Event) -> Report:
        assert (process.directory, attempt_id) == ("/nowhere", "a")
        told.append(abandon.is_set())
        return Report(ended="abandoned" if told[-1] else "exited", duration_ms=1)

    monkeypatch.setattr(recovery, "take_over", taken)
    return told


@pytest.mark.parametrize(
    ("process", "end", "lives"),
    [(HERE, False, True), (HERE, True, False), (DEAD, False, False), (DEAD, True, False)],
    ids=["living", "living, to be ended", "dead", "dead, to be ended"],
)
async def test_a_living_guardian_is_adopted_unless_it_is_to_end(
    process: Spawned,
    end: bool,
    lives: bool,
    ended: list[bool],
) -> None:
    told: list[tuple[Record, ...]] = []
    async with left_open(a=process) as recorder:
        (found,) = await open_attempts(recorder, CLOCK, end=end, tell=told.append)
        assert (found.lives, found.started) == (lives, started(run_id="a", attempt_id="a"))
        assert found.assignment.sheet.run_id == "a"
        assert await adopted(recorder) == ["a"] * lives
        assert len(told) == lives
        await open_attempts(recorder, CLOCK, end=end, tell=told.append)
        assert len(told) == lives, "what stands is no news"
        await found.report(anyio.Event())
    assert ended == [end and process is HERE], "who is dead was lost, and told nothing"


async def test_one_that_is_adopted_can_still_be_abandoned(ended: list[bool]) -> None:
    async with left_open(a=HERE) as recorder:
        (found,) = await open_attempts(recorder, CLOCK, end=False)
        abandon = anyio.Event()
        abandon.set()
        await found.report(abandon)
    assert ended == [True]


async def test_an_attempt_without_a_process_never_began() -> None:
    async with left_open(a=None) as recorder:
        (found,) = await open_attempts(recorder, CLOCK, end=False)
        assert (found.lives, found.started.run_id) == (False, "a")
        report = await found.report(anyio.Event())
        assert await adopted(recorder) == []
    why = "never_spawned: the engine died before the attempt had a process"
    assert report == Report(ended="lost", duration_ms=0, reason=why)


FROM_HERE = Writer(HERE.host, HERE.boot_id, 1, "test", "0")
OF_ANOTHER_BOOT = Writer(HERE.host, "an earlier boot", 1, "test", "0")
OF_ANOTHER_NAME = Writer("an-older-name", HERE.boot_id, 1, "test", "0")


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Which directories were looked at, of an attempt whose guardian is this process."""
    looked: list[Path] = []

    def trace_of(directory: Path, *, are_files_here: bool) -> Trace:
        assert not are_files_here
        looked.append(directory)
        return Trace(HERE, has_begun=True)

    monkeypatch.setattr(recovery, "trace_of", trace_of)
    return looked


async def spawned_events(recorder: Recorder) -> list[AttemptSpawned]:
    records = await recorder.store.records(Query(types=("attempt.spawned",)))
    return [event for event in map(event_of, records) if isinstance(event, AttemptSpawned)]


@pytest.mark.parametrize("writer", [FROM_HERE, OF_ANOTHER_NAME], ids=["here", "renamed"])
@pytest.mark.parametrize("end", [False, True])
async def test_a_guardian_that_was_not_recorded_is_recorded_and_adopted(
    writer: Writer, end: bool, look: list[Path], ended: list[bool], tmp_path: Path
) -> None:
    told: list[Record] = []
    async with left_open(writer=writer, a=None) as recorder:
        taken: dict[str, Any] = {"end": end, "files_root": tmp_path, "tell": told.extend}
        (found,) = await open_attempts(recorder, CLOCK, **taken)
        (again,) = await open_attempts(recorder, CLOCK, **taken)
        assert found.lives == again.lives == (not end)
        assert look == [attempt_directory(tmp_path, "a")], "from then on the log says it"
        assert await spawned_events(recorder) == [of("a", HERE)]
        kinds = ["attempt.spawned", "attempt.adopted"]
        assert [record.type for record in told] == kinds[: 1 + (not end)]
        await again.report(anyio.Event())
    assert ended == [end]


@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("executor", ["command", "scripted"])
@pytest.mark.parametrize("has_files", [False, True])
async def test_nobody_looks_where_nothing_can_have_begun(
    is_shared: bool, executor: str, has_files: bool, look: list[Path], tmp_path: Path
) -> None:
    """On a shared log a child waits until its guardian is recorded; a script has none."""
    async with left_open(is_shared=is_shared, writer=FROM_HERE, idle2=HERE) as recorder:
        run = RunRegistered(run_id="r", origin="test", state="NEW")
        begun = started(run_id="r", attempt_id="a", executor=executor)
        await recorder.submit(Command("a", "x", b"", just(run, queued("r", "p"), begun)))
        root, only = tmp_path if has_files else None, frozenset({"a"})
        (found,) = await open_attempts(recorder, CLOCK, end=False, files_root=root, among=only)
        is_looked_for = has_files and executor == "command" and not is_shared
        assert look == [attempt_directory(tmp_path, "a")] * is_looked_for
        if not is_looked_for:
            report = await found.report(anyio.Event())
            assert report == Report(ended="lost", duration_ms=0, reason=NEVER_SPAWNED)


@pytest.mark.parametrize(
    ("writer", "traces", "expected"),
    [
        (
            FROM_HERE,
            "no files",
            "lost: its engine died, and no files of attempts are beside the log",
        ),
        (
            OF_ANOTHER_BOOT,
            "no files",
            "lost: the machine was started again before the attempt ended",
        ),
        (FROM_HERE, "none", NEVER_SPAWNED),
        (FROM_HERE, "a directory", NEVER_SPAWNED),
        (FROM_HERE, "a mark", "lost: its engine and its guardian died"),
        (OF_ANOTHER_NAME, "none", NEVER_SPAWNED),
        (OF_ANOTHER_NAME, "a mark", "lost: its engine and its guardian died"),
        (OF_ANOTHER_BOOT, "none", "lost: the machine was started again before the attempt ended"),
        (OF_ANOTHER_BOOT, "a spec", "lost: the machine was started again before the attempt ended"),
        (OF_ANOTHER_BOOT, "a mark", "lost: the machine was started again before the attempt ended"),
        (WRITER, "a mark", "lost: the machine was started again before the attempt ended"),
    ],
)
async def test_what_is_dead_without_an_outcome_is_told_apart_by_its_traces(
    writer: Writer, traces: str, expected: str, tmp_path: Path
) -> None:
    directory = attempt_directory(tmp_path, "a")
    if traces != "no files":
        directory.parent.mkdir()
    if traces not in ("no files", "none"):
        directory.mkdir()
        (directory / GUARDIAN_LOCK).touch(0o700 if traces == "a mark" else 0o600)
        if traces == "a spec":
            Spec(attempt_id="a", cwd="", timeout_s=1, grace_s=1, kill_budget_s=1).write(directory)
    async with left_open(writer=writer, a=None) as recorder:
        (found,) = await open_attempts(recorder, CLOCK, end=False, files_root=tmp_path)
        assert not found.lives
        assert not await spawned_events(recorder)
        assert not await adopted(recorder)
        report = await found.report(anyio.Event())
    assert (report.ended, report.reason) == ("lost", expected)


async def test_of_several_attempts_whose_files_were_left_behind_none_is_said_never_to_have_begun(
    tmp_path: Path,
) -> None:
    """The look at the first of them makes the folder that the others were missing, too."""
    why = "lost: its engine died, and no files of attempts are beside the log"
    async with left_open(writer=FROM_HERE, a=None, b=None, c=None) as recorder:
        found = await open_attempts(recorder, CLOCK, end=False, files_root=tmp_path / "files")
        assert [(await each.report(anyio.Event())).reason for each in found] == [why] * 3


@pytest.mark.parametrize("is_shared", [False, True])
async def test_the_folder_of_attempts_is_there_before_the_first_of_them(
    is_shared: bool, tmp_path: Path
) -> None:
    """So that the first one of a log, which died at once, is not taken for one that was moved."""
    root = tmp_path / "b.db-files"
    async with left_open(is_shared=is_shared, writer=FROM_HERE) as recorder:
        assert await open_attempts(recorder, CLOCK, end=False, files_root=root) == []
        assert await open_attempts(recorder, CLOCK, end=False) == []
    assert attempt_directory(root, "a").parent.is_dir() is not is_shared
    if not is_shared:
        async with left_open(writer=FROM_HERE, a=None) as recorder:
            (found,) = await open_attempts(recorder, CLOCK, end=False, files_root=root)
            assert (await found.report(anyio.Event())).reason == NEVER_SPAWNED


async def test_a_folder_of_attempts_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").touch()
    async with left_open() as recorder:
        with pytest.raises(StorageFailed, match="the folder of attempts"):
            await open_attempts(recorder, CLOCK, end=False, files_root=tmp_path / "files")


async def test_the_engine_that_started_it_is_found_behind_many_others(tmp_path: Path) -> None:
    """By the epoch of the start: those that came later may have run anywhere."""
    store = MemoryStore()
    attempt_directory(tmp_path, "a").parent.mkdir()
    async with recording(store, CLOCK, FROM_HERE) as recorder:
        adopted_policy = PolicyAdopted(
            session_id="s", policy=POLICY.label, policy_sha256="", policy_json=POLICY.json
        )
        begun = SessionStarted(session_id="s", executor="x", limits=limits())
        run = RunRegistered(run_id="a", origin="test", state="NEW")
        work = (adopted_policy, begun, run, queued("a", "p"), started(run_id="a", attempt_id="a"))
        await recorder.submit(Command("work", "x", b"", just(*work)))
    for number in range(2 * ENGINES_READ + 1):
        async with recording(store, CLOCK, WRITER) as recorder:
            idle = RunRegistered(run_id=f"r{number}", origin="test", state="NEW")
            await recorder.submit(Command(f"r{number}", "x", b"", just(idle)))
    async with recording(store, CLOCK, WRITER) as recorder:
        (found,) = await open_attempts(recorder, CLOCK, end=False, files_root=tmp_path)
        assert (await found.report(anyio.Event())).reason == NEVER_SPAWNED


async def test_what_began_on_a_log_of_its_own_is_ended_behind_its_copy_on_a_server(
    tmp_path: Path,
) -> None:
    attempt = f"copied-by-{os.getpid()}"  # whoever looks for another's attempt must not find it
    attempts: dict[str, Any] = {attempt: None}
    mark = {**os.environ, "RUNOFF_ATTEMPT_ID": attempt}
    child = subprocess.Popen(["sleep", "60"], env=mark)  # noqa: ASYNC220
    async with left_open(is_shared=True, **attempts) as recorder:
        (found,) = await open_attempts(recorder, CLOCK, end=False, files_root=tmp_path)
        report = await found.report(anyio.Event())
    assert child.wait() == -signal.SIGKILL
    assert (report.ended, report.killed) == ("lost", 1)


async def test_what_another_machine_had_not_recorded_is_not_for_us_to_judge(tmp_path: Path) -> None:
    async with left_open(a=None) as recorder:
        with pytest.raises(LogHeld, match="the attempt a was started on host and is still open"):
            await open_attempts(recorder, CLOCK, end=False, files_root=tmp_path)
        (found,) = await open_attempts(
            recorder, CLOCK, end=False, files_root=tmp_path, gone=frozenset({"host"})
        )
        report = await found.report(anyio.Event())
    assert report.reason == "lost: a person said that its machine, host, is gone"


@pytest.mark.parametrize(
    ("among", "names"),
    [
        (None, ["a", "b"]),
        (frozenset({"b"}), ["b"]),
        (frozenset({"b", "c"}), ["b"]),
        (frozenset[str](), list[str]()),
    ],
)
async def test_only_those_are_taken_over_that_were_asked_for(
    among: frozenset[str] | None, names: list[str]
) -> None:
    async with left_open(a=HERE, b=HERE) as recorder:
        found = await open_attempts(recorder, CLOCK, end=False, among=among)
        assert [each.started.attempt_id for each in found] == names
        assert await adopted(recorder) == names


async def test_many_that_live_are_adopted_in_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    async with left_open(a=HERE, b=HERE, c=HERE, d=DEAD) as recorder:
        begin, begun = recorder.store.transaction, list[None]()

        def counted() -> AbstractAsyncContextManager[Transaction]:
            begun.append(None)
            return begin()

        monkeypatch.setattr(recorder.store, "transaction", counted)
        assert len(await open_attempts(recorder, CLOCK, end=False)) == 4
        assert sorted(await adopted(recorder)) == ["a", "b", "c"]
        assert len(begun) == 1


@pytest.mark.parametrize("end", [False, True])
async def test_what_runs_on_another_machine_is_not_for_us_to_judge(
    end: bool,
) -> None:
    async with left_open(a=HERE, far=ELSEWHERE) as recorder:
        with pytest.raises(LogHeld) as refused:
            await open_attempts(recorder, CLOCK, end=end)
        problem = "the attempt far was started on far-away and is still open."
        assert refused.value.problem == problem
        assert refused.value.remedy == (
            "run the drain on far-away, where it can be proved dead or taken over;"
            " if that machine is gone for good, --presume-lost far-away closes it."
        )
        assert await adopted(recorder) == []
        found = await open_attempts(recorder, CLOCK, end=end, among=frozenset({"a"}))
        assert [each.started.attempt_id for each in found] == ["a"]


async def test_a_person_may_say_that_a_machine_is_gone_for_good() -> None:
    async with left_open(a=HERE, far=ELSEWHERE) as recorder:
        with pytest.raises(LogHeld, match="far-away"):
            await open_attempts(recorder, CLOCK, end=False, gone=frozenset({"far", HERE.host}))
        found = await open_attempts(recorder, CLOCK, end=False, gone=frozenset({"far-away"}))
        assert [(each.started.attempt_id, each.lives) for each in found] == [
            ("a", True),
            ("far", False),
        ]
        report = await found[1].report(anyio.Event())
        assert await adopted(recorder) == ["a"]
    why = "lost: a person said that its machine, far-away, is gone"
    assert report == Report(ended="lost", duration_ms=0, reason=why)


async def test_what_can_be_proved_here_is_not_presumed() -> None:
    async with left_open(a=HERE, dead=DEAD) as recorder:
        found = await open_attempts(recorder, CLOCK, end=False, gone=frozenset({HERE.host}))
        assert [each.lives for each in found] == [True, False]
        assert "a person said" not in ((await found[1].report(anyio.Event())).reason or "")


@pytest.mark.parametrize("is_shared", [False, True])
async def test_only_who_has_the_log_alone_sweeps_and_spares_what_is_open(
    is_shared: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []

    def end_leftovers(root: Path, spared: Iterable[str]) -> list[Leftover]:
        asked.append((root, sorted(spared)))
        return [Leftover(7, "gone")]

    monkeypatch.setattr(recovery, "end_leftovers", end_leftovers)
    async with left_open(is_shared=is_shared, a=HERE, b=None) as recorder:
        found = await swept(recorder, tmp_path)
    assert found == ([] if is_shared else [Leftover(7, "gone")])
    assert asked == ([] if is_shared else [(tmp_path, ["a", "b"])])
