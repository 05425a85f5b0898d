"""An engine of a shared log is killed at work and started again, while others go on."""

from __future__ import annotations

import os
import signal
import subprocess
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

    def state_of(self, daemon: subprocess.Popen[str]) -> str:
        return str(self.told("daemon", "status", "--pid", str(daemon.pid))["state"])

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


def test_one_that_is_paused_sees_to_what_its_neighbour_was_killed_at_and_starts_nothing(
    place: Waiting,
) -> None:
    place.seed("kept", 1, "a-label-of-nobody")
    with place.children() as up, place.daemon("--workers", "2") as resting:
        place.runoff("daemon", "pause")
        place.seed("r", 4)
        with place.daemon("--workers", "2", is_to_end=False) as killed:
            assert [up.readline() for _ in range(2)] == ["p\n"] * 2
            lives, dies = place.log("attempt.spawned")
            os.kill(dies["data"]["pid"], signal.SIGKILL)  # its guardian
            killed.kill()
            killed.wait()
            place.until(count=1, kind="attempt.adopted")
            place.until(count=1)
            place.go.touch()
            place.until(count=2)
        endings = {
            each["attempt"]: each["data"]["ending"] for each in place.log("attempt.finished")
        }
        assert endings == {lives["attempt"]: "succeeded", dies["attempt"]: "orphaned"}
        assert place.state_of(resting) == "paused"
        assert len(place.log("attempt.started")) == 2
        place.runoff("daemon", "resume")
        place.until(count=5)
    assert place.is_sound()


def test_while_one_works_nobody_is_told_that_what_a_dead_one_left_is_all(place: Waiting) -> None:
    place.seed("r", 6)
    with place.children() as up, place.daemon("--workers", "1") as lasting:
        assert up.readline() == "p\n"
        with place.daemon("--workers", "2", is_to_end=False) as killed:
            assert [up.readline() for _ in range(2)] == ["p\n"] * 2
            killed.kill()
            killed.wait()
            place.until(count=2, kind="attempt.adopted")
        working, dead = (each["session"] for each in place.log("session.started"))
        found = place.told("why")
        assert found["session"]["session_id"] == working != dead
        assert found["sentence"].startswith(f"Session {working} is running with 3 attempts open")
        (waiting, *_) = (p for p in place.told("phase", "list") if p["state"] == "QUEUED")
        phase = place.told("why", waiting["run_id"], waiting["phase_id"])
        assert [each["kind"] for each in phase["hindrances"]] == ["workers_full"]
        (left, *_) = (each for each in place.log("attempt.started") if each["session"] == dead)
        for what in ((left["run"], left["phase"]), (left["attempt"],)):
            answer = place.told("why", *what)
            assert "n engine that is gone left" in answer["sentence"]
            assert answer["change"].startswith("An engine on its machine takes it over")
        place.go.touch()
        place.until(count=6)
        assert lasting.poll() is None
    ended = place.told("why")
    assert ended["sentence"] == "Nothing is left to run: all 6 phases are finished."
    assert place.is_sound()
