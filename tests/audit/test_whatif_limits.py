"""What a what-if says of provider limits, held against real drains that met the same ones.

When an attempt is made may differ, so a pause is told by how long it lasts.
"""

from __future__ import annotations

import os
import random
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime

import pytest
from msgspec.structs import replace

from engine.audit.lines import commands
from engine.audit.whatif import walked
from engine.audit.whatif_result import WhatIf, said
from engine.events import AttemptFinished, Reason
from engine.executors.scripted import Rule
from engine.store.blobs import MemoryBlobs
from engine.triage.policy import Policy
from tests.audit.test_whatif_decisions import DEMOTED, MORE_CHANGES
from tests.audit.test_whatif_really import DEFAULT, outcome
from tests.audit.whatif_drains import Drained, Run, drained, horizons, succeeds

SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "60")))
PAUSES_MS: tuple[int | None, ...] = (None, 5000, 600_000)
DEFERRALS: tuple[int | None, ...] = (1, 2, None)
LIMIT_CHANGES: list[dict[str, object]] = [
    *(dict[str, object](provider_pause_ms=pause_ms) for pause_ms in PAUSES_MS),
    {"provider_pause_max_ms": 60_000},
    *(dict[str, object](deferrals_per_phase_max=most) for most in DEFERRALS),
]
WORDS = (
    "429 rate limit exceeded",
    "429 rate limit exceeded, try again in 90s",
    "429 rate limit exceeded, try again in 20m",
    "Error: insufficient_quota: You exceeded your current quota",
    "overloaded_error: Overloaded",
)
_UNTIL = re.compile(r"until (\S+Z)")
_ATTEMPT = re.compile(r"att_\w+")
Told = Mapping[tuple[str, str], list[tuple[str, ...]]]


def limited(random_: random.Random) -> Rule:
    """An attempt that meets a limit: waits for its deadline, yields usage or does well."""
    words, usage = random_.choice(WORDS), succeeds(random_.randint(1, 50)).usage
    rule = Rule(rc=1, stderr=words, sleep=random_.choice([1.0, 60.0, 400.0]))
    changes: list[dict[str, object]] = [
        {"sleep": 9000.0},
        {"usage": usage},
        {"usage": usage, "rc": 0},
        *[{}] * 3,
    ]
    return replace(rule, **random_.choice(changes))


def world(seed: int) -> tuple[list[Run], Policy, Policy]:
    """Runs of which every phase ends otherwise than by a limit in the end, and two policies."""
    random_ = random.Random(seed)
    old = ("timeout", "import", "odd")
    runs = [
        Run(
            f"r{number}",
            random_.choice(["strict", "free"]),
            [
                [random_.choice([outcome, limited])(random_) for _ in range(5)] + [outcome(random_)]
                for _ in range(random_.randint(1, 3))
            ],
            {f"p{each}": random_.choice(old) for each in range(3) if random_.random() < 0.3},
        )
        for number in range(random_.randint(1, 6))
    ]
    one = replace(DEFAULT, **random_.choice([{}, {}, *MORE_CHANGES, *LIMIT_CHANGES]))
    other = replace(one, **random_.choice([*LIMIT_CHANGES, random_.choice(MORE_CHANGES)]))
    return runs, one, other


def told(log: Drained, found: WhatIf | None = None) -> Told:
    """What was decided at every end, by phase; or what ``found`` says instead, up to horizons."""
    instead = {each.attempt_id: each.instead for each in found.differing} if found else {}
    left_out = {each.attempt_id for each in found.not_made} if found else set[str]()
    beyond: Mapping[str, int] = horizons(found) if found else {}
    told: dict[tuple[str, str], list[tuple[str, ...]]] = defaultdict(list)
    for lines in commands(log.lines):
        for at, line in enumerate(lines):
            end = line.event
            if not isinstance(end, AttemptFinished) or end.attempt_id in left_out:
                continue
            if line.pos < beyond.get(end.run_id, 1 << 62):
                behind = [each.event for each in lines[at + 1 :]]
                is_reasoned = [isinstance(getattr(e, "reason", None), Reason) for e in behind]
                texts = [said(e) for e, is_so in zip(behind, is_reasoned, strict=True) if is_so]
                chosen = instead.get(end.attempt_id, texts)
                texts = [plain(text, line.recorded_us) for text in chosen]
                told[end.run_id, end.phase_id].append(tuple(texts))
    return told


def plain(text: str, now_us: int) -> str:
    def lasting(until: re.Match[str]) -> str:
        return f"for {datetime.fromisoformat(until[1]).timestamp() - now_us / 1e6:.0f} s"

    return _UNTIL.sub(lasting, _ATTEMPT.sub("it", text)).removesuffix(DEMOTED)


async def held(seed: int) -> tuple[Told, Told, WhatIf]:
    runs, one, other = world(seed)
    blobs = MemoryBlobs()
    recorded = await drained(runs, one, blobs=blobs)
    really = told(await drained(runs, other, blobs=MemoryBlobs()))
    found = walked(commands(recorded.lines), other, blobs.get)
    beyond, claimed = horizons(found), told(recorded, found)
    known = {
        key: each[: len(claimed.get(key, ()))] if key[0] in beyond else each
        for key, each in really.items()
        if key[0] not in beyond or key in claimed
    }
    return claimed, known, found


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_up_to_its_horizon_a_run_that_meets_limits_is_decided_as_by_a_real_drain(
    seed: int,
) -> None:
    claimed, known, _ = await held(seed)
    assert claimed == known


async def test_the_worlds_above_reach_pauses_on_both_sides_of_the_horizon() -> None:
    seen: Counter[str] = Counter()
    for seed in range(20):
        claimed, _, found = await held(seed)
        seen["beyond" if found.horizons else "known"] += 1
        texts = [text for ends in claimed.values() for end in ends for text in end]
        seen["pauses"] += any(" pauses for " in text for text in texts)
        seen["differs"] += bool(found.differing)
    assert min(seen[name] for name in ("beyond", "known", "pauses", "differs")) >= 2, seen
