"""How a machine of its own is asked things from inside, and how it tells what was found."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.harness.processes import wait_until as wait_for

HOME = Path("/var/lib/runoff")
CHECK = Path("/var/lib/check")
OUT = Path("/dev/ttyS1")
RUNOFF = "/usr/local/bin/runoff"
LOG = "sqlite:///backlog.db"
# An emulated processor is ten to twenty times slower than a real one.
PATIENCE_S = 300
LONG_S = 60


def call(*command: str, limit_s: float = PATIENCE_S) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)


def runoff(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, as the unit's user and where the unit runs."""
    user = ["/usr/sbin/runuser", "-u", "runoff", "--", "/usr/bin/env", f"--chdir={HOME}"]
    return call(*user, f"DATABASE_URL={LOG}", RUNOFF, *arguments)


def rows(*arguments: str) -> list[dict[str, Any]]:
    """What a command prints as JSON; nothing when it prints none."""
    return read(runoff(*arguments, "--json").stdout)


def read(text: str) -> list[dict[str, Any]]:
    """A list of objects, or one; nothing when it is no JSON."""
    try:
        found: list[dict[str, Any]] | dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        return []
    return [found] if isinstance(found, dict) else found


def status() -> dict[str, Any]:
    """How the daemon says it stands; empty when none answers."""
    found = rows("daemon", "status")
    return found[0] if found else {}


def tell(check: str, problems: Sequence[str] = (), **facts: object) -> None:
    """One line of what was found."""
    line = json.dumps({"check": check, "problems": list(problems), **facts})
    with OUT.open("a", encoding="utf-8") as port:
        port.write(line + "\n")


class Problems(list[str]):
    """What did not hold."""

    def unless(self, holds: object, problem: str) -> None:
        """Note ``problem`` unless ``holds``."""
        if not holds:
            self.append(problem)


def wait_until(holds: Callable[[], object], limit_s: float = PATIENCE_S) -> bool:
    """Look again and again until it holds or time is up."""
    return wait_for(lambda: bool(holds()), limit_s)


def plan_of(run: str, phases: int, goal: str) -> str:
    """A plan file of a run whose phases have this goal."""
    each = {"category": "docs", "complexity": "low", "goal": goal}
    made = [{"phase_id": f"p{number}", **each} for number in range(phases)]
    return json.dumps({"run_id": run, "phases": made})


def seed(run: str, phases: int, seconds: int, goal: str = "") -> subprocess.CompletedProcess[str]:
    """Register a run whose phases take so long each; the daemon takes it up, if there is one."""
    plan = HOME / f"{run}.json"
    plan.write_text(plan_of(run, phases, goal or f"sleep for {seconds} seconds"))
    return runoff("seed", "--plan", plan.name)


def attempts(run: str) -> list[dict[str, Any]]:
    """The attempts of a run, as the log has them."""
    return rows("attempt", "list", "--run", run)


def opened(run: str) -> list[dict[str, Any]]:
    """Those of them that run."""
    return [each for each in attempts(run) if each["finished_pos"] is None]


def drained(run: str) -> bool:
    """Whether every phase of the run is complete."""
    phases = rows("phase", "list", "--run", run)
    return bool(phases) and all(phase["state"] == "COMPLETE" for phase in phases)


def tried_twice(run: str) -> list[str]:
    """Phases of the run with more than one attempt."""
    phases = [each["phase_id"] for each in attempts(run)]
    return sorted({phase for phase in phases if phases.count(phase) > 1})


def at_work() -> list[int]:
    """Processes of attempts that live."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"RUNOFF_ATTEMPT_ID=" in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def of_user() -> list[str]:
    """What the unit's user has running."""
    return call("ps", "-u", "runoff", "-o", "args=").stdout.split("\n")[:-1]
