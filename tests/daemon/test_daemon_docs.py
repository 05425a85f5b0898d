"""The daemon's pages say what the code has, and the files that people copy really work."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from engine.cli.daemon import daemon
from engine.daemon.answers import State, Status, Today
from engine.daemon.control import ANSWER_S
from engine.daemon.http import PATHS
from engine.daemon.messages import Answer, Requested
from engine.daemon.settings import Settings, plan_of, settings_from
from engine.doctor import checks
from engine.metrics import METRICS
from engine.triage.operating import Operation
from engine.triage.policy import POLICIES
from tests.program import runoff

HOME = Path(__file__).parent.parent.parent
FILES = HOME / "docs" / "how-to" / "files"
PAGE = (HOME / "docs" / "reference" / "daemon.md").read_text(encoding="utf-8")
METRICS_PAGE = (HOME / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")


def rows(text: str) -> set[str]:
    """What stands in the first column of tables, in backquotes."""
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


def section(name: str) -> str:
    return PAGE.partition(f"## {name}\n")[2].partition("\n## ")[0]


def test_every_verb_setting_and_state_has_its_row() -> None:
    verbs = {f"daemon {name}" for name in daemon.commands if name != "run"}
    assert {row.split(" -")[0].split(" [")[0] for row in rows(PAGE.partition("##")[0])} == verbs
    assert rows(section("Settings")) == {*Settings.__struct_fields__}
    states: tuple[str, ...] = get_args(State)
    assert rows(section("States")) == {"state", *states}


def test_defaults_are_those_of_the_code() -> None:
    settings = Settings()
    for name, shown in re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section("Settings"), re.MULTILINE):
        value = getattr(settings, name)
        written = msgspec.json.encode(value).decode()
        expected = {"null": "none"}.get(written, written.removesuffix(".0"))
        assert shown.strip("` ") == expected, name


def test_every_request_and_every_field_of_an_answer_is_described() -> None:
    text = section("The control socket")
    for kind in get_args(Requested):
        tag = str(kind.__struct_config__.tag)
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{tag}`")]
        assert all(f"`{field}`" in row for field in kind.__struct_fields__), tag
    for kind in get_args(Operation):
        assert f"`{kind.__struct_config__.tag}`" in text
    for field in (*Answer.__struct_fields__, *Status.__struct_fields__, *Today.__struct_fields__):
        assert f"`{field}`" in PAGE, field


def test_every_name_of_a_log_line_has_its_row() -> None:
    places = [*HOME.glob("engine/daemon/*.py"), HOME / "engine" / "cli" / "daemon.py"]
    said = r'(?:say|complain|error|info)\(\s*"(daemon\.\w+)"'
    names = {name for path in places for name in re.findall(said, path.read_text("utf-8"))}
    lines = rows(section("Signals and the service manager"))
    assert names == {row for row in lines if row.startswith("daemon.")}


def test_every_metric_and_page_is_described_with_its_type() -> None:
    found = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", METRICS_PAGE, re.MULTILINE))
    assert found == {name: metric.kind for name, metric in METRICS.items()}
    assert all(f"`{path}`" in METRICS_PAGE for path in PATHS)


def test_every_check_of_the_doctor_has_its_row(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    found = json.loads(runoff(tmp_path, "doctor", "--json").stdout)
    assert rows(section("`doctor`")) == {check["name"] for check in found}
    verdicts: tuple[str, ...] = get_args(checks.Verdict)
    assert all(f"`{verdict}`" in section("`doctor`") for verdict in verdicts)


def test_the_settings_that_are_shipped_can_be_meant() -> None:
    table = tomllib.loads((FILES / "daemon.toml").read_text(encoding="utf-8"))
    plan = plan_of(settings_from(table, "daemon.toml"), POLICIES["default"])
    assert len(plan.windows) == 2


def told_and_stopped(folder: Path, argv: Sequence[str]) -> list[str]:
    """Start what a service file starts, where it starts it, and stop it when it is ready."""
    place = folder / "bin"
    place.mkdir()
    program = place / "runoff"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m engine "$@"\n')
    program.chmod(0o755)
    agent = folder / "agent"
    agent.write_text('#!/bin/sh\ntest -f "$1"\n')
    agent.chmod(0o755)
    shutil.copy(FILES / "daemon.toml", folder)
    assert runoff(folder, "seed", database="backlog.db").returncode == 0
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        manager.settimeout(60)
        environment = {
            **os.environ,
            "DATABASE_URL": "sqlite:///backlog.db",
            "NOTIFY_SOCKET": str(folder / "notify"),
            "PATH": f"{place}:{os.environ['PATH']}",
        }
        with subprocess.Popen(argv, cwd=folder, env=environment, stderr=subprocess.PIPE) as process:
            while "READY=1" not in told:
                told.append(manager.recv(4096).decode())
            process.send_signal(signal.SIGTERM)
            while "STOPPING=1" not in told:
                told.append(manager.recv(4096).decode())
            process.communicate(timeout=60)
        assert process.returncode == 0
    return told


def unit() -> dict[str, str]:
    text = (FILES / "runoff.service").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))


def test_the_line_of_the_unit_starts_tells_and_stops(tmp_path: Path) -> None:
    line = unit()["ExecStart"].replace(":9464", ":0")  # the port may be taken here
    assert told_and_stopped(tmp_path, shlex.split(line))[0] == "READY=1"


def test_the_lines_of_the_container_file_start_tell_and_stop(tmp_path: Path) -> None:
    text = (FILES / "Containerfile").read_text(encoding="utf-8")
    entry, command = (
        json.loads(re.findall(rf"^{word} (\[.*\])$", text, re.MULTILINE)[0])
        for word in ("ENTRYPOINT", "CMD")
    )
    assert told_and_stopped(tmp_path, ["/usr/bin/env", *entry, *command])[0] == "READY=1"


def test_the_unit_waits_longer_than_the_daemon_takes() -> None:
    settings = Settings()
    bound_s = settings.stop_seconds + settings.grace_seconds + 2 + ANSWER_S
    assert float(unit()["TimeoutStopSec"]) > bound_s
    assert unit()["KillMode"] == "process", "guardians outlive a daemon that dies"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd")
def test_systemd_finds_nothing_wrong_with_the_unit() -> None:
    path = str(FILES / "runoff.service")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    assert "runoff.service" not in done.stderr, done.stderr
