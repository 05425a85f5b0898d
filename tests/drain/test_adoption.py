"""After an engine's death: its attempts are taken over, or proved to be dead."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import anyio
import msgspec
import pytest

from engine.errors import LogHeld
from engine.executors import adoption
from engine.executors.adoption import (
    await_guardian,
    end_guardian,
    guardian_lives,
    is_known_here,
    is_of_here,
    take_over,
)
from engine.executors.command import attempt_directory, workspace_directory
from engine.executors.holder import seen_from_here
from engine.executors.outcome import GUARDIAN_LOCK
from engine.executors.port import Assignment, PhaseSheet, Spawned
from engine.executors.processes import (
    Census,
    boot_id,
    end_marked_processes,
    is_alive,
    marked_processes,
    process_start_ticks,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

ROOT = Path(__file__).parents[2]
LIMIT_S = 30


class Started:
    """An attempt that another engine starts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.attempt_id = f"att_{root.name}_{root.stat().st_ino}"
        self.directory = attempt_directory(root, self.attempt_id)
        self.workspace = workspace_directory(root, "run-a")
        sheet = PhaseSheet(
            run_id="run-a",
            tier_id="T1",
            phase_id="p1",
            phase_index=0,
            name="n",
            state="QUEUED",
            attempt=1,
        )
        self.assignment = Assignment(
            session_id="s",
            attempt_id=self.attempt_id,
            sheet=sheet,
            timeout_s=20,
            grace_s=0.3,
            deadline_us=0,
        )


def left(attempt: Started) -> list[str]:
    """Living processes with the attempt's id in their environment."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if attempt.attempt_id.encode() in environment:
            found.append(entry.name)
    return found


async def until_it_works(attempt: Started) -> None:
    with anyio.fail_after(LIMIT_S):
        while not (attempt.workspace / "started-1").exists():  # noqa: ASYNC110  it is another's
            await anyio.sleep(0.005)


ENGINE = """
import sys
import time
from pathlib import Path
import anyio, msgspec
from engine.executors.command import CommandExecutor
from engine.executors.port import Assignment, Watch

async def main(root, assignment, policy, source):
    async def note(spawned):
        Path(root, "part").write_bytes(msgspec.json.encode(spawned))
        Path(root, "part").rename(Path(root, "spawned"))
    executor = CommandExecutor(("sh", "-c", source), files_root=Path(root), on_engine_death=policy)
    watch = Watch(spawned=note, abandon=anyio.Event())
    await executor.run(msgspec.json.decode(assignment, type=Assignment), watch)

anyio.run(main, *sys.argv[1:])
"""


async def engine_killed(attempt: Started, policy: str, source: str) -> Spawned:
    """Let an engine start the attempt, and kill it once the child is at work."""
    assignment = msgspec.json.encode(attempt.assignment).decode()
    arguments = [str(attempt.root), assignment, policy, source]
    engine = subprocess.Popen([sys.executable, "-c", ENGINE, *arguments], cwd=ROOT)  # noqa: ASYNC220
    try:
        await until_it_works(attempt)
    finally:
        engine.kill()
        engine.wait(LIMIT_S)
    spawned = (attempt.root / "spawned").read_bytes()
    return msgspec.json.decode(spawned, type=Spawned)


FAMILY = """
setsid sh -c 'trap "" TERM HUP; touch started-1; while :; do sleep 1; done' &
while [ ! -e started-1 ]; do sleep 0.01; done
echo '{"type":"usage"}' >> "$RUNOFF_EVENTS_FILE"
echo so be it
"""
WORK = """
echo '{"type":"usage","output_tokens":3}' >> "$RUNOFF_EVENTS_FILE"
touch started-1
while [ ! -e finish ]; do sleep 0.01; done
echo '{"success":true}' > "$RUNOFF_RESULT_FILE"
echo done; exit 3
"""


async def test_a_restarted_engine_takes_over_an_attempt_that_goes_on(tmp_path: Path) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    assert guardian_lives(spawned)
    assert not await await_guardian(spawned, 0.1)
    (attempt.workspace / "finish").touch()
    report = await take_over(spawned, attempt.attempt_id)
    assert (report.ended, report.exit_code, report.claimed_success) == ("exited", 3, True)
    assert [record.output_tokens for record in report.telemetry.usage] == [3]
    assert report.stdout.total_bytes == len("done\n")
    assert left(attempt) == []


async def test_a_restarted_engine_finds_the_outcome_of_an_attempt_that_is_over(
    tmp_path: Path,
) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    (attempt.workspace / "finish").touch()
    assert await await_guardian(spawned, LIMIT_S)
    report = await take_over(spawned, attempt.attempt_id)
    assert (report.ended, report.exit_code) == ("exited", 3)


async def test_an_attempt_that_must_not_outlive_its_engine_does_not(tmp_path: Path) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "end", WORK)
    report = await take_over(spawned, attempt.attempt_id)
    assert (report.ended, report.claimed_success) == ("abandoned", None)
    assert len(report.telemetry.usage) == 1
    assert left(attempt) == []


async def test_an_adopted_attempt_can_be_told_to_stop(tmp_path: Path) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    abandon = anyio.Event()
    abandon.set()
    report = await take_over(spawned, attempt.attempt_id, abandon)
    assert report.ended == "abandoned"
    assert left(attempt) == []


async def test_an_attempt_whose_engine_and_guardian_died_is_lost_and_swept_up(
    tmp_path: Path,
) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", FAMILY + "sleep 60")
    os.kill(spawned.pid, signal.SIGKILL)
    report = await take_over(spawned, attempt.attempt_id)
    assert (report.ended, report.duration_ms) == ("lost", 0)
    assert report.reason == "lost: its engine and its guardian died"
    assert left(attempt) == []


async def test_a_stopped_guardian_of_a_dead_engine_is_ended_after_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "OUTER_MARGIN_S", 0.3)
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", FAMILY + "sleep 60")
    spec = json.loads((attempt.directory / "spec.json").read_text())
    short = spec | {"timeout_s": 0.1, "grace_s": 0.1, "kill_budget_s": 0.1}
    (attempt.directory / "spec.json").write_text(json.dumps(short))
    os.kill(spawned.pid, signal.SIGSTOP)
    report = await take_over(spawned, attempt.attempt_id)
    assert report.ended == "lost"
    assert left(attempt) == []
    assert not guardian_lives(spawned)


async def test_a_take_over_that_is_cancelled_leaves_the_attempt_to_the_next_engine(
    tmp_path: Path,
) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    with anyio.move_on_after(0.2):
        await take_over(spawned, attempt.attempt_id)
    assert guardian_lives(spawned)
    assert end_guardian(spawned)
    assert await await_guardian(spawned, LIMIT_S)
    assert not end_guardian(spawned)


async def test_a_guardian_proves_its_life_by_its_lock_whatever_its_pid_is_here(
    tmp_path: Path,
) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    # As it is seen from another container: another host, and pids that mean nothing.
    seen = msgspec.structs.replace(spawned, host="another", pid=2**22 + 1)
    assert guardian_lives(seen)
    assert is_of_here(seen)
    assert not end_guardian(seen)
    (attempt.workspace / "finish").touch()
    assert await await_guardian(seen, LIMIT_S)
    assert (await take_over(seen, attempt.attempt_id)).exit_code == 3


async def test_a_guardian_is_ended_by_the_number_that_it_has_here_whatever_is_recorded(
    tmp_path: Path,
) -> None:
    """Another container recorded it, from which it could not be seen."""
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    recorded = msgspec.structs.replace(spawned, pid=0, start_ticks=0)
    assert seen_from_here(recorded) == spawned
    assert seen_from_here(spawned) is spawned
    abandon = anyio.Event()
    abandon.set()
    with anyio.fail_after(LIMIT_S):
        report = await take_over(recorded, attempt.attempt_id, abandon)
    assert report.ended == "abandoned"
    assert left(attempt) == []
    assert seen_from_here(recorded) is recorded, "it is gone"


@pytest.mark.parametrize("what", ["nothing", "link", "pipe"])
def test_where_no_lock_is_nobody_is_seen(what: str, tmp_path: Path) -> None:
    lock = tmp_path / GUARDIAN_LOCK
    if what == "link":
        lock.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(lock)
    recorded = Spawned(host="h", boot_id=boot_id(), pid=0, start_ticks=0, directory=str(tmp_path))
    assert seen_from_here(recorded) is recorded


def test_where_locks_cannot_be_asked_about_nobody_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / GUARDIAN_LOCK).touch()
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    recorded = Spawned(host="h", boot_id=boot_id(), pid=0, start_ticks=0, directory=str(tmp_path))
    assert seen_from_here(recorded) is recorded


async def test_who_waits_for_a_guardian_here_does_not_look_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    looks: list[bool] = []

    def looked(of: Spawned) -> bool:
        looks.append(guardian_lives(of))
        return looks[-1]

    monkeypatch.setattr(adoption, "guardian_lives", looked)
    assert not await await_guardian(spawned, 5 * adoption.POLL_S)
    (attempt.workspace / "finish").touch()
    assert await await_guardian(spawned, LIMIT_S)
    assert len(looks) <= 4
    assert not is_open(spawned.pid)


def is_open(pid: int) -> bool:
    """Whether this process has a handle of another."""
    infos = [info.read_text() for info in Path("/proc/self/fdinfo").iterdir() if info.exists()]
    return any(f"Pid:\t{pid}\n" in info for info in infos)


def out_of_sight(spawned: Spawned) -> Spawned:
    """A guardian that has no number here."""
    return spawned


async def test_a_guardian_out_of_reach_that_overstays_its_limits_is_not_called_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adoption, "OUTER_MARGIN_S", 0.1)
    monkeypatch.setattr(adoption, "seen_from_here", out_of_sight)
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    spec = json.loads((attempt.directory / "spec.json").read_text())
    short = spec | {"timeout_s": 0.1, "grace_s": 0.1, "kill_budget_s": 0.1}
    (attempt.directory / "spec.json").write_text(json.dumps(short))
    elsewhere = msgspec.structs.replace(spawned, host="another", pid=2**22 + 1)
    with pytest.raises(LogHeld, match="still runs"):
        await take_over(elsewhere, attempt.attempt_id)
    assert end_guardian(spawned)
    assert await await_guardian(spawned, LIMIT_S)


def test_life_and_death_on_another_machine_cannot_be_told_from_here(tmp_path: Path) -> None:
    def of(host: str, boot: str) -> Spawned:
        return Spawned(host=host, boot_id=boot, pid=1, start_ticks=1, directory=str(tmp_path))

    assert not is_of_here(of("another", "another"))
    # The machine may have another name today, as after a new lease or in a new container.
    assert is_of_here(of("another", boot_id()))
    assert is_of_here(of(socket.gethostname(), "another"))
    (tmp_path / "guardian.lock").touch()
    assert is_of_here(of("another", "another"))
    assert not guardian_lives(of("another", "another"))


def test_a_machine_is_not_known_by_its_name_alone_where_others_start_attempts(
    tmp_path: Path,
) -> None:
    """Two machines of one name share a log; what runs on the other is not dead for being unseen."""
    here, other, directory = socket.gethostname(), "boot of another", str(tmp_path)
    assert is_known_here(here, boot_id(), directory)
    assert not is_known_here(here, other, directory)
    assert not is_known_here("another", boot_id(), directory)
    (tmp_path / "guardian.lock").touch()  # the machine was started again since
    assert is_known_here(here, other, directory)
    assert not is_known_here("another", other, directory)


async def test_an_attempt_of_before_the_machine_was_started_again_is_lost_with_it(
    tmp_path: Path,
) -> None:
    here = Spawned(
        host="h", boot_id="another", pid=os.getpid(), start_ticks=None, directory=str(tmp_path)
    )
    report = await take_over(here, "att_of_before")
    assert report.ended == "lost"
    assert report.reason == "lost: the machine was started again before the attempt ended"


async def test_a_stopped_guardian_is_woken_up_to_end(tmp_path: Path) -> None:
    attempt = Started(tmp_path)
    spawned = await engine_killed(attempt, "adopt", WORK)
    os.kill(spawned.pid, signal.SIGSTOP)
    abandon = anyio.Event()
    abandon.set()
    assert (await take_over(spawned, attempt.attempt_id, abandon)).ended == "abandoned"


def test_a_process_of_another_time_is_not_alive() -> None:
    ticks = process_start_ticks(os.getpid())
    assert ticks is not None
    assert is_alive(os.getpid(), ticks)
    assert is_alive(os.getpid(), None)
    assert not is_alive(os.getpid(), ticks - 1)
    here = Spawned(host="h", boot_id=boot_id(), pid=os.getpid(), start_ticks=ticks, directory="/")
    assert guardian_lives(here)
    assert not guardian_lives(msgspec.structs.replace(here, boot_id="another"))
    assert not guardian_lives(msgspec.structs.replace(here, start_ticks=ticks + 1))


def test_a_dead_process_is_not_alive_even_before_it_is_collected() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start_ticks(process.pid) is None
    assert not is_alive(process.pid, None)
    assert process.wait() == 0
    assert not is_alive(process.pid, None)


def test_those_who_ask_before_a_look_share_it_and_nobody_is_told_of_an_earlier_one() -> None:
    looks: list[int] = []

    def look() -> dict[bytes, list[int]]:
        looks.append(time.monotonic_ns())
        return {b"a": [len(looks)]}

    census = Census(look)
    asked_ns = time.monotonic_ns()
    assert [census.carriers(mark, asked_ns) for mark in (b"a", b"b", b"a")] == [[1], [], [1]]
    assert census.carriers(b"a", looks[0]) == [2], "what began before it was asked proves nothing"
    assert census.carriers(b"a", asked_ns) == [2]


def test_a_look_that_failed_is_no_look() -> None:
    def look() -> dict[bytes, list[int]]:
        if not failed:
            failed.append(True)
            raise OSError("no look")
        return {b"a": [7]}

    failed: list[bool] = []
    census, asked_ns = Census(look), time.monotonic_ns()
    with pytest.raises(OSError, match="no look"):
        census.carriers(b"a", asked_ns)
    assert census.carriers(b"a", asked_ns) == [7]


def test_only_the_very_mark_marks_a_process() -> None:
    def sleeper(attempt_id: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"RUNOFF_ATTEMPT_ID": attempt_id}
        return subprocess.Popen(["sleep", "60"], env=environment)

    mark = f"att_marked_{os.getpid()}"
    with sleeper(mark) as one, sleeper(mark) as two, sleeper(mark + "0") as other:
        assert sorted(marked_processes(mark)) == sorted([one.pid, two.pid])
        assert end_marked_processes(mark) == 2
        assert (one.wait(), two.wait(), other.poll()) == (-signal.SIGKILL, -signal.SIGKILL, None)
        assert end_marked_processes(mark) == 0
        other.kill()
