"""What is tried inside a machine of its own with the container file: build, start, stop, kill.

There is no registry in there: the image that the file begins with is a Debian with Python under
the name that the file gives, and packages come from a folder of wheels.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

from tests.harness.machine.asking import (
    CHECK,
    LONG_S,
    Problems,
    call,
    plan_of,
    read,
    tell,
    wait_until,
)

FILES = CHECK / "src" / "docs" / "how-to" / "files"
BASE = "docker.io/library/python:3.13-slim"
STOP_S = 10
CONFIGURED = ("log", "show", "--type", "daemon.configured", "--json")
BUILD_S = 1800
BESIDE = ("--volume", "data:/data", "--network", "none")


def inside(name: str, *command: str) -> str:
    """What a command says in a running container."""
    return call("podman", "exec", name, "runoff", *command).stdout


def rows(name: str, *command: str) -> list[dict[str, Any]]:
    """What it prints as JSON."""
    return read(inside(name, *command, "--json"))


def drained(name: str, run: str) -> bool:
    """Whether every phase of the run is complete."""
    found = rows(name, "phase", "list", "--run", run)
    return bool(found) and all(row["state"] == "COMPLETE" for row in found)


def opened(name: str, run: str) -> list[str]:
    """Attempts of the run that have no end."""
    found = rows(name, "attempt", "list", "--run", run)
    return [row["attempt_id"] for row in found if row["finished_pos"] is None]


def healthy(name: str) -> bool:
    """By the container file's own health check."""
    return call("podman", "healthcheck", "run", name).returncode == 0


def once(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run something else in the image, beside the volume."""
    return call("podman", "run", "--rm", "--entrypoint", program, *BESIDE, "runoff", *arguments)


def start(name: str) -> None:
    """As the page says: a named volume, and an init for orphans."""
    call("podman", "run", "--detach", "--init", "--name", name, *BESIDE, "runoff")


def built(problems: Problems) -> None:
    """The image, from the file as it is shipped."""
    changes = ["PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels", "PIP_BREAK_SYSTEM_PACKAGES=1"]
    given = [word for change in changes for word in ("--change", f"ENV {change}")]
    base = call("podman", "import", *given, str(CHECK / "base.tar"), BASE, limit_s=BUILD_S)
    problems.unless(base.returncode == 0, base.stderr[-400:])
    wheels = f"{CHECK}/wheels:/wheels:ro"
    file = str(FILES / "Containerfile")
    how = ["--network", "none", "--format", "docker", "--volume", wheels, "--file", file]
    done = call("podman", "build", *how, "--tag", "runoff", str(CHECK / "src"), limit_s=BUILD_S)
    problems.unless(done.returncode == 0, done.stderr[-800:])


def furnished(problems: Problems) -> Path:
    """The volume, with settings and an agent in it; where it is mounted."""
    call("podman", "volume", "create", "data")
    first = once("id")
    problems.unless("runoff" in first.stdout, f"it runs as {first.stdout} {first.stderr}")
    shown = call("podman", "volume", "inspect", "--format", "{{.Mountpoint}}", "data")
    place = Path(shown.stdout.strip())
    shutil.copy(FILES / "daemon.toml", place)
    shutil.copy(CHECK / "agent", place)
    call("chown", "-R", f"--reference={place}", str(place))
    return place


def seeded(name: str, place: Path, run: str, seconds: int) -> None:
    """A run of three phases that take so long each."""
    (place / f"{run}.json").write_text(plan_of(run, 3, f"sleep for {seconds} seconds"))
    inside(name, "seed", "--plan", f"{run}.json")


def container() -> None:
    """Build, start, reload, stop, kill, and let another take over."""
    problems, begun_s = Problems(), monotonic()
    built(problems)
    place = furnished(problems)
    tell("container build", problems, seconds=round(monotonic() - begun_s))
    if not problems:
        runs(place)
        stops(place)
        is_replaced(place)


def runs(place: Path) -> None:
    """It becomes healthy, drains what is seeded, and reads its settings again when told."""
    problems = Problems()
    first = once("runoff", "seed")
    problems.unless(first.returncode == 0, f"seed: {first.stderr[-400:]}")
    start("one")
    problems.unless(wait_until(lambda: healthy("one")), call("podman", "logs", "one").stderr[-400:])
    seeded("one", place, "quick", 0)
    problems.unless(wait_until(lambda: drained("one", "quick")), "a quick run was not drained")
    call("podman", "kill", "--signal", "HUP", "one")
    read_again = partial(inside, "one", *CONFIGURED)
    heard = wait_until(lambda: '"reloaded"' in read_again(), 60)
    problems.unless(heard, "no event of a reload")
    tell("container start", problems)


def stops(place: Path) -> None:
    """``podman stop`` ends it before the runtime would kill it."""
    problems = Problems()
    seeded("one", place, "stopped", LONG_S)
    problems.unless(wait_until(lambda: opened("one", "stopped")), "no attempt began")
    begun_s = monotonic()
    call("podman", "stop", "--time", str(STOP_S), "one")
    took_s = monotonic() - begun_s
    code = call("podman", "inspect", "--format", "{{.State.ExitCode}}", "one").stdout.strip()
    problems.unless(code == "0", f"its exit code is {code}")
    call("podman", "start", "one")
    problems.unless(wait_until(lambda: healthy("one")), "it did not start again")
    problems.unless(wait_until(lambda: drained("one", "stopped")), "the run was not drained")
    tell("container stop", problems, seconds=round(took_s, 2))


def is_replaced(place: Path) -> None:
    """Killed with all that it holds; a new container, of another host name, takes over."""
    problems = Problems()
    seeded("one", place, "killed", LONG_S)
    problems.unless(wait_until(lambda: opened("one", "killed")), "no attempt began")
    before = opened("one", "killed")
    call("podman", "kill", "one")
    call("podman", "rm", "--force", "one")
    start("two")
    problems.unless(wait_until(lambda: healthy("two")), call("podman", "logs", "two").stderr[-400:])
    problems.unless(wait_until(lambda: drained("two", "killed")), "the run was not drained")
    found = rows("two", "attempt", "list", "--run", "killed")
    ends = {row["attempt_id"]: row["ending"] for row in found}
    for attempt in before:
        problems.unless(ends.get(attempt) == "orphaned", f"{attempt} ended {ends.get(attempt)}")
    for command in ("audit", "verify"):
        done = call("podman", "exec", "two", "runoff", command)
        problems.unless(done.returncode == 0, f"{command}: {done.stdout[-400:]}")
    call("podman", "stop", "--time", str(STOP_S), "two")
    tell("container replaced", problems, orphaned=len(before))
