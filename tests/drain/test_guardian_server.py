"""The process that guardians are forked from: whatever becomes of it, guardians come and go on."""

from __future__ import annotations

import errno
import gc
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from engine.errors import StorageFailed
from engine.executors import guardian_process
from engine.executors.guardian_process import (
    GUARDIAN,
    GuardianProcess,
    Guardians,
    NotStarted,
    more_descriptors,
)
from engine.executors.guarding.server import fork_for
from engine.executors.outcome import Spec
from engine.executors.processes import process_start_ticks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")

LIMIT_S = 30


def laid_out(root: Path, name: str, *argv: str) -> Path:
    """The directory of an attempt."""
    directory = root / name
    directory.mkdir()
    spec = Spec(
        attempt_id=name,
        argv=argv or ("true",),
        environment={"PATH": os.environ["PATH"]},
        cwd=str(root),
        timeout_s=20,
        grace_s=0.3,
        kill_budget_s=1,
    )
    spec.write(directory)
    return directory


def parent_of(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[1])


def server_of(guardian: GuardianProcess) -> int:
    """The pid of the process that forked it."""
    return parent_of(guardian.pid)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(LIMIT_S):
        while not condition():  # noqa: ASYNC110  another process makes it true
            await anyio.sleep(0.005)


async def ended(guardian: GuardianProcess, directory: Path) -> str:
    """Start the child, and say what its guardian wrote in the end."""
    guardian.go()
    assert await guardian.wait_at_most(LIMIT_S)
    return (directory / "outcome.json").read_text()


async def test_one_process_starts_all_guardians_of_an_engine(tmp_path: Path) -> None:
    guardians = Guardians()
    places = [laid_out(tmp_path, str(number)) for number in range(20)]
    started: list[GuardianProcess] = []

    async def start(place: Path) -> None:
        started.append(await guardians.start(place, anyio.Event()))

    async with anyio.create_task_group() as group:
        for place in places:
            group.start_soon(start, place)
    assert len({one.pid for one in started}) == len(places)
    assert len({server_of(one) for one in started}) == 1
    for one in started:
        assert os.getsid(one.pid) == one.pid  # out of reach of what a terminal sends
        one.go()
    for one in started:
        assert await one.wait_at_most(LIMIT_S)
    assert all('"exit_code":0' in (place / "outcome.json").read_text() for place in places)


async def test_when_it_dies_guardians_go_on_and_the_next_comes_from_another(
    tmp_path: Path,
) -> None:
    guardians = Guardians()
    first_place, second_place = laid_out(tmp_path, "first"), laid_out(tmp_path, "second")
    first = await guardians.start(first_place, anyio.Event())
    dead = server_of(first)
    os.kill(dead, signal.SIGKILL)
    second = await guardians.start(second_place, anyio.Event())
    assert server_of(second) != dead
    assert '"exit_code":0' in await ended(first, first_place)
    assert '"exit_code":0' in await ended(second, second_place)


async def test_one_that_does_not_answer_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardians = Guardians()
    first_place, second_place = laid_out(tmp_path, "first"), laid_out(tmp_path, "second")
    first = await guardians.start(first_place, anyio.Event())
    stuck = server_of(first)
    os.kill(stuck, signal.SIGSTOP)
    monkeypatch.setattr(guardian_process, "PATIENCES_S", (0.2, LIMIT_S))
    second = await guardians.start(second_place, anyio.Event())
    assert process_start_ticks(stuck) is None
    assert '"exit_code":0' in await ended(first, first_place)
    assert '"exit_code":0' in await ended(second, second_place)


async def test_those_who_give_up_together_have_one_new_one_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardians = Guardians()
    first = await guardians.start(laid_out(tmp_path, "first"), anyio.Event())
    os.kill(server_of(first), signal.SIGSTOP)
    # A third try would only be for whoever loses the second one to the others.
    monkeypatch.setattr(guardian_process, "PATIENCES_S", (0.2, LIMIT_S))
    started: list[GuardianProcess] = []

    async def start(name: str) -> None:
        started.append(await guardians.start(laid_out(tmp_path, name), anyio.Event()))

    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(start, str(number))
    assert len({server_of(one) for one in started}) == 1
    for one in [first, *started]:
        one.leave()


async def test_one_that_never_answers_is_given_up_and_so_is_an_attempt_that_shall_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guardians, abandon = Guardians(), anyio.Event()
    first_place = laid_out(tmp_path, "first")
    first = await guardians.start(first_place, abandon)
    os.kill(server_of(first), signal.SIGSTOP)
    abandon.set()
    with pytest.raises(NotStarted, match="told to end before it began"), anyio.fail_after(4):
        await guardians.start(laid_out(tmp_path, "second"), abandon)
    monkeypatch.setattr(guardian_process, "PATIENCES_S", (0.2,))
    with pytest.raises(NotStarted, match="no answer"):
        await guardians.start(laid_out(tmp_path, "third"), anyio.Event())
    assert '"exit_code":0' in await ended(first, first_place)
    assert not (tmp_path / "third" / "outcome.json").exists()


async def test_a_guardian_that_said_its_last_word_is_gone_though_its_socket_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[socket.socket] = []
    real = socket.socketpair

    def pair() -> tuple[socket.socket, socket.socket]:
        ours, theirs = real()
        copies.append(theirs.dup())
        return ours, theirs

    monkeypatch.setattr("engine.executors.guardian_process.socket.socketpair", pair)
    guardians, place = Guardians(), laid_out(tmp_path, "one")
    guardian = await guardians.start(place, anyio.Event())
    with anyio.fail_after(LIMIT_S / 2):
        assert '"exit_code":0' in await ended(guardian, place)
    for each in copies:
        each.close()


async def test_a_guardian_that_comes_too_late_touches_nothing(tmp_path: Path) -> None:
    guardians, place = Guardians(), laid_out(tmp_path, "one")
    first = await guardians.start(place, anyio.Event())
    with pytest.raises(NotStarted, match="temporarily unavailable"):
        await guardians.start(place, anyio.Event())
    (place / "outcome.json").write_text("of before")
    first.leave()
    await until(lambda: process_start_ticks(first.pid) is None)
    assert (place / "outcome.json").read_text() == "of before"


async def test_signals_that_an_engine_blocks_and_its_many_files_are_not_a_childs(
    tmp_path: Path,
) -> None:
    usual = more_descriptors()
    program = "ulimit -n; grep SigBlk /proc/self/status; exec >&- 2>&-; sleep 0.2"
    place = laid_out(tmp_path, "one", "sh", "-c", program)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    try:
        guardians = Guardians()
        guardian = await guardians.start(place, anyio.Event())
        outcome = json.loads(await ended(guardian, place))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (place / "stdout").read_text() == f"{usual}\nSigBlk:\t0000000000000000\n"
    assert (outcome["ended"], outcome["exit_code"]) == ("exited", 0)
    assert outcome["duration_ms"] < 10_000


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("socket.socketpair", errno.EMFILE),
        ("subprocess.Popen", errno.EMFILE),
        ("socket.send_fds", errno.EMFILE),
        ("socket.send_fds", errno.ENOBUFS),
        ("socket.send_fds", errno.ETOOMANYREFS),
    ],
)
async def test_a_limit_of_the_machine_is_no_fault_of_the_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, error: int
) -> None:
    """It ends the engine like a full disk, and the attempt is closed as one that never began."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, "Too many")

    monkeypatch.setattr(f"engine.executors.guardian_process.{place}", refuse)
    with pytest.raises(StorageFailed, match="limits of this user or machine are reached: Too m"):
        await Guardians().start(laid_out(tmp_path, "one"), anyio.Event())


async def test_a_server_that_cannot_fork_says_so_and_that_is_such_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("engine.executors.guarding.server.os.fork", refuse)
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(
        "engine.executors.guardian_process.socket.socketpair", lambda: (ours, theirs)
    )
    guardian = GuardianProcess()
    fork_for(os.dup(theirs.fileno()))
    with pytest.raises(StorageFailed, match="reached: cannot fork: Resource temporarily"):
        await guardian.greeted(anyio.Event())
    guardian.leave()


async def test_a_guardian_that_may_open_no_file_tells_of_that_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guardian_process, "more_descriptors", lambda: 5)
    with pytest.raises(StorageFailed, match="reached: cannot prepare: Too many open files"):
        await Guardians().start(laid_out(tmp_path, "one"), anyio.Event())


@pytest.mark.parametrize("gone", ["python", "guardian.py"])
async def test_a_program_that_is_gone_from_under_it_is_no_fault_of_the_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    if gone == "python":
        monkeypatch.setattr(sys, "executable", str(tmp_path / gone))
    else:
        monkeypatch.setattr(guardian_process, "GUARDIAN", tmp_path / gone)
    with pytest.raises(StorageFailed, match="no guardian of an attempt can be started"):
        await Guardians().start(tmp_path, anyio.Event())


async def test_what_nobody_names_is_not_told_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the process that shall become the server fails on its way."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("engine.executors.guardian_process.subprocess.Popen", fail)
    with pytest.raises(StorageFailed, match="attempt can be started: Input/output error"):
        await Guardians().start(laid_out(tmp_path, "one"), anyio.Event())


async def test_what_cannot_be_loaded_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As where the memory for it is not given; the engine's own word follows."""
    place = tmp_path / "engine" / "executors"
    place.mkdir(parents=True)
    monkeypatch.setattr(guardian_process, "GUARDIAN", shutil.copy(GUARDIAN, place))
    with pytest.raises(StorageFailed, match="what they are forked from cannot run"):
        await Guardians().start(laid_out(tmp_path, "one"), anyio.Event())
    assert capfd.readouterr().err.startswith("ModuleNotFoundError: No module named 'engine.")


async def test_why_a_guardian_could_not_start_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    guardians = Guardians()
    with pytest.raises(NotStarted, match=r"No such file or directory: .*/absent"):
        await guardians.start(tmp_path / "absent", anyio.Event())
    (tmp_path / "bare").mkdir()
    with pytest.raises(NotStarted, match=r"No such file or directory: spec\.json"):
        await guardians.start(tmp_path / "bare", anyio.Event())
    assert capfd.readouterr().err == ""


async def test_it_ends_with_its_executor_and_guardians_do_not(tmp_path: Path) -> None:
    guardians = Guardians()
    place = laid_out(tmp_path, "one")
    guardian = await guardians.start(place, anyio.Event())
    server = server_of(guardian)
    del guardians
    gc.collect()
    assert process_start_ticks(server) is None
    assert '"exit_code":0' in await ended(guardian, place)


@pytest.mark.parametrize("stopped", [False, True])
async def test_it_ends_when_its_engine_is_killed(tmp_path: Path, stopped: bool) -> None:
    place = laid_out(tmp_path, "one", "sh", "-c", "touch began; while test ! -e go; do :; done")
    source = f"""
import anyio, os, pathlib
from engine.executors.guardian_process import Guardians
async def main():
    guardians = Guardians()
    guardian = await guardians.start(pathlib.Path({str(place)!r}), anyio.Event())
    guardian.go()
    print(guardian.pid, flush=True)
    await anyio.sleep_forever()
anyio.run(main)
"""
    async with await anyio.open_process([sys.executable, "-c", source]) as engine:
        assert engine.stdout is not None
        guardian = int((await engine.stdout.receive()).decode())
        server = parent_of(guardian)
        await until((tmp_path / "began").exists)
        if stopped:
            os.kill(server, signal.SIGSTOP)
        engine.kill()
        await until(lambda: process_start_ticks(server) is None)
    assert process_start_ticks(guardian) is not None
    (tmp_path / "go").touch()
    await until(lambda: process_start_ticks(guardian) is None)
    assert '"exit_code":0' in (place / "outcome.json").read_text()
