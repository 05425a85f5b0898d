"""An engine of a shared log is killed at work and started again, while others go on."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import anyio
import pytest

from tests.e2e.test_shared_work import Place
from tests.servers import Server

CHILD = "echo $RUNOFF_PHASE_ID > {up}; until [ -e {go} ]; do sleep 0.02; done"


class Waiting(Place):
    """A place whose children say that they are up, and go on until they are told to go."""

    def __init__(self, folder: Path, url: str) -> None:
        super().__init__(folder, url)
        self.up, self.go = folder / "up", folder / "go"
        os.mkfifo(self.up)

    @property
    def agent(self) -> tuple[str, ...]:
        return "sh", "-c", CHILD.format(up=self.up, go=self.go)

    @contextmanager
    def children(self) -> Generator[IO[str], None, None]:
        """A line for each child that is up."""
        with os.fdopen(os.open(self.up, os.O_RDWR)) as up:  # which is never at its end
            yield up


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Waiting:
    return Waiting(tmp_path, anyio.run(postgres.fresh))


def test_one_that_is_started_again_beside_others_fills_its_workers_and_no_session_overflows(
    place: Waiting,
) -> None:
    """What the dead one left open is another's now, and runs on: its session stays full of it."""
    place.seed("r", 6)
    with place.children() as up, place.daemon("--workers", "2", is_to_end=False) as killed:
        assert [up.readline() for _ in range(2)] == ["p\n"] * 2
        with place.daemon("--workers", "1") as heir:
            assert up.readline() == "p\n"
            killed.kill()
            killed.wait()
            place.until(count=2, kind="attempt.adopted")
            with place.daemon("--workers", "2"):
                assert [up.readline() for _ in range(2)] == ["p\n"] * 2
                place.go.touch()
                place.until(count=6)
            assert heir.poll() is None
    assert place.is_sound()
