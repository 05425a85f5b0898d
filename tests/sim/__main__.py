"""``python -m tests.sim``: simulate drain sessions, or prove that planted bugs are found.

  python -m tests.sim --sessions 10000 --seed 0
  python -m tests.sim --planted
  python -m tests.sim --sessions 1 --seed 4711 --plant "tier order ignored"

Session i of a run has the seed S + i, so a failing one is repeated by its seed alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

from tests.sim import planted
from tests.sim.coverage import everything, table
from tests.sim.runner import Found, Job, Tally, search, tallies

PLANTED_SESSIONS = 2000
SHOWN = 10
PROGRESS_EVERY_S = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 when every session held, or every planted bug was found."""
    options = _parser().parse_args(arguments)
    return _prove(options) if options.planted else _simulate(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sim",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sessions", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--all", action="store_true", help="also what plan.ON_DEMAND names")
    parser.add_argument("--json", action="store_true", help="the result as one JSON object")
    parser.add_argument("--planted", action="store_true", help="prove that planted bugs are found")
    parser.add_argument("--plant", metavar="NAME", help="simulate with one planted bug")
    return parser


def _simulate(options: argparse.Namespace) -> int:
    seeds = range(options.seed, options.seed + options.sessions)
    began_s, tally, told_s = time.monotonic(), Tally(), 0.0
    for part in tallies(Job(seeds, options.all, options.plant), options.workers):
        tally.merge(part)
        now_s = time.monotonic()
        if now_s - told_s > PROGRESS_EVERY_S:
            told_s = now_s
            sys.stderr.write(
                f"{tally.sessions} of {len(seeds)} sessions, {tally.broken} broken,"
                f" {tally.sessions / (now_s - began_s):.0f} a second\n"
            )
    cpu_s = _cpu_s()
    shown = _as_json(tally, cpu_s, options) if options.json else _as_words(tally, cpu_s, options)
    _say(shown)
    return 1 if tally.broken else 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _repeat(seed: int, options: argparse.Namespace) -> str:
    command = f"python -m tests.sim --sessions 1 --seed {seed}"
    command += " --all" if options.all else ""
    return command + (f' --plant "{options.plant}"' if options.plant else "")


def _as_words(tally: Tally, cpu_s: float, options: argparse.Namespace) -> str:
    lines = [*table(tally.reached), ""]
    for outcome in sorted(tally.failed, key=lambda each: each.seed)[:SHOWN]:
        lines.append(f"seed {outcome.seed} broke {outcome.violations[0].invariant}:")
        lines += [f"  {each.what} (at {each.pos})" for each in outcome.violations[:SHOWN]]
        lines.append(f"  repeat: {_repeat(outcome.seed, options)}")
    lines.append(
        f"{tally.sessions} sessions with {tally.attempts} attempts and {tally.events} events;"
        f" {tally.broken} broke an invariant; {cpu_s:.1f} s of CPU,"
        f" {tally.sessions / cpu_s * 60:.0f} sessions a CPU minute."
    )
    return "\n".join(lines)


def _as_json(tally: Tally, cpu_s: float, options: argparse.Namespace) -> str:
    failed = [
        {
            "seed": outcome.seed,
            "violations": [each._asdict() for each in outcome.violations[:SHOWN]],
            "repeat": _repeat(outcome.seed, options),
        }
        for outcome in sorted(tally.failed, key=lambda each: each.seed)
    ]
    found: dict[str, Any] = {
        "sessions": tally.sessions,
        "attempts": tally.attempts,
        "events": tally.events,
        "broken": tally.broken,
        "cpu_s": round(cpu_s, 2),
        "reached": dict(sorted(tally.reached.items())),
        "never_reached": [name for name in everything() if not tally.reached[name]],
        "failed": failed,
    }
    return json.dumps(found, indent=2)


def _prove(options: argparse.Namespace) -> int:
    seeds = range(options.seed, options.seed + PLANTED_SESSIONS)
    bugs = [bug for bug in planted.BUGS if options.plant in (None, bug.name)]
    results: dict[str, Found | None] = {}
    for bug in bugs:
        results[bug.name] = found = search(bug, seeds)
        if not options.json:
            _say(_line(bug, found))
    missed = [name for name, found in results.items() if found is None]
    if options.json:
        shown = {name: found and _found_json(found) for name, found in results.items()}
        _say(json.dumps(shown, indent=2))
    else:
        _say(f"{len(bugs) - len(missed)} of {len(bugs)} planted bugs were found.")
    return 1 if missed else 0


def _line(bug: planted.Bug, found: Found | None) -> str:
    if found is None:
        return f"{'NEVER':>6}  {bug.name}"
    marks = " ".join(found.invariants[:4])
    return f"{found.sessions:>6}  {bug.name}: {marks} ({found.violation.what:.100})"


def _found_json(found: Found) -> dict[str, Any]:
    return {
        "sessions": found.sessions,
        "seed": found.seed,
        "invariants": found.invariants,
        "what": found.violation.what,
    }


if __name__ == "__main__":
    raise SystemExit(main())
