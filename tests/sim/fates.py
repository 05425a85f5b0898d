"""Fates: how an attempt can go, as its executor would tell it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from msgspec.structs import replace

from engine.executors.port import Declared, Output, Rejected, Report, Telemetry, Usage

TICKS_PER_S = 64
"""Times are whole 64ths of a second, which floats add up without a rest."""


class Fate(NamedTuple):
    """One way to go.

    ``report`` is what it leaves when it ends by itself.  ``usage``: how many records at most, 0
    for silence.  ``late``: it would go on beyond its deadline.  ``vanishes``: its guardian is
    killed midway.  ``breaks``: the executor raises, before or after it has ``spawned`` anything.
    """

    report: Report = Report(ended="exited", duration_ms=0, exit_code=0, final_state="COMPLETE")
    usage: int = 0
    late: bool = False
    vanishes: bool = False
    breaks: bool = False
    spawned: bool = True


def _exit(code: int | None, **told: object) -> Report:
    report = Report(ended="exited", duration_ms=0, exit_code=code)
    return replace(report, **told)


def _failed(code: int = 1, **told: object) -> Report:
    return _exit(code, final_state="FAILED", claimed_success=False, **told)


_STUMBLED = Telemetry(
    lines_read=5,
    lines_other=2,
    rejected=(
        Rejected(why="not_json", count=2, first_line=1, excerpt="{"),
        Rejected(why="bad_fields", count=1, first_line=4, excerpt='{"type": "usage"}'),
    ),
)

FATES: Mapping[str, Fate] = {
    "done": Fate(usage=3),
    "done in silence": Fate(),
    "done without a word": Fate(_exit(0)),
    "passed on": Fate(_exit(0, final_state="CI_RUNNING", claimed_success=True), usage=1),
    "skipped": Fate(_exit(0, final_state="SKIPPED")),
    "done, deliverables missing": Fate(
        _exit(0, final_state="COMPLETE", missing_deliverables=("a.py",)), usage=1
    ),
    "database is down": Fate(_failed(reason="database is down")),
    "network is down": Fate(_failed(2, reason="the network is down"), usage=1),
    "broke in its own way": Fate(_failed(reason="{phase} of {run} broke")),
    "failed in silence": Fate(_failed(3)),
    "exit 0, but failed": Fate(_exit(0, final_state="FAILED"), usage=1),
    "put itself back": Fate(_exit(1, final_state="QUEUED", reason="try me later")),
    "validation error": Fate(_failed(reason="validation error: no goal")),
    "could not start": Fate(_failed(127, reason="cannot start agent"), spawned=False),
    "killed by a signal": Fate(_exit(None, signal=9)),
    "terminated": Fate(_failed(143), usage=1),
    "prompt too long": Fate(
        _failed(2, stderr=Output.of(b"prompt is too long: 9 tokens > 8 maximum"))
    ),
    "prompt too long, went on": Fate(
        _exit(0, final_state="COMPLETE", stderr=Output.of(b"prompt is too long: 9 > 8 maximum")),
        usage=2,
    ),
    "declared a rate limit": Fate(
        _failed(75, declared=Declared(kind="rate_limit", how="exit code"), reason="429")
    ),
    "rate limited": Fate(
        _failed(stderr=Output.of(b"429 rate limit exceeded. Please try again in 2s."))
    ),
    "waited at a limit": Fate(
        _failed(stderr=Output.of(b"429 rate limit exceeded. It resets 3am (UTC).")),
        late=True,
        usage=2,
    ),
    "worked on behind a limit": Fate(
        _failed(stderr=Output.of(b"429 rate limit exceeded, trying again\n" + b"- a step\n" * 300)),
        late=True,
    ),
    "overloaded": Fate(_failed(stderr=Output.of(b"Error: 529 overloaded_error: Overloaded"))),
    "stumbled": Fate(_failed(reason="lines were odd", telemetry=_STUMBLED)),
    "too late": Fate(late=True),
    "too late, having worked": Fate(late=True, usage=2),
    "guardian lost": Fate(vanishes=True, usage=1),
    "executor broke": Fate(breaks=True),
    "executor broke at once": Fate(breaks=True, spawned=False),
}
_NAMES = tuple(FATES)
_REPEATING = (
    "database is down",
    "network is down",
    "failed in silence",
    "too late",
    "rate limited",
    "overloaded",
)


class Mood:
    """Which fates a session tends to: few of them, so that things repeat."""

    def __init__(self, random_: random.Random) -> None:
        self._random = random_
        chosen = random_.sample(_NAMES, random_.randint(1, 5))
        if random_.random() < 0.5:
            chosen.append(random_.choice(_REPEATING))
        if random_.random() < 0.5:
            chosen.append("done")
        self._names = chosen
        self._weights = [random_.randint(1, 4) for _ in chosen]
        self._of_run: dict[str, str] = {}
        self._stubborn = random_.random() * 0.7

    def next(self, run: str) -> str:
        """The name of the next one for an attempt of ``run``; some runs always go the same way."""
        random_ = self._random
        if run not in self._of_run:
            self._of_run[run] = random_.choices(self._names, self._weights)[0]
        if random_.random() < self._stubborn:
            return self._of_run[run]
        return random_.choices(self._names, self._weights)[0]


def telemetry(random_: random.Random, fate: Fate) -> Telemetry:
    """What it writes about its calls; the numbers differ, so that they show whose they are."""
    count = random_.randint(1, fate.usage) if fate.usage else 0
    if not count:
        return fate.report.telemetry
    usage = tuple(
        Usage(line=line, source="file", input_tokens=random_.getrandbits(20), output_tokens=line)
        for line in range(1, count + 1)
    )
    return Telemetry(usage=usage, lines_read=count)


def told(report: Report, run: str, phase: str) -> Report:
    """The report with the names of its attempt in its words."""
    if report.reason is None or "{" not in report.reason:
        return report
    return replace(report, reason=report.reason.replace("{run}", run).replace("{phase}", phase))
