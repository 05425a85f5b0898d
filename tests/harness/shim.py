"""Faults at the k-th disk call of an engine, by a small library that is compiled when needed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Literal

SOURCE = Path(__file__).with_name("shim.c")
Fault = Literal["kill", "once", "on", "full"]
Call = Literal["write", "sync", "any"]


def why_not() -> str | None:
    """Why there can be no shim here; None when there can."""
    if sys.platform != "linux":
        return "calls can only be intercepted on Linux"
    return None if shutil.which("cc") else "there is no C compiler"


def built(folder: Path) -> Path:
    """The shared library, compiled into ``folder`` unless it is there."""
    library = folder / "shim.so"
    if not library.exists():
        command = ["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
    return library


def environment(
    library: Path,
    path: Path,
    fault: Fault,
    at: int,
    *,
    call: Call = "any",
    freed: Path | None = None,
) -> dict[str, str]:
    """What an engine is started with so that ``fault`` happens at its call number ``at``.

    Calls on files whose path holds ``path`` count.  ``full`` lasts until ``freed`` exists.
    """
    settings = {
        "LD_PRELOAD": str(library),
        "RUNOFF_SHIM_PATH": str(path),
        "RUNOFF_SHIM_FAULT": fault,
        "RUNOFF_SHIM_AT": str(at),
        "RUNOFF_SHIM_CALL": call,
    }
    return settings | ({"RUNOFF_SHIM_FREED": str(freed)} if freed else {})
