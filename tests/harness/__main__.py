"""``python -m tests.harness``: end engines in every way there is, and show what it came to.

python -m tests.harness kill --rounds 1000 --seed 0 --json
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.harness.crash200 import crash200
from tests.harness.engine_process import ENGINE
from tests.harness.faults import Faults
from tests.harness.kill import Rounds
from tests.harness.longlog import longlog
from tests.harness.machine.host import service
from tests.harness.powercut import MEBIBYTES, powercut
from tests.harness.throughput import throughput


def main(arguments: list[str] | None = None) -> int:
    """Run one harness and print one JSON object; 0 when nothing was wrong, else 6."""
    options = _parser().parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="runoff-harness-", dir=options.folder))
    found = options.work(options, folder)
    sys.stdout.write(json.dumps(found, indent=None if options.json else 2) + "\n")
    if found["ok"] and not options.keep:
        shutil.rmtree(folder)
    else:
        sys.stderr.write(f"kept: {folder}\n")
    return 0 if found["ok"] else 6


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.harness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(required=True)
    kill = _harness(kinds, "kill", _kill)
    kill.add_argument("--rounds", type=int, default=20)
    kill.add_argument("--phases", type=int, default=200, help="of each fresh log")
    kill.add_argument("--workers", type=int, default=4)
    kill.add_argument("--kinds", default="", metavar="A,B", help="only these ways")
    kill.add_argument("--no-audit", action="store_true", help="verify only; faster")
    _harness(kinds, "crash200", _crash200)
    cuts = _harness(kinds, "powercut", _powercut)
    cuts.add_argument("--rounds", type=int, default=10)
    cuts.add_argument("--file-system", choices=tuple(MEBIBYTES), default="ext4")
    rate = _harness(kinds, "throughput", _throughput)
    rate.add_argument("--attempts", type=int, default=6400)
    rate.add_argument("--children", action="store_true", help="real processes that sleep")
    long = _harness(kinds, "longlog", _longlog)
    long.add_argument("--events", type=int, default=1_000_000)
    long.add_argument("--log-folder", metavar="PATH", help="keep the log there, for the next time")
    own = _harness(kinds, "service", _service)
    own.add_argument("--no-container", action="store_true", help="the unit only; half the time")
    own.add_argument("--accel", default="tcg", metavar="NAME", help="QEMU's: tcg (slow), kvm")
    faults = _harness(kinds, "faults", _faults)
    faults.add_argument("--rounds", type=int, default=0, help="default: each kind once")
    faults.add_argument("--kinds", default="", metavar="A,B", help="only these")
    return parser


def _harness(kinds: Any, name: str, work: Any) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = kinds.add_parser(name, help=work.__doc__)
    parser.set_defaults(work=work)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="on one line")
    parser.add_argument("--folder", help="where the logs are made; default: the system's own")
    parser.add_argument("--keep", action="store_true", help="keep the logs even when all held")
    parser.add_argument("--engine", default=ENGINE, metavar="TEXT", help="the command under test")
    return parser


def _progress(line: str) -> None:
    sys.stderr.write(line + "\n")


def _faults(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let disks fail and files be damaged."""
    faults = Faults(folder, options.seed, options.engine, _progress)
    faults.kinds = {
        kind: way
        for kind, way in faults.kinds.items()
        if not options.kinds or kind in options.kinds.split(",")
    }
    tally = faults.run(options.rounds or len(faults.kinds))
    return {"harness": "faults", "seed": options.seed, **tally.json()}


def _powercut(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Cut the power under engines, where root and loop devices allow it."""
    kind = options.file_system
    tally = powercut(
        folder, options.rounds, options.seed, options.engine, _progress, file_system=kind
    )
    return {"harness": "powercut", "seed": options.seed, "file_system": kind, **tally.json()}


def _throughput(options: argparse.Namespace, _folder: Path) -> dict[str, Any]:
    """How much of the ideal throughput 50 ms phases keep, and what an attempt costs."""
    return {"harness": "throughput", **throughput(options.attempts, children=options.children)}


def _longlog(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """How fast a long log opens, and what replaying it takes."""
    found = longlog(Path(options.log_folder or folder), options.events, _progress)
    return {"harness": "longlog", **found}


def _service(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Let the systemd and the podman of a machine of its own handle the unit and the container."""
    containers = not options.no_container
    found = service(folder, _progress, containers=containers, acceleration=options.accel)
    return {"harness": "service", **found}


def _crash200(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Two hundred tasks and an engine that keeps dying."""
    return crash200(folder, options.seed, options.engine, _progress)


def _kill(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """End engines and let others recover."""
    rounds = Rounds(
        folder,
        options.rounds,
        options.seed,
        options.engine,
        options.phases,
        options.workers,
        audited=not options.no_audit,
        kinds=tuple(filter(None, options.kinds.split(","))),
        tell=_progress,
    )
    return {"harness": "kill", "seed": options.seed, **rounds.run().json()}


if __name__ == "__main__":
    sys.exit(main())
