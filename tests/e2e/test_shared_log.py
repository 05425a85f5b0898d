"""Several engines, real processes, one log on a server: one is killed, one is frozen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.servers import Server

LEASE_S = "2"
WITNESS = """
import fcntl, os, sys, time
from pathlib import Path
name = f"{os.environ['RUNOFF_RUN_ID']}-{os.environ['RUNOFF_PHASE_ID']}"
with open(Path(sys.argv[1]) / f"{name}.lock", "w") as lock:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        (Path(sys.argv[1]) / f"{name}.overlap").touch()
    time.sleep(0.3)
"""


class Place:
    """A server's database, a folder for its files, and one for the witnesses' locks."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.environment = os.environ | {"DATABASE_URL": url, "RUNOFF_FILES": str(folder / "f")}
        self.locks = folder / "locks"
        self.locks.mkdir()
        (folder / "witness.py").write_text(WITNESS)

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "engine", *arguments]

    def drain(self, *more: str) -> list[str]:
        options = ("--workers", "2", "--batch-size", "999", "--lease-seconds", LEASE_S)
        program = (sys.executable, str(self.folder / "witness.py"), str(self.locks))
        return self.argv("drain", *options, "--ignore-order", "--ack-lines", *more, "--", *program)

    def runoff(self, *arguments: str) -> Any:
        done = subprocess.run(
            self.argv(*arguments, "--json"),
            capture_output=True,
            cwd=self.folder,
            env=self.environment,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def finish(self, *more: str) -> None:
        subprocess.run(
            self.drain(*more),
            capture_output=True,
            cwd=self.folder,
            env=self.environment,
            timeout=60,
            check=True,
        )

    @contextmanager
    def engine(self) -> Generator[subprocess.Popen[str], None, None]:
        """An engine that drains; it has started an attempt when the block begins."""
        with (self.folder / "errors").open("a") as errors:
            process = subprocess.Popen(
                self.drain(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=self.folder,
                env=self.environment,
            )
        try:
            assert process.stdout is not None
            for word in ("READY", "ACK"):
                assert any(line.startswith(word) for line in process.stdout)
            yield process
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Place:
    return Place(tmp_path, anyio.run(postgres.fresh))


def test_one_breaker_holds_all_engines_back(place: Place) -> None:
    """Two engines on thirty runs that fail alike make few attempts together, not thirty."""
    place.runoff("seed", "--repeat", "30")
    child = ("sh", "-c", "echo 'Error: no api key' >&2; sleep 0.2; exit 1")
    drain = place.argv("drain", "--workers", "4", "--batch-size", "99", "--", *child)
    engines = [
        subprocess.Popen(
            drain,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=place.folder,
            env=place.environment,
        )
        for _ in range(2)
    ]
    assert [engine.wait(60) for engine in engines] == [4, 4]
    (breaker,) = place.runoff("breaker")
    assert (breaker["state"], breaker["probes"]) == ("open", 2)
    # Three that open it, two probes, what was in flight, and second tries of the first runs.
    attempts = place.runoff("attempt", "list")
    assert len({each["run_id"] for each in attempts}) <= 3 + 2 + 8
    assert len(attempts) < 20
    place.runoff("audit")


def test_one_is_killed_and_one_is_frozen_and_the_third_does_the_rest(place: Place) -> None:
    place.runoff("seed", "--repeat", "5")
    with place.engine() as frozen:
        frozen.send_signal(signal.SIGSTOP)
        with place.engine() as killed:
            killed.kill()
        with place.engine() as lasting:
            lasting.communicate(timeout=90)
            assert lasting.returncode == 0
        frozen.send_signal(signal.SIGCONT)
        frozen.communicate(timeout=20)
        assert frozen.returncode == 76
    place.finish()
    assert list(place.locks.glob("*.overlap")) == []
    verified = place.runoff("verify")
    assert verified["ok"]
    assert verified["open_attempts"] == 0
    assert place.runoff("audit")["ok"]
    phases = place.runoff("phase", "list")
    assert {phase["state"] for phase in phases} == {"COMPLETE"}


def test_an_engine_that_was_killed_is_resumed_at_once(place: Place) -> None:
    """Its lease lives on, but on this machine anybody sees that it is gone."""
    place.runoff("seed")
    with place.engine() as killed:
        killed.kill()
        killed.wait()
        place.finish("--resume", "--lease-seconds", "3600")
    (session,) = place.runoff("session", "list")
    assert session["status"] == "ended"
    assert place.runoff("verify")["ok"]
    assert place.runoff("audit")["ok"]
    assert list(place.locks.glob("*.overlap")) == []


def test_a_server_that_goes_away_and_comes_back_costs_no_outcome(
    place: Place, postgres: Server
) -> None:
    place.runoff("seed", "--repeat", "2")
    with place.engine() as engine:
        postgres.stop()
        postgres.start()
        out, _ = engine.communicate(timeout=60)
        assert engine.returncode == 0, out
    assert list(place.locks.glob("*.overlap")) == []
    assert place.runoff("verify")["ok"]
    phases = place.runoff("phase", "list")
    assert {phase["state"] for phase in phases} == {"COMPLETE"}
    endings = {attempt["ending"] for attempt in place.runoff("attempt", "list", "--limit", "99")}
    assert endings <= {"succeeded", "abandoned", "orphaned"}
