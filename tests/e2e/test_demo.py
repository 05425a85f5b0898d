"""The demo, as a newcomer runs it: every part of its backlog plays as it should."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


def test_the_demo_drains_its_backlog_as_its_parts_say(tmp_path: Path) -> None:
    # As from a checkout, where nothing has put `runoff` on the path.
    without = os.environ | {"PATH": "/usr/bin:/bin"}
    assert shutil.which("runoff", path=without["PATH"]) is None
    shown = subprocess.run(
        [sys.executable, "-m", "engine", "demo", "--directory", str(tmp_path)],
        capture_output=True,
        env=without,
        text=True,
        timeout=100,
        check=True,
    )
    assert "Why nightly-import-" in shown.stdout
    told = shown.stdout.partition("Look around:\n")[2].splitlines()
    lines = [line for line in told if line.startswith("  ")]
    assert len(lines) == 4
    for line in lines:
        subprocess.run(line, shell=True, env=without, timeout=60, check=True, capture_output=True)
    (database,) = tmp_path.glob("*.db")
    listed = subprocess.run(
        [sys.executable, "-m", "engine", "run", "list", "--json"],
        capture_output=True,
        text=True,
        env={"DATABASE_URL": f"sqlite:///{database}"},
        timeout=60,
        check=True,
    )
    runs = {run["run_id"]: run for run in json.loads(listed.stdout)}
    for name in ("webshop-search-v1", "webshop-checkout-v1", "docs-refresh-v2", "config-tidy-v1"):
        assert (runs[name]["standing"], runs[name]["failed"]) == ("promising", 0), name
        assert runs[name]["succeeded"] >= 2
    assert runs["media-transcode-v1"]["timed_out"] == 2
    imports = [run for name, run in runs.items() if name.startswith("nightly-import-")]
    assert sum(run["standing"] == "deprioritized" for run in imports) == 5
