"""Engines whose way to the server forgets them: nothing is lost, and nobody waits for ever."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.between import Between, standing_beside
from tests.servers import Server

PROMISED_S = 2.0
MARGIN_S = 3.0
"""What a busy machine may add; the driver waits for a minute."""
GRACE_S = "0.5"
RUNOFF = (sys.executable, "-m", "engine")
IMPATIENT = """
from engine.cli.main import main
from engine.store import postgres_connection
postgres_connection.ANSWER_S = 2.0
main()
"""
"""Runoff that counts a server as lost sooner, or a test would take a minute."""


class Place:
    """A log on a server, with a way to it that may forget, and children that wait for a word."""

    def __init__(self, folder: Path, url: str, way: Between) -> None:
        self.folder, self.way, self.direct = folder, way, url
        self._environment = os.environ | {"RUNOFF_FILES": str(folder / "f")}
        self.up, self.go = folder / "up", folder / "go"
        os.mkfifo(self.up)

    @contextmanager
    def engine(
        self, *options: str, program: tuple[str, ...] = RUNOFF
    ) -> Generator[subprocess.Popen[str], None, None]:
        """An engine behind the way, whose two children are at work until there is ``go``."""
        always = ("--workers", "2", "--grace-seconds", GRACE_S)
        child = ("sh", "-c", f"echo up > {self.up}; until [ -e {self.go} ]; do sleep 0.02; done")
        command = (*program, *options, *always, "--", *child)
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
            env=self._environment | {"DATABASE_URL": self.way.url(self.direct)},
        )
        try:
            with os.fdopen(os.open(self.up, os.O_RDWR)) as up:  # which is never at its end
                assert [up.readline() for _ in range(2)] == ["up\n"] * 2
                yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *arguments: str, by: str | None = None) -> subprocess.CompletedProcess[str]:
        """A command, over the server itself unless ``by`` is another URL."""
        return subprocess.run(
            (*RUNOFF, *arguments),
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment | {"DATABASE_URL": by or self.direct},
            timeout=120,
            check=False,
        )

    def told(self, *arguments: str) -> Any:
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def is_sound(self) -> bool:
        """Whether the history keeps its invariants and every decision is taken again alike."""
        return bool(self.told("verify")["ok"] and self.told("audit")["ok"])

    def ends(self) -> Counter[str]:
        """How often each attempt has ended."""
        shown = self.run("log", "show", "--type", "attempt.finished", "--limit", "999", "--json")
        return Counter(json.loads(line)["attempt"] for line in shown.stdout.splitlines())


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Generator[Place, None, None]:
    url = anyio.run(postgres.fresh)
    with standing_beside(postgres.port) as way:
        place = Place(tmp_path, url, way)
        place.run("seed", "--repeat", "3")
        yield place


def ended_within(process: subprocess.Popen[str], limit_s: float) -> tuple[int, str]:
    """Exit code and last words of a process that has so long to end."""
    began_s = time.monotonic()
    said, _ = process.communicate(timeout=30)
    took_s = time.monotonic() - began_s
    assert took_s < limit_s + PROMISED_S + MARGIN_S, (took_s, said)
    return process.returncode, said


def stop(process: subprocess.Popen[str]) -> None:
    """Have it told to stop, and wait until it has heard that: what ends then frees no worker."""
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert any("unning attempts" in line for line in process.stdout)


@pytest.mark.parametrize("engine", ["daemon", "drain"])
def test_a_stop_waits_for_no_link_that_was_forgotten(place: Place, engine: str) -> None:
    with place.engine(engine) as process:
        place.way.forget(new_ones=True)
        stop(process)
        if engine == "drain":
            place.go.touch()  # the children end by themselves
        code, said = ended_within(process, 1.0 + float(GRACE_S))
    assert code == 74, said
    assert "cannot be reached: it gave no answer while this program was to end." in said
    assert not place.ends()
    left = place.told("attempt", "list")
    assert [attempt["ending"] for attempt in left] == [None, None]
    again = place.run("drain", "--resume", "--batch-size", "1", "--", "true")
    assert again.returncode in (0, 4), again.stderr
    ends = place.ends()
    assert {ends[attempt["attempt_id"]] for attempt in left} == {1}
    assert set(ends.values()) == {1}
    assert place.is_sound()


@pytest.mark.parametrize("engine", ["daemon", "drain"])
def test_a_second_signal_does_not_wait_for_it_either(place: Place, engine: str) -> None:
    options = ("--stop-seconds", "600") if engine == "daemon" else ()
    with place.engine(engine, *options) as process:
        place.way.forget(new_ones=True)
        stop(process)
        process.send_signal(signal.SIGTERM)
        code, said = ended_within(process, float(GRACE_S))
    assert code == 74, said
    place.run("drain", "--resume", "--batch-size", "1", "--", "true")
    endings = Counter(attempt["ending"] for attempt in place.told("attempt", "list"))
    assert endings["abandoned"] == 2
    assert set(place.ends().values()) == {1}
    assert place.is_sound()


@pytest.mark.parametrize("engine", ["daemon", "drain"])
def test_a_stop_is_recorded_over_a_new_link_where_there_is_one(place: Place, engine: str) -> None:
    with place.engine(engine) as process:
        place.way.forget()
        stop(process)
        if engine == "drain":
            place.go.touch()
        code, said = ended_within(process, 1.0 + float(GRACE_S))
    assert code == 0, said
    assert list(place.ends().values()) == [1, 1]
    (session,) = place.told("session", "list")
    assert session["status"] == "ended"
    assert place.is_sound()


def test_a_stop_waits_for_no_reload_that_waits_for_the_server(place: Place) -> None:
    with place.engine("daemon") as process:
        place.way.cut_next(b"daemon.configured", carried=False)
        process.send_signal(signal.SIGHUP)
        place.way.is_cut()
        process.send_signal(signal.SIGTERM)
        code, said = ended_within(process, 1.0 + float(GRACE_S))
    assert code == 74, said
    assert said.index("daemon.stopping") < said.index("daemon.reload_failed")
    assert not place.ends()


def test_a_daemon_with_nothing_to_do_stops_without_a_server(place: Place) -> None:
    with place.engine("daemon", "--max-per-run", "1") as process:
        place.go.touch()
        assert process.stdout is not None
        ended = (line for line in process.stdout if '"attempt.finished"' in line)
        assert len(list(zip(range(30), ended, strict=False))) == 30
        place.way.forget(new_ones=True)
        process.send_signal(signal.SIGTERM)
        code, said = ended_within(process, 0.0)
    assert code in (0, 74), said
    assert set(place.ends().values()) == {1}
    assert place.is_sound()


def test_a_daemon_goes_on_when_the_link_is_back(place: Place) -> None:
    """What ended meanwhile is recorded, and no phase is started twice."""
    with place.engine("daemon", program=(sys.executable, "-c", IMPATIENT)) as process:
        place.way.forget(new_ones=True)
        place.go.touch()
        place.way.gone_unheard(3)
        assert process.stdout is not None
        assert any('"daemon.server_away"' in line for line in process.stdout)
        shown = place.run("daemon", "status", "--json", by=place.way.url(place.direct))
        assert json.loads(shown.stdout)["state"] == "server_away"
        place.way.remember()
        names = (json.loads(line)["event"] for line in process.stdout)
        told = Counter[str]()
        while told["attempt.finished"] < 30 or not told["daemon.server_back"]:
            told[next(names)] += 1
        process.send_signal(signal.SIGTERM)
        assert ended_within(process, 1.0)[0] == 0
    assert set(place.ends().values()) == {1}
    attempts = place.told("attempt", "list")
    assert len({(each["run_id"], each["phase_id"]) for each in attempts}) == len(attempts) == 30
    assert place.is_sound()


@pytest.mark.parametrize("command", [("log", "show"), ("why",), ("audit",), ("verify",)])
def test_a_reading_command_gives_up_a_silent_server(place: Place, command: tuple[str, ...]) -> None:
    place.way.forget(new_ones=True)
    done = place.run(*command, by=place.way.url(place.direct))
    assert done.returncode == 74
    assert "cannot be reached: it gave no answer in time." in done.stderr.splitlines()[0]
