"""The daemon as a process: signals, the service manager, handed work, crashes, idling.

Nothing here sleeps: tests wait for datagrams of ``sd_notify`` and for log lines.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Generator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from engine.backlog.sample import write_sample
from tests.harness.processes import wait_until
from tests.program import runoff

QUICK = (sys.executable, "-c", "print('done')")
SLOW = ("sleep", "600")
WAIT_S = 60
IDLE_S = 3


class Daemon:
    """One process of a daemon in ``folder``, with a service manager that listens."""

    def __init__(self, folder: Path, *arguments: str, command: tuple[str, ...] = QUICK) -> None:
        self.folder = folder
        (folder / "notify").unlink(missing_ok=True)
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(WAIT_S)
        environment = {
            **os.environ,
            "DATABASE_URL": f"sqlite:///{folder}/b.db",
            "NOTIFY_SOCKET": str(folder / "notify"),
            "WATCHDOG_USEC": "60000000",
        }
        argv = [sys.executable, "-m", "engine", "daemon", *arguments, "--", *command]
        self.process = subprocess.Popen(
            argv, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.told: list[str] = []
        self.lines: list[dict[str, Any]] = []

    def told_of(self, wanted: str) -> str:
        """The next datagram to the service manager that begins so."""
        while True:
            state = self.manager.recv(4096).decode()
            self.told.append(state)
            if state.startswith(wanted):
                return state

    def line(self, event: str, **facts: object) -> dict[str, Any]:
        """The next log line of ``event`` with these facts."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            found: dict[str, Any] = json.loads(raw)
            self.lines.append(found)
            if found["event"] == event and facts.items() <= found.items():
                return found
        raise AssertionError([line["text"] for line in self.lines])

    def ask(self, verb: str, *more: str) -> dict[str, Any]:
        """What ``runoff daemon VERB --json`` says."""
        done = runoff(self.folder, "daemon", verb, "--json", *more)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def ended(self) -> int:
        """Its exit code; what it still wrote is read."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            self.lines.append(json.loads(raw))
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        """Leave nothing behind, and no attempt either: guardians outlive whoever is killed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            self.process.communicate(timeout=WAIT_S)
        self.process.kill()
        self.process.communicate()
        self.manager.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert runoff(tmp_path, "seed", "--run-id", "first").returncode == 0
    return tmp_path


@pytest.fixture
def daemons(folder: Path) -> Generator[list[Daemon]]:
    started: list[Daemon] = []
    yield started
    for daemon in started:
        daemon.close()


def begun(daemons: list[Daemon], folder: Path, *arguments: str, **more: Any) -> Daemon:
    daemon = Daemon(folder, *arguments, **more)
    daemons.append(daemon)
    daemon.told_of("READY=1")
    return daemon


def verified(folder: Path) -> bool:
    return all(runoff(folder, verb).returncode == 0 for verb in ("verify", "audit"))


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(folder / "b.db")
    rows = connection.execute("SELECT data FROM events WHERE type = ? ORDER BY pos", (kind,))
    found = [json.loads(data) for (data,) in rows]
    connection.close()
    return found


def test_work_is_handed_to_the_daemon_while_it_drains(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder, "--workers", "2")
    daemon.line("attempt.finished", run="first")
    seeded = runoff(folder, "seed", "--run-id", "second")
    assert "Registered 10 phases in 1 run: second." in seeded.stdout, seeded.stderr
    assert "The daemon takes it up." in seeded.stdout
    assert runoff(folder, "seed", "--run-id", "second").returncode == 2, "it is there already"
    daemon.line("attempt.finished", run="second", phase="telemetry-p10-file-util")
    write_sample(folder / "old.db")
    assert runoff(folder, "import", "old.db").returncode == 0
    started = daemon.line("attempt.started")
    while started["run"] == "second":  # the other worker's
        started = daemon.line("attempt.started")
    assert started["run"] != "first"
    assert isinstance(started["pos"], int)
    requeue = ("phase", "requeue", "first", "telemetry-p9-readme", "--why", "again")
    assert runoff(folder, *requeue).returncode == 0
    assert runoff(folder, "run", "reinstate", "nope", "--why", "x").returncode == 2
    proposal = runoff(folder, "calibrate", "--record", "--output-dir", "reports")
    assert "The proposal is in the log now." in proposal.stderr
    assert len(list((folder / "reports").iterdir())) == 3
    assert len(events(folder, "calibration.proposed")) == 1
    daemon.line("attempt.started", run="first", phase="telemetry-p9-readme")
    stopped = daemon.ask("stop")
    assert stopped["state"] == "stopping"
    assert daemon.ended() == 0
    assert [line["event"] for line in daemon.lines].count("daemon.stopping") == 1
    assert not (folder / "b.db-control").exists()
    assert all(isinstance(line["pos"], int) for line in daemon.lines)
    assert verified(folder)


def test_another_rule_set_is_asked_while_the_daemon_drains(
    folder: Path, daemons: list[Daemon]
) -> None:
    policy = 'name = "old-eyes"\nversion = 1\ndetectors = "classic-1"\n'
    (folder / "policy.toml").write_text(policy)
    too_long = "echo 'prompt is too long: 9 tokens > 8 maximum' >&2; exit 1"
    drain = ("drain", "--policy", "policy.toml", "--batch-size", "3", "--", "sh", "-c", too_long)
    assert "Traceback" not in runoff(folder, *drain).stderr
    assert runoff(folder, "seed", "--run-id", "second").returncode == 0
    begun(daemons, folder, command=SLOW).line("attempt.started")
    question = ("reclassify", "--rule-set", "standard-1", "--why", "newer rules", "--json")
    said = runoff(folder, *question)
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["changed"] > 0
    found = events(folder, "diagnosis.reclassified")
    assert len(found) == sum(json.loads(said.stdout)["moves"].values())
    assert json.loads(runoff(folder, *question).stdout)["changed"] == 0
    assert verified(folder)


def test_a_second_writer_is_told_who_holds_the_log(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder)
    for verb in ("daemon", "drain"):
        second = runoff(folder, verb, "--", *QUICK)
        assert second.returncode == 75
        assert f"runoff daemon, pid {daemon.process.pid}" in second.stderr
    assert daemon.ask("status")["pid"] == daemon.process.pid


def test_a_link_to_a_log_leads_to_its_daemon_and_to_its_lock(
    folder: Path, daemons: list[Daemon]
) -> None:
    daemon = begun(daemons, folder)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link.db").symlink_to(folder / "b.db")
    by_link = ("--database", f"sqlite:///{elsewhere}/link.db")
    second = runoff(folder, "drain", *by_link, "--", *QUICK)
    assert second.returncode == 75
    assert f"runoff daemon, pid {daemon.process.pid}" in second.stderr
    status = runoff(folder, "daemon", "status", "--json", *by_link)
    assert json.loads(status.stdout)["pid"] == daemon.process.pid
    assert [file.name for file in elsewhere.iterdir()] == ["link.db"]


FIRST_QUICK_THEN_SLOW = (
    "case $RUNOFF_PHASE_ID in *-p1-*|*-p2-*) seq 1 900;; *) exec sleep 600;; esac"
)


def test_a_log_is_backed_up_beside_its_daemon_and_restored(
    folder: Path, daemons: list[Daemon]
) -> None:
    log, backup = (f"sqlite:///{folder}/{name}.db" for name in ("b", "backup"))

    def backed_up() -> dict[str, Any]:
        done = runoff(folder, "log", "copy", "--live", "--resume", "--json", log, backup)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        for verb in ("verify", "audit"):
            assert runoff(folder, verb, "--database", backup).returncode == 0
        return found

    daemon = begun(daemons, folder, command=("sh", "-c", FIRST_QUICK_THEN_SLOW))
    daemon.line("attempt.finished")
    before = backed_up()
    assert runoff(folder, "log", "copy", "--resume", log, backup).returncode == 75
    assert runoff(folder, "seed", "--run-id", "second").returncode == 0
    now = backed_up()
    assert now["events"] > before["events"] > 0
    assert before["files"] + now["files"] > 0
    assert len(events(folder, "attempt.started")) > len(events(folder, "attempt.finished"))

    daemon.process.kill()
    daemon.ended()
    broken = folder / "broken"
    broken.mkdir()
    for name in ("b.db", "b.db-wal", "b.db-shm"):
        (folder / name).rename(broken / name)
    restored = runoff(folder, "log", "copy", backup, log)
    assert restored.returncode == 0, restored.stderr
    begun(daemons, folder, "--on-restart", "end").line("attempt.finished", run="second")
    assert verified(folder)


def test_one_signal_stops_within_the_bound(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder, "--stop-seconds", "0.2", command=SLOW)
    daemon.line("attempt.started")
    daemon.process.send_signal(signal.SIGTERM)
    daemon.told_of("STOPPING=1")
    assert daemon.ended() == 0
    assert [event["ending"] for event in events(folder, "attempt.finished")] == ["abandoned"]
    assert verified(folder)


def test_a_second_signal_abandons_at_once(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder, "--stop-seconds", "600", command=SLOW)
    daemon.line("attempt.started")
    daemon.process.send_signal(signal.SIGINT)
    daemon.line("daemon.stopping")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ended() == 128 + signal.SIGTERM
    assert [event["ending"] for event in events(folder, "attempt.finished")] == ["abandoned"]
    assert verified(folder)


def test_a_reload_reads_the_files_again(folder: Path, daemons: list[Daemon]) -> None:
    settings = folder / "daemon.toml"
    settings.write_text('workers = 3\nwindows = ["00:00-24:00"]\n')
    daemon = begun(daemons, folder, "--settings", str(settings))
    assert daemon.ask("status")["settings"]["workers"] == 3
    settings.write_text('workers = 5\npolicy = "classic"\n')
    daemon.process.send_signal(signal.SIGHUP)
    assert re.search(r"\nMONOTONIC_USEC=\d+$", daemon.told_of("RELOADING=1"))
    daemon.told_of("READY=1")
    status = daemon.ask("status")
    assert (status["settings"]["workers"], status["policy"]) == (5, "classic@2")
    settings.write_text("workers = 'many'\n")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.told_of("RELOADING=1")
    daemon.told_of("READY=1")
    complaint = daemon.line("daemon.reload_failed", level="error")
    assert "workers" in complaint["text"]
    assert runoff(folder, "daemon", "reload").returncode == 2
    assert daemon.ask("status")["settings"]["workers"] == 5
    because = [event["because"] for event in events(folder, "daemon.configured")]
    assert because == ["started", "reloaded"]
    adopted = [event["policy"] for event in events(folder, "session.policy_adopted")]
    assert adopted[-1] == "classic@2"


def holds_hangups(pid: int) -> bool:
    """Whether a SIGHUP would wait now."""
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = re.search(r"^SigBlk:\s*(\w+)$", status, re.MULTILINE)
    assert blocked is not None
    return bool(int(blocked[1], 16) & 1 << signal.SIGHUP - 1)


def test_a_hangup_while_it_starts_is_a_reload_and_not_its_end(
    folder: Path, daemons: list[Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNOFF_LOCK_WAIT_SECONDS", str(WAIT_S))
    with closing(sqlite3.connect(folder / "b.db", isolation_level=None)) as rival:
        rival.execute("BEGIN IMMEDIATE")  # so it does not get far
        daemon = Daemon(folder)
        daemons.append(daemon)
        pid = daemon.process.pid
        assert wait_until(lambda: holds_hangups(pid), WAIT_S / 3, pid)
        daemon.process.send_signal(signal.SIGHUP)
        rival.execute("ROLLBACK")
    daemon.told_of("READY=1")
    assert daemon.line("daemon.configured")["text"].startswith("started")
    assert daemon.line("daemon.configured")["text"].startswith("reloaded")
    because = [event["because"] for event in events(folder, "daemon.configured")]
    assert because == ["started", "reloaded"]


def test_a_pause_is_recorded_and_outlives_a_kill(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder, command=SLOW)
    daemon.line("attempt.started")
    assert daemon.ask("pause", "--why", "look at it")["state"] == "paused"
    daemon.process.kill()
    daemon.process.wait()
    again = begun(daemons, folder, "--on-restart", "end", command=QUICK)
    again.line("attempt.finished")
    status = again.ask("status")
    assert (status["state"], status["open_attempts"]) == ("paused", 0)
    assert again.ask("resume", "--why", "done")["state"] == "running"
    again.line("attempt.started")
    assert len(events(folder, "daemon.paused")) == len(events(folder, "daemon.resumed")) == 1
    assert len(events(folder, "session.started")) == 1, "a restart changes no counts"
    again.process.send_signal(signal.SIGTERM)
    assert again.ended() == 0
    assert verified(folder)


def test_a_killed_daemon_takes_its_attempts_over(folder: Path, daemons: list[Daemon]) -> None:
    fifo = folder / "go"
    os.mkfifo(fifo)
    daemon = begun(daemons, folder, command=("cat", str(fifo)))
    with fifo.open("w"):  # which waits until the child reads
        daemon.process.kill()
        daemon.process.wait()
        again = begun(daemons, folder, command=QUICK)
        assert again.ask("status")["open_attempts"] == 1
    again.line("attempt.finished")
    again.process.send_signal(signal.SIGTERM)
    assert again.ended() == 0
    assert len(events(folder, "attempt.adopted")) == 1
    assert events(folder, "attempt.finished")[0]["ending"] == "succeeded"
    assert verified(folder)


def cpu_ns(pid: int) -> int:
    """What all threads of a process used, to the nanosecond."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_idling_costs_nothing(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder)
    daemon.line("attempt.finished", phase="telemetry-p10-file-util")
    daemon.ask("status")
    daemon.told_of("STATUS=0 running")
    before = cpu_ns(daemon.process.pid)
    while select.select([daemon.manager], [], [], IDLE_S)[0]:
        daemon.manager.recv(4096)  # whatever is still told, until nothing is
        before = cpu_ns(daemon.process.pid)
    assert (cpu_ns(daemon.process.pid) - before) / (IDLE_S * 1e9) < 0.01


def test_its_pages_are_served_where_it_says(folder: Path, daemons: list[Daemon]) -> None:
    daemon = begun(daemons, folder, "--http", "127.0.0.1:0")
    port = daemon.line("daemon.http")["port"]
    daemon.line("attempt.finished", phase="telemetry-p10-file-util")
    before = len(events(folder, "attempt.finished"))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    succeeded = re.search(r'runoff_attempts_ended_total\{ending="succeeded"\} (\d+)', text)
    assert succeeded is not None, text
    # It drains on meanwhile.
    assert 0 < before <= int(succeeded[1]) <= len(events(folder, "attempt.finished"))
    assert "sqlite" not in text, "no place or secret is shown"


def test_without_a_daemon_its_verbs_say_so(folder: Path) -> None:
    for verb in ("status", "pause", "resume", "stop", "reload"):
        done = runoff(folder, "daemon", verb)
        assert (done.returncode, "no daemon answers" in done.stderr) == (1, True)


def test_settings_that_cannot_be_meant_are_refused_at_once(folder: Path) -> None:
    for wrong in (
        ("--workers", "0"),
        ("--window", "Mon 25:00-26:00"),
        ("--http", "0.0.0.0:9464"),
        ("--budget", "session:tokens=5"),
        ("--settings", "none.toml"),
        ("--policy", "nope"),
    ):
        assert runoff(folder, "daemon", *wrong, "--", *QUICK).returncode == 2, wrong
