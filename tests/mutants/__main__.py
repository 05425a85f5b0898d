"""``python -m tests.mutants``: plant bugs in copies of the rules, and see which the tests find.

  python -m tests.mutants                               # all that are listed; 1 if one survives
  python -m tests.mutants --only 'breaker: *'
  python -m tests.mutants --sample 12 --seed 7 --jobs 2
  python -m tests.mutants --auto engine/triage/rules.py # systematic ones, made from the syntax

A mutant is killed when a test fails that must see it, survives when all hold, and is an error when
the words that it changes do not stand in the source exactly once.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from tests.mutants import automatic
from tests.mutants.bench import Broken, Result, results
from tests.mutants.catalogue import Mutant, listed, modules_for, stale

SURVIVED, WRONG = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them; 0 when all were killed, 1 when some survived, 2 when some do not apply."""
    options = _parser().parse_args(arguments)
    if options.auto:
        tests = tuple(options.tests) or modules_for(options.auto)
        if not tests:
            _say(f"{options.auto} has no list; name the tests that answer for it with --tests.")
            return WRONG
        mutants = automatic.mutants_of(options.auto, tests)
        _say(*[f"no longer made  {name}" for name in _gone(options.auto, mutants)])
    else:
        mutants = listed()
        wrong = stale(mutants)
        if wrong:
            _say(*[f"does not apply  {each}" for each in wrong])
            return WRONG
    mutants = [m for m in mutants if fnmatchcase(m.name, options.only)]
    if not mutants:
        _say(f"no mutant is called {options.only!r}.")
        return WRONG
    if options.sample is not None:
        chosen = random.Random(options.seed)
        mutants = chosen.sample(mutants, min(options.sample, len(mutants)))
    try:
        return _try_all(mutants, options.jobs, verbose=options.verbose)
    except Broken as error:
        _say(f"broken  {error}")
        return WRONG


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", metavar="GLOB", default="*", help="those whose names match")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--auto", metavar="FILE", help="make mutants of FILE from its syntax")
    parser.add_argument("--tests", nargs="*", default=[], help="with --auto: other test modules")
    parser.add_argument("--verbose", action="store_true", help="say what killed each, and when")
    return parser


def _gone(path: str, mutants: Sequence[Mutant]) -> list[str]:
    """What is called equivalent of a file that reads otherwise by now."""
    known = {name for name in automatic.known_as_equivalent() if name.startswith(f"{path} ")}
    return sorted(known - {mutant.name for mutant in mutants})


def _try_all(mutants: Sequence[Mutant], jobs: int, *, verbose: bool) -> int:
    began_s = time.monotonic()
    known = automatic.known_as_equivalent()
    counts: Counter[str] = Counter()
    for result in results(mutants, jobs):
        word = _word(result, known)
        counts[word] += 1
        if verbose or word == "survived":
            _say(*_shown(word, result))
    told = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    _say(f"{len(mutants)} mutants: {told} in {time.monotonic() - began_s:.0f} s")
    return SURVIVED if counts["survived"] else 0


def _word(result: Result, known: frozenset[str]) -> str:
    if result.killed:
        return "killed"
    return "equivalent" if result.mutant.name in known else "survived"


def _shown(word: str, result: Result) -> list[str]:
    mutant, answer = result.mutant, result.answer
    lines = [f"{word}  {mutant.name}  ({answer.took_s:.1f} s)"]
    if word == "killed":
        return [*lines, f"    {answer.said[:160]}"]
    changed = [f"    - {line}" for line in mutant.old.splitlines()]
    return [*lines, *changed, *[f"    + {line}" for line in mutant.new.splitlines()]]


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
