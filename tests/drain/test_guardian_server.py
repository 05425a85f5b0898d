"""The process that guardians are forked from: whatever becomes of it, guardians come and go on."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from engine.executors import guardian_process
from engine.executors.guardian_process import GuardianProcess, Guardians, NotStarted
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
        started.append(await guardians.start(place))

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
    first = await guardians.start(first_place)
    dead = server_of(first)
    os.kill(dead, signal.SIGKILL)
    second = await guardians.start(second_place)
    assert server_of(second) != dead
    assert '"exit_code":0' in await ended(first, first_place)
    assert '"exit_code":0' in await ended(second, second_place)


async def test_one_that_does_not_answer_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guardian_process, "READY_LIMIT_S", 0.2)
    guardians = Guardians()
    first_place, second_place = laid_out(tmp_path, "first"), laid_out(tmp_path, "second")
    first = await guardians.start(first_place)
    stuck = server_of(first)
    os.kill(stuck, signal.SIGSTOP)
    with pytest.raises(NotStarted, match="no answer"):
        await guardians.start(laid_out(tmp_path, "never"))
    assert process_start_ticks(stuck) is None
    monkeypatch.setattr(guardian_process, "READY_LIMIT_S", LIMIT_S)
    second = await guardians.start(second_place)
    assert '"exit_code":0' in await ended(first, first_place)
    assert '"exit_code":0' in await ended(second, second_place)
    assert not (tmp_path / "never" / "outcome.json").exists()


async def test_why_a_guardian_could_not_start_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    guardians = Guardians()
    with pytest.raises(NotStarted, match=r"No such file or directory: .*/absent"):
        await guardians.start(tmp_path / "absent")
    (tmp_path / "bare").mkdir()
    with pytest.raises(NotStarted, match=r"No such file or directory: spec\.json"):
        await guardians.start(tmp_path / "bare")
    assert capfd.readouterr().err == ""


async def test_it_ends_with_its_executor_and_guardians_do_not(tmp_path: Path) -> None:
    guardians = Guardians()
    place = laid_out(tmp_path, "one")
    guardian = await guardians.start(place)
    server = server_of(guardian)
    del guardians
    gc.collect()
    assert process_start_ticks(server) is None
    assert '"exit_code":0' in await ended(guardian, place)


async def test_it_ends_when_its_engine_is_killed(tmp_path: Path) -> None:
    place = laid_out(tmp_path, "one", "sh", "-c", "touch began; while test ! -e go; do :; done")
    source = f"""
import anyio, os, pathlib
from engine.executors.guardian_process import Guardians
async def main():
    guardians = Guardians()
    guardian = await guardians.start(pathlib.Path({str(place)!r}))
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
        engine.kill()
        await until(lambda: process_start_ticks(server) is None)
    assert process_start_ticks(guardian) is not None
    (tmp_path / "go").touch()
    await until(lambda: process_start_ticks(guardian) is None)
    assert '"exit_code":0' in (place / "outcome.json").read_text()
