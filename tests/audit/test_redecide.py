"""Every decision of any simulated drain is taken again, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import cast

import pytest
from msgspec.structs import replace

from engine.audit.lines import Line, commands
from engine.audit.redecide import Redecision
from engine.events import (
    AnyEvent,
    BoundaryDetected,
    BreakerOpened,
    Classified,
    FailureFingerprinted,
    FingerprintStopped,
    PolicyAdopted,
    Reason,
    Reclassified,
    RunJudged,
    RunStopped,
    Stream,
    Told,
    encode,
    event_of,
)
from engine.store.blobs import MemoryBlobs
from engine.store.protocol import Query
from engine.triage import rules
from engine.triage.policy import Policy
from engine.triage.rules import Situation
from tests.rules.standings import finished
from tests.worlds import Simulation

BLOBS = MemoryBlobs()
REPEATS_TOO_OFTEN: Callable[[Situation, Policy], bool] = vars(rules)["_repeats_too_often"]
SEEDS = range(int(os.environ.get("RUNOFF_SIM_SEEDS", "40")))

CROWDED = range(max(6, len(SEEDS) // 8))


async def lines_of(world: Simulation) -> list[Line]:
    return [
        Line(r.pos, r.recorded_us, r.command_id, r.cause, r.data, event_of(r))
        for r in await world.store.records(Query(), limit=1_000_000)
    ]


async def drained(seed: int, *, crowded: bool = False) -> Simulation:
    world = Simulation(seed, BLOBS, crowded=crowded)
    await world.register()
    lives = world.random.randint(0, 3)
    for life in range(lives):
        await world.crash(resume=life > 0)
    await world.drain(resume=lives > 0, crash_after_s=None)
    return world


async def redecided(world: Simulation) -> Redecision:
    found = Redecision(BLOBS.get)
    for group in commands(await lines_of(world)):
        found.take(group)
    return found


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"seed-{seed}")
async def test_a_drain_is_decided_again_to_the_last_byte(seed: int) -> None:
    found = await redecided(await drained(seed))
    assert [difference.sentence for difference in found.differences] == []
    assert found.unverifiable == []
    assert found.decided["session.ended"] > 0


@pytest.mark.parametrize("seed", CROWDED, ids=lambda seed: f"seed-{seed}")
async def test_sixty_four_workers_in_any_order_are_decided_again(seed: int) -> None:
    found = await redecided(await drained(seed, crowded=True))
    assert [difference.sentence for difference in found.differences] == []
    assert found.unverifiable == []


async def test_one_changed_constant_gives_the_exact_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops one repeat later: what was due just at the limit is unexpected, and nothing else."""
    total = 0
    for seed in CROWDED:
        world = await drained(seed, crowded=True)
        lines = await lines_of(world)
        limit = world.scope.policy.fingerprint_repeats_max
        expected = {
            line.pos
            for line in lines
            if isinstance(line.event, FingerprintStopped | RunStopped)
            and {i.name: i.value for i in line.event.reason.inputs}["seen_before"]
            == (limit or 0) - 1
            and not (isinstance(line.event, RunStopped) and line.event.because == "timeouts")
        }
        with monkeypatch.context() as patched:
            patched.setattr(rules, "_repeats_too_often", one_later)
            found = await redecided(world)
        # A run that its last repeat stopped may have been stopped for its timeouts instead.
        stops = ("triage.fingerprint_stopped", "triage.run_stopped")
        otherwise = {d.pos for d in found.differences if d.type in stops and d.what != "missing"}
        assert otherwise == expected
        total += len(expected)
    assert total > 5


async def test_beside_a_rule_that_nobody_knows_what_is_known_is_still_compared() -> None:
    """A verdict of tomorrow's rule does not hide that the stop of its command was forged."""
    for seed in CROWDED:
        groups = list(commands(await lines_of(await drained(seed, crowded=True))))
        wanted = {RunJudged, RunStopped}
        at = next((g for g in groups if wanted <= {type(line.event) for line in g}), None)
        if at is not None:
            break
    else:
        pytest.fail("no run was judged and stopped at once")
    found = Redecision(BLOBS.get)
    for group in groups:
        found.take([forged(line) for line in group] if group is at else group)
    (verdict,) = [line.pos for line in at if isinstance(line.event, RunJudged)]
    stops = [line.pos for line in at if isinstance(line.event, RunStopped)]
    assert [each.pos for each in found.unverifiable] == [verdict]
    assert [(d.pos, d.what, list(d.fields)) for d in found.differences] == [
        (pos, "differs", ["reason.sentence"]) for pos in stops
    ]


def forged(line: Line) -> Line:
    event = line.event
    if isinstance(event, RunJudged):
        event = replace(event, reason=replace(event.reason, version=99))
    elif isinstance(event, RunStopped):
        event = replace(event, reason=replace(event.reason, sentence="The moon did it."))
    return line._replace(event=event, data=encode(event))


@pytest.mark.parametrize("kind", [BoundaryDetected, FailureFingerprinted])
async def test_what_a_rule_set_of_other_bytes_said_is_unverifiable_and_no_difference(
    kind: type[BoundaryDetected | FailureFingerprinted],
) -> None:
    groups = await groups_with(kind)
    audit = Redecision(BLOBS.get)
    odd: set[int] = set()
    for group in groups:
        lines = [by_other_bytes(line) if type(line.event) is kind else line for line in group]
        odd |= {line.pos for line in lines if type(line.event) is kind}
        audit.take(lines)
    assert audit.differences == []
    assert {each.pos for each in audit.unverifiable} == odd
    assert all("sha256 000000000000 is unknown here" in each.why for each in audit.unverifiable)


async def groups_with(kind: type[AnyEvent]) -> list[list[Line]]:
    for seed in SEEDS:
        groups = [list(group) for group in commands(await lines_of(await drained(seed)))]
        if any(type(line.event) is kind for group in groups for line in group):
            return groups
    raise AssertionError(f"no seed has a {kind.__name__}")


def by_other_bytes(line: Line) -> Line:
    event = replace(cast("BoundaryDetected", line.event), rules_sha256="0" * 64)
    return line._replace(event=event, data=encode(event))


async def test_a_breaker_that_a_session_of_an_early_program_took_over_is_unverifiable() -> None:
    """Each session counted for itself then, and said as it began what was open already."""
    groups = await groups_with(PolicyAdopted)
    at = next(n for n, group in enumerate(groups) if type(group[0].event) is PolicyAdopted)
    last = groups[at][-1]
    why = Reason(rule="breaker", version=1, policy="t@1", basis=last.pos, inputs=(), sentence="")
    carried = BreakerOpened(
        session_id="s", fingerprint="f", template="t", runs=3, carried=True, reason=why
    )
    audit = Redecision(BLOBS.get)
    for group in groups[:at]:
        audit.take(group)
    said = last._replace(event=carried, data=encode(carried), cause=None)
    audit.take([*groups[at], said])
    assert audit.differences == []
    assert [each.what for each in audit.unverifiable] == ["triage.breaker_opened"]


def one_later(situation: Situation, policy: Policy) -> bool:
    later = replace(policy, fingerprint_repeats_max=(policy.fingerprint_repeats_max or 0) + 1)
    return REPEATS_TOO_OFTEN(situation, later if policy.fingerprint_repeats_max else policy)


def zero_yield_word(after: str) -> Reclassified:
    return Reclassified(
        session_id="s", run_id="r", phase_id="p", attempt_id="a", what="zero_yield",
        detector="standard-1", timeouts="run", before=None, after=Classified(detector="standard-1",
        name=after), by="me", why="so",
    )  # fmt: skip


@pytest.mark.parametrize("before", [[], [zero_yield_word("timeout")]])
def test_a_word_is_taken_again_from_the_end_of_its_attempt_whatever_stands_before_it(
    before: list[AnyEvent],
) -> None:
    ended = finished(told=Told(ended="exited"), exit_code=1)
    audit = Redecision(lambda _digest: None, lambda _attempt, _before: [*before, ended])
    word = zero_yield_word("unknown")
    audit.take([Line(5, 1, "c", 3, encode(word), word)])
    assert audit.unverifiable == []
    assert audit.decided == {"diagnosis.reclassified": 1}


@pytest.mark.parametrize(
    "known",
    [
        [],
        [finished(told=None)],
        [finished(told=Told(ended="exited"), stderr=Stream(head_bytes=9, digest="0" * 64))],
    ],
    ids=["no end", "nothing told", "output gone"],
)
def test_a_word_on_what_cannot_be_read_again_is_unverifiable(
    known: list[AnyEvent],
) -> None:
    word = Reclassified(
        session_id="s", run_id="r", phase_id="p", attempt_id="a", what="fingerprint",
        detector="standard-1", timeouts="run", before=None, after=None, by="me", why="so",
    )  # fmt: skip
    audit = Redecision(lambda _digest: None, lambda _attempt, _before: known)
    audit.take([Line(5, 1, "c", 3, encode(word), word)])
    assert audit.unverifiable == [(5, "diagnosis.reclassified", "what the rule set read is gone")]
    assert audit.differences == []
