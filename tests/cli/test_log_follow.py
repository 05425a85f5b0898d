"""Following a log: what is appended is shown once, and a log that is another is told as that."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from engine.cli.log_follow import SameName, growth
from engine.clock import HandSetClock
from engine.errors import LogWentBack
from engine.events import Head
from engine.store.command import Command, just
from engine.store.location import locate
from engine.store.memory import MemoryStore
from engine.store.recorder import Writer, recording
from tests.harness.backlogs import queued
from tests.program import runoff

WRITER = Writer("h", "b", 1, "t", "0")
ON_A_SERVER = locate("postgresql://user@localhost/runoff")


async def store_of(*phases: str) -> MemoryStore:
    """A log of its engine's start and one event per phase."""
    store = MemoryStore()
    async with recording(store, HandSetClock(1_000_000), WRITER) as recorder:
        for phase in phases:
            await recorder.submit(Command(phase, "run/r", b"", just(queued("r", phase))))
    return store


class Turning:
    """A log that is one of ``stores`` after the other, each time its end is asked for."""

    def __init__(self, *stores: MemoryStore) -> None:
        self._stores = list(stores)
        self._now = stores[0]

    async def head(self) -> Head:
        if self._stores:
            self._now = self._stores.pop(0)
        return await self._now.head()

    async def hash_at(self, pos: int) -> bytes | None:
        return await self._now.hash_at(pos)


async def spans(count: int, *stores: MemoryStore, after: int = 0) -> list[tuple[int, int]]:
    """The first ``count`` spans in which a log that turns from one store into another grows."""
    found: list[tuple[int, int]] = []
    with anyio.fail_after(20):
        following = growth(Turning(*stores), SameName(ON_A_SERVER), after)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        async for span in following:
            found.append(span)
            if len(found) == count:
                break
        await following.aclose()
    return found


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.cli.log_follow.POLL_S", 0)


async def test_each_span_begins_behind_the_one_before() -> None:
    one, two, four = await store_of("a"), await store_of("a", "b"), await store_of(*"abcd")
    assert await spans(3, one, one, two, two, four) == [(0, 2), (2, 3), (3, 5)]
    assert await spans(2, one, one, two, two, four, after=2) == [(2, 3), (3, 5)]
    assert await spans(1, one, two, four, after=4) == [(4, 5)]


@pytest.mark.parametrize("others", ["", "x", "xy", "xyz"])
async def test_a_log_that_went_back_is_not_followed_however_far_it_has_come_again(
    others: str,
) -> None:
    with pytest.raises(LogWentBack, match=r"seen of it at position 4\.") as refused:
        await spans(2, await store_of(*"abc"), await store_of(*"a", *others))
    assert refused.value.exit_code == 5


@pytest.fixture
def database(tmp_path: Path) -> Path:
    assert runoff(tmp_path, "seed", "--database", "sqlite:///b.db").returncode == 0
    return tmp_path / "b.db"


@contextmanager
def follower(database: Path) -> Generator[subprocess.Popen[str]]:
    """``runoff log --follow``, once it has shown what was there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", "log", "show", "--follow", "--after", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{database}"},
    )
    try:
        assert process.stdout is not None
        assert "engine.started" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_is_another_is_told_as_that(database: Path, how: str) -> None:
    with follower(database) as process:
        if how == "replaced":
            other = database.with_name("other.db")
            shutil.copy(database, other)
            other.rename(database)
        else:
            database.unlink()
        _, said = process.communicate(timeout=20)
    assert process.returncode == LogWentBack.exit_code, said
    assert f"{database} is not the file any more that was opened" in said
    assert "Traceback" not in said


def test_an_interrupt_ends_it_without_a_traceback(database: Path) -> None:
    with follower(database) as process:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode in {0, 130}
    assert "Traceback" not in said
