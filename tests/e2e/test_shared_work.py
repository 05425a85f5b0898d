"""Daemons on one log on a server: work goes where it can run, in fair parts, and no host is full.

Real processes.  All run on one machine, so all of them share its room.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.servers import Server

LAST_S = 0.7
AGENT = "import sys, time; time.sleep(float(sys.argv[1]))"
POLICY = """
name = "at-once"
version = 1
base = "default"
samples_at_first = 0
"""


class Place:
    """A database with a backlog, and what daemons on it say."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = os.environ | {"DATABASE_URL": url, "RUNOFF_FILES": str(folder / "f")}
        (folder / "agent.py").write_text(AGENT)
        (folder / "policy.toml").write_text(POLICY)

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "engine", *arguments]

    def runoff(self, *arguments: str) -> str:
        done = subprocess.run(
            self.argv(*arguments),
            capture_output=True,
            cwd=self.folder,
            env=self.environment,
            timeout=120,
            check=False,
            text=True,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    def told(self, *arguments: str) -> Any:
        return json.loads(self.runoff(*arguments, "--json"))

    def seed(self, run_id: str, phases: int, *needs: str) -> None:
        """So many runs of one phase each."""
        plan = self.folder / f"{run_id}.json"
        plan.write_text(json.dumps({"run_id": run_id, "phases": [{"phase_id": "p"}]}))
        labels = [word for label in needs for word in ("--needs", label)]
        self.runoff("seed", "--plan", str(plan), "--repeat", str(phases), *labels)

    @property
    def agent(self) -> tuple[str, ...]:
        """The program that executes a phase."""
        return sys.executable, str(self.folder / "agent.py"), str(LAST_S)

    @contextmanager
    def daemon(
        self, *options: str, is_to_end: bool = True
    ) -> Generator[subprocess.Popen[str], None, None]:
        """A daemon that is ready when the block begins, and has ended well behind it.

        ``is_to_end`` False: the block ends it by itself.
        """
        always = ("--policy", "policy.toml", "--log-format", "json")
        command = self.argv("daemon", *always, *options)
        process = subprocess.Popen(
            [*command, "--stop-seconds", "60", "--", *self.agent],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )
        try:
            assert process.stderr is not None
            assert any('"daemon.ready"' in line for line in process.stderr)
            yield process
            if is_to_end:
                process.terminate()
                process.communicate(timeout=90)
                assert process.returncode == 0
        finally:
            process.kill()
            process.communicate()

    def until(self, *, count: int, kind: str = "attempt.finished") -> None:
        """Follow the log until so many events are in it, such as ends of attempts."""
        follow = self.argv("log", "show", "--follow", "--after", "0", "--type", kind, "--json")
        with subprocess.Popen(
            follow,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            env=self.environment,
        ) as following:
            assert following.stdout is not None
            found = sum(1 for _ in zip(range(count), following.stdout, strict=False))
            following.terminate()
        assert found == count

    def log(self, *types: str) -> list[dict[str, Any]]:
        chosen = [word for name in types for word in ("--type", name)]
        lines = self.runoff("log", "show", "--json", "--limit", "100000", *chosen).splitlines()
        return [json.loads(line) for line in lines]

    def attempts_at_once(self) -> int:
        """The most that were open at one position of the log."""
        open_now = most = 0
        for record in self.log("attempt.started", "attempt.finished"):
            open_now += 1 if record["type"] == "attempt.started" else -1
            most = max(most, open_now)
        return most

    def is_sound(self) -> bool:
        """Whether the history keeps its invariants and every decision is taken again alike."""
        return bool(self.told("verify")["ok"] and self.told("audit")["ok"])


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Place:
    return Place(tmp_path, anyio.run(postgres.fresh))


def test_labelled_work_goes_to_its_machine_and_the_host_is_never_full_beyond_its_bound(
    place: Place,
) -> None:
    place.seed("arm", 1, "arm")
    room = ("--workers", "3", "--host-workers", "4")
    with place.daemon("--label", "gpu", *room), place.daemon("--label", "linux", *room):
        # Now that both are ready: however slowly one begins, it has a part in this.
        place.seed("gpu", 5, "gpu")
        place.seed("plain", 8)
        place.until(count=13)
    sessions = {r["session"]: r["data"] for r in place.log("session.started")}
    ran = Counter[tuple[bool, bool]]()
    for record in place.log("attempt.started"):
        has_label = sessions[record["session"]]["limits"]["labels"] == ["gpu"]
        ran[record["run"].startswith("gpu"), has_label] += 1
    assert ran[True, True] == 5
    assert ran[True, False] == 0
    assert ran[False, False] > 0
    assert place.attempts_at_once() in (3, 4)
    left = [phase["run_id"] for phase in place.told("phase", "list") if phase["state"] == "QUEUED"]
    assert left == ["arm"]
    assert "for want of a label" in place.told("why")["sentence"]
    assert place.is_sound()


def test_little_work_is_shared_out_among_daemons_that_have_nothing_to_do(place: Place) -> None:
    place.seed("elsewhere", 1, "gpu")
    with place.daemon("--workers", "4"), place.daemon("--workers", "4"):
        place.seed("few", 4)  # while both have room
        place.until(count=4)
    taken = Counter(record["session"] for record in place.log("attempt.started"))
    assert sorted(taken.values()) in ([1, 3], [2, 2])
    assert place.is_sound()


def test_work_that_came_before_is_done_by_one_daemon_when_the_other_may_not(place: Place) -> None:
    """The other one would be less busy, but leaves this work alone: nothing waits for it long."""
    place.seed("only", 6)
    with (
        place.daemon("--workers", "2", "--skip-run-prefix", "only"),
        place.daemon("--workers", "4"),
    ):
        place.until(count=6)
    taken = Counter(record["session"] for record in place.log("attempt.started"))
    assert list(taken.values()) == [6]
    assert place.is_sound()
