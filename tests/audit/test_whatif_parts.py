"""What a what-if claims of many workers and sessions, held against real drains of the same backlog.

With the recorded policy nothing differs, and every attempt is made, saved or unknown.  Without a
horizon each phase is attempted, ends and is decided as in the real drain, and so it is up to the
first horizon of all; behind that one runs may share causes with what is unknown.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import NamedTuple

import pytest

from engine.audit.lines import commands
from engine.audit.whatif import walked
from engine.audit.whatif_result import WhatIf, said
from engine.events import AttemptFinished, Reason
from engine.store.blobs import MemoryBlobs
from tests.audit.test_whatif_limits import plain
from tests.audit.whatif_drains import Drained, told
from tests.audit.whatif_parts import drained_in_parts, stopped_as_in, world

TOLD_WRONG_ONCE = (622, 938, 1515, 2130, 2233)
SEEDS = (*range(int(os.environ.get("RUNOFF_SIM_SEEDS", "60"))), *TOLD_WRONG_ONCE)
NO_END = 1 << 62


class End(NamedTuple):
    """How an attempt of a phase ended, and what was decided then."""

    has_succeeded: bool
    tokens: int
    decided: tuple[str, ...]


Ends = Mapping[tuple[str, str], list[End]]


class Held(NamedTuple):
    """A record, what a real drain under the other policy did, and what was said of it."""

    recorded: Drained
    really: Drained
    found: WhatIf
    same: WhatIf


async def held(seed: int) -> Held:
    runs, one, other, parts, chooser = world(seed)
    blobs = MemoryBlobs()
    recorded = await drained_in_parts(runs, one, parts, chooser=chooser, blobs=blobs)
    parts = stopped_as_in(recorded, parts)
    really = await drained_in_parts(runs, other, parts, acts=chooser.acts, blobs=MemoryBlobs())
    found, same = (walked(commands(recorded.lines), each, blobs.get) for each in (other, one))
    return Held(recorded, really, found, same)


def ends(log: Drained, found: WhatIf | None = None, before: int = NO_END) -> Ends:
    """The ends of each phase's attempts in the log, or what ``found`` makes of them."""
    instead = {each.attempt_id: each.instead for each in found.differing} if found else {}
    left_out = {each.attempt_id for each in found.not_made} if found else set[str]()
    by_phase: dict[tuple[str, str], list[End]] = defaultdict(list)
    for lines in commands(log.lines):
        for at, (pos, recorded_us, end) in enumerate(
            (x.pos, x.recorded_us, x.event) for x in lines
        ):
            if not isinstance(end, AttemptFinished) or end.attempt_id in left_out or pos >= before:
                continue
            behind = [line.event for line in lines[at + 1 :]]
            texts = [said(e) for e in behind if isinstance(getattr(e, "reason", None), Reason)]
            decided = instead.get(end.attempt_id, texts)
            by_phase[end.run_id, end.phase_id].append(
                End(
                    end.ending == "succeeded",
                    end.tokens,
                    tuple(plain(text, recorded_us) for text in decided),
                )
            )
    return by_phase


def contradictions(each: Held) -> list[object]:
    """What the real drain did otherwise than was claimed."""
    recorded, really, found, same = each
    made = found.attempts_saved + found.attempts_unknown + found.attempts_made
    told_wrong: list[object] = [] if made == found.attempts else ["the attempts do not add up"]
    if (same.differing, same.not_made, same.horizons) != ((), (), ()):
        told_wrong.append("the recorded policy would have changed something")
    first = min((horizon.pos for horizon in found.horizons), default=NO_END)
    claims, facts = ends(recorded, found, first), ends(really)
    for phase in sorted({*claims, *facts}):
        claimed, came = claims.get(phase, []), facts.get(phase, [])
        if claimed != (came[: len(claimed)] if found.horizons else came):
            told_wrong.append((phase, claimed, came))
    if not found.horizons and told(recorded, found) != really.figures:
        told_wrong.append((told(recorded, found), really.figures))
    return told_wrong


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_up_to_its_first_horizon_a_what_if_is_what_many_workers_and_sessions_do(
    seed: int,
) -> None:
    assert contradictions(await held(seed)) == [], f"seed {seed}"


async def test_the_worlds_above_reach_both_sides_of_the_horizon_and_many_workers() -> None:
    seen: Counter[str] = Counter()
    for seed in range(30):
        recorded, really, found, _ = await held(seed)
        workers = {part.limits.workers for part in world(seed).parts}
        seen["beyond" if found.horizons else "known"] += 1
        seen["side by side and differs"] += max(workers) > 1 and bool(found.differing)
        seen["known and left out"] += bool(found.not_made) and not found.horizons
        seen["really other"] += recorded.figures != really.figures
    assert len(seen) == 5
    assert min(seen.values()) >= 2, seen
