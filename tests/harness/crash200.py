"""The crash test that other queues were given: two hundred tasks, and an engine that keeps dying.

Every task must be done exactly once as the log tells it, and what executed besides must be an
attempt that was closed with its true reason, and repeated.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from tests.harness.kill import kill_all
from tests.harness.place import Place
from tests.harness.processes import kill_tree
from tests.harness.tally import Tally

TASKS = 200
WORKERS = 8
LONGEST_S = 0.5
CRASHES_MAX = 60
LIVES_S = (0.2, 2.0)
"""How long an engine works before it dies."""


def crash200(
    folder: Path,
    seed: int,
    template: str,
    tell: Callable[[str], None] = lambda _line: None,
    *,
    tasks: int = TASKS,
) -> dict[str, Any]:
    """Run it once with ``tasks`` tasks, in tens; what it came to, with times in seconds."""
    chance, tally, began_s = random.Random(seed), Tally(), monotonic()
    place = Place(folder / "place", tasks, WORKERS, LONGEST_S, 5, template)
    try:
        while not _life(place, chance, tally):
            tell(f"crash {sum(tally.rounds.values())}: {len(place.succeeded())} tasks tried")
        found = _account(place, tally)
    finally:
        kill_all(place)
    return {
        "harness": "crash200",
        "seed": seed,
        "seconds": round(monotonic() - began_s, 1),
        **found,
        **tally.json(),
    }


def _life(place: Place, chance: random.Random, tally: Tally) -> bool:
    """One engine, which dies unless it has crashed often enough; whether the work is done."""
    engine = place.start()
    ready_s = engine.ready_s()
    if ready_s is None:
        tally.found("misbehaved", [engine.complaint()], "start")
        return True
    tally.ready_s.append(ready_s)
    tally.found("left_open", place.not_recovered(), "recovered")
    crashes = sum(tally.rounds.values())
    code = engine.wait(chance.uniform(*LIVES_S) if crashes < CRASHES_MAX else 300)
    if code is not None:
        if code:
            tally.found("misbehaved", [f"{code} {engine.complaint()}"], "end")
        return True
    way = chance.choice(["leader", "group", "tree"])
    tally.rounds[way] += 1
    if way == "tree":
        kill_tree(engine.pid, place.folder)
        engine.process.wait()
    elif way == "group":
        engine.kill_group()
    else:
        engine.kill()
    return False


def _account(place: Place, tally: Tally) -> dict[str, Any]:
    succeeded = place.succeeded()
    executed = Counter(p.name.rpartition(".")[0] for p in (place.folder / "done").iterdir())
    lost = [phase for phase, times in succeeded.items() if times == 0]
    doubled = [phase for phase, times in succeeded.items() if times > 1]
    for kind, what in (
        ("acknowledged_lost", place.lost_acknowledged()),
        ("left_open", place.open_attempts()),
        ("overlapping", place.overlapping()),
        ("executed_unrecorded", place.unrecorded()),
        ("left_behind", place.running()),
        ("violations", place.violations()),
        ("misbehaved", lost + doubled),
    ):
        tally.found(kind, what, "end")
    tally.acknowledged = len(place.acknowledged)
    tally.endings.update(place.endings())
    return {
        "tasks": place.phases,
        "done_once": sum(times == 1 for times in succeeded.values()),
        "lost": place.phases - len(succeeded) + len(lost),
        "done_twice": len(doubled),
        "executions": len(list((place.folder / "ran").iterdir())),
        "ran_to_their_end_more_than_once": sum(times > 1 for times in executed.values()),
    }
