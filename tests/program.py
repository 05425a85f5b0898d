"""The program as a person runs it: in a process of its own, on a database in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def runoff(
    folder: Path, *arguments: str, database: str = "b.db"
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end in ``folder``."""
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/{database}"}
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=60,
        check=False,
    )
