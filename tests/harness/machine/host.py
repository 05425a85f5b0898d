"""Start the machine, and hear what it finds: one object."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.harness.machine.debian import Machine, machine, why_not

# A Saturday, when the windows of the shipped settings are open.
CLOCK = "2026-11-28T12:00:00"
MEMORY_MIB = 2048
LIMIT_S = 5400
CHECKS = (
    *("start", "reload", "kill", "watchdog", "watchdog in the journal"),
    *("out of memory", "locked out", "stop", "refuse"),
    *("proof", "reset", "boot", "proof after the reset"),
)
CONTAINER = ("container build", "container start", "container stop", "container replaced")


def service(
    folder: Path, tell: Callable[[str], None], *, containers: bool, acceleration: str
) -> dict[str, Any]:
    """Make a machine, let its own systemd (and podman) handle the program, say what came of it."""
    missing = why_not()
    if missing:
        return {"ok": True, "skipped": missing}
    made = machine(folder, tell, containers=containers)
    return verdict(_heard(made, folder, tell, acceleration), containers=containers)


def verdict(heard: Sequence[dict[str, Any]], *, containers: bool) -> dict[str, Any]:
    """Well only if every check was told of and none found a problem: silence is no success."""
    expected = (*CHECKS, *(CONTAINER if containers else ()), "end")
    told = [line["check"] for line in heard]
    problems = [f"{line['check']}: {problem}" for line in heard for problem in line["problems"]]
    problems += [f"{name}: not told of" for name in expected if name not in told]
    return {"ok": not problems, "problems": problems, "checks": list(heard)}


def _heard(
    made: Machine, folder: Path, tell: Callable[[str], None], acceleration: str
) -> list[dict[str, Any]]:
    """What it says through its second serial port until it turns itself off."""
    heard: list[dict[str, Any]] = []
    with subprocess.Popen(_command(made, folder, acceleration), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip():
                    heard.append(json.loads(line))
                    tell(f"{heard[-1]['check']}: {heard[-1]['problems'] or 'as it should be'}")
        finally:
            process.kill()
    return heard


def _command(made: Machine, folder: Path, acceleration: str) -> list[str]:
    drive = f"file={made.disk},format=raw,if=virtio,cache=writeback"
    return [
        *("timeout", str(LIMIT_S), "qemu-system-x86_64", "-machine", "q35", "-accel", acceleration),
        *("-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-rtc", f"base={CLOCK}"),
        *("-kernel", str(made.kernel), "-initrd", str(made.first_disk)),
        *("-append", "root=/dev/vda rw console=ttyS0 systemd.journald.forward_to_console=1"),
        *("-drive", drive, "-device", "virtio-rng-pci"),
        *("-serial", f"file:{folder / 'console.log'}", "-serial", "stdio"),
    ]
