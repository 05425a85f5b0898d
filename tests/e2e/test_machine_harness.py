"""The harness with a machine of its own, as far as it can be tried without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.machine.debian import AGENT
from tests.harness.machine.host import CHECKS, CONTAINER, verdict

HOME = Path(__file__).parent.parent.parent


def heard(*without: str) -> list[dict[str, Any]]:
    names = (*CHECKS, *CONTAINER, "end")
    return [{"check": name, "problems": []} for name in names if name not in without]


def test_it_is_well_when_every_check_was_told_of_and_found_nothing() -> None:
    assert verdict(heard(), containers=True)["ok"]
    assert verdict(heard(*CONTAINER), containers=False)["ok"]


@pytest.mark.parametrize("silent", [*CHECKS, *CONTAINER, "end"])
def test_a_check_that_is_not_told_of_is_a_problem(silent: str) -> None:
    found = verdict(heard(silent), containers=True)
    assert found["problems"] == [f"{silent}: not told of"]
    assert not found["ok"]


def test_a_problem_is_one() -> None:
    found = verdict([*heard("stop"), {"check": "stop", "problems": ["left"]}], containers=True)
    assert found["problems"] == ["stop: left"]
    assert not found["ok"]


def test_what_runs_in_the_machine_needs_nothing_but_python() -> None:
    """The program is installed in there, but what tries it must not lean on its packages."""
    code = f"import sys; sys.path.insert(0, {str(HOME)!r}); import tests.harness.machine.boot"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)


def test_the_agent_of_the_machine_tells_of_usage(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text(AGENT)
    (tmp_path / "phase.json").write_text('{"goal": "sleep for 0 seconds"}')
    environment = {"PATH": "/usr/bin:/bin", "RUNOFF_EVENTS_FILE": str(tmp_path / "events")}
    command = ["/bin/sh", "agent", "phase.json"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    assert '"type":"usage"' in (tmp_path / "events").read_text()
