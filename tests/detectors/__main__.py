"""Print, as JSON, how right ``runoff detect`` is on labelled files.

Without arguments the development data beside the checkout is used; arguments are files of the same
shape, whose names say what they are for (``*boundary*``, ``*fingerprint*``, ``*zero_yield*``).
``--misses`` prints the rows that were answered wrongly.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.detectors.scores import (
    Pair,
    accepted,
    boundary_scores,
    fingerprint_scores,
    zero_yield_scores,
)

HOME = Path(__file__).parents[2]
DATA = HOME.parent / "shared" / "data" / "detectors"
SCORERS = {
    "boundary": boundary_scores,
    "fingerprint": fingerprint_scores,
    "zero-yield": zero_yield_scores,
}


def answered(kind: str, path: Path) -> list[Pair]:
    """Every labelled row of a file with the program's answer to it."""
    done = subprocess.run(
        [sys.executable, "-m", "engine", "detect", kind, "--jsonl"],
        input=path.read_bytes(),
        capture_output=True,
        check=True,
        cwd=HOME,
    )
    told = {answer["id"]: answer for answer in map(json.loads, done.stdout.splitlines())}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [(row, told[row["id"]]) for row in rows]


def is_wrong(kind: str, pair: Pair) -> bool:
    row, told = pair
    if kind == "boundary":
        return told["kind"] not in accepted(row)
    if kind == "zero-yield":
        return told["reason"] not in {row["label"]["reason"], *row["label"]["alt"]}
    return False


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.detectors", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--misses", action="store_true")
    options = parser.parse_args()
    report: dict[str, Any] = {}
    files = options.files or sorted(DATA.glob("dev_*.jsonl"))
    if not files:
        parser.error("the development data is not beside the checkout; name files of your own")
    for path in files:
        kind = next(kind for kind in SCORERS if kind.replace("-", "_") in path.name)
        pairs = answered(kind, path)
        report[path.stem] = SCORERS[kind](pairs)
        if options.misses:
            for row, told in pairs:
                if is_wrong(kind, (row, told)):
                    sys.stderr.write(f"{json.dumps({**row, 'told': told}, ensure_ascii=False)}\n")
    sys.stdout.write(f"{json.dumps(report, indent=1)}\n")


main()
