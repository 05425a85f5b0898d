"""Seeded worlds: a backlog, a script, limits and a policy, drained on virtual time.

Needs a test that runs on ``engine.drain.virtual.VirtualTimeLoop``.
"""

from __future__ import annotations

import random
from contextlib import suppress

import anyio
from msgspec.structs import replace

from engine.drain.loop import Drain
from engine.drain.recovery import open_attempts
from engine.drain.virtual import VirtualClock
from engine.errors import RunoffError
from engine.events import AnyEvent, Budget, Limits, Order, PhaseRegistered, RunRegistered
from engine.executors.scripted import Rule, ScriptedExecutor
from engine.ids import IdMaker
from engine.store.blobs import BlobStore
from engine.store.command import Command, just
from engine.store.memory import MemoryStore
from engine.store.recorder import Writer, recording
from engine.triage.policy import POLICIES, Policy
from engine.triage.scope import Scope

WRITER = Writer("sim", "boot", 1, "sim", "0")
TIMEOUT_S = 10
NAMED_SHARE = 0.15
START_US = 1_767_225_600_000_000


def backlog(random_: random.Random, runs: int) -> list[AnyEvent]:
    events: list[AnyEvent] = []
    for run in range(runs):
        run_id = f"run-{run}"
        events.append(RunRegistered(run_id=run_id, origin="sim", state="NEW"))
        order: Order = random_.choice(["strict", "free"])
        events += [
            PhaseRegistered(
                run_id=run_id,
                phase_id=f"p{number}",
                tier_id="T",
                tier_index=random_.randint(0, 1),
                phase_index=number,
                name="",
                state=random_.choice(["QUEUED", "FAILED", "COMPLETE"]),
                order=order,
                after=(f"p{number - 1}",) if number and random_.random() < 0.2 else (),
            )
            for number in range(random_.randint(1, 6))
        ]
    return events


def rules(random_: random.Random, runs: int) -> list[Rule]:
    kinds = [
        Rule(state="COMPLETE", rc=0, events=2),
        Rule(state="COMPLETE", rc=0),
        Rule(state="FAILED", rc=1, reason="database is down"),
        Rule(state="FAILED", rc=1, reason="{phase} broke", events=1),
        Rule(state="FAILED", rc=2, stderr="prompt is too long: 9 tokens > 8 maximum"),
        Rule(sleep=TIMEOUT_S * 9),
        Rule(state="FAILED", rc=137),
        Rule(state="FAILED", rc=1, stderr="429 rate limit exceeded. Please try again in 20s."),
        Rule(state="FAILED", rc=1, stderr="Error: 529 overloaded_error: Overloaded"),
    ]
    chosen = [
        Rule(
            run=f"run-{random_.randint(0, runs - 1)}",
            phase=f"p{random_.randint(0, 5)}",
            state=kind.state,
            rc=kind.rc,
            reason=kind.reason,
            events=kind.events,
            stderr=kind.stderr,
            sleep=kind.sleep or random_.random() * TIMEOUT_S * 0.9,
        )
        for kind in random_.choices(kinds, k=4 * runs + 1)
    ]
    return [*chosen, Rule(state="COMPLETE", rc=0, events=1, sleep=random_.random())]


def policies(random_: random.Random) -> Policy:
    """A built-in policy, or the default one with other thresholds."""
    policy = random_.choice(list(POLICIES.values()))
    if policy.name == "classic" or random_.random() < 0.4:
        return policy
    return replace(
        policy,
        timeout_fingerprints=random_.choice(["detected", "run", "session"]),
        stops_spare_yield=random_.random() < 0.5,
        stop_outranks_verdict=random_.random() < 0.5,
        breaker_runs=random_.choice([None, 1, 2, 3]),
        breaker_probes_max=random_.randint(0, 2),
        breaker_cool_down_ms=random_.choice([None, 5_000]),
        samples_at_first=random_.choice([None, 1, 3]),
        cool_down_ms=random_.choice([None, 8_000]),
        provider_pause_ms=random_.choice([None, 3_000]),
        deferrals_per_phase_max=random_.choice([0, 1, 5]),
        attempts_per_phase_max=random_.choice([1, 2, 3]),
        timeouts_per_run_max=random_.choice([None, 1, 2]),
        consecutive_zero_yield_max=random_.choice([None, None, 4]),
    )


def budgets(random_: random.Random) -> tuple[Budget, ...]:
    """None, mostly; else a few that a simulated session can reach."""
    found = [
        Budget(scope="phase", measure="attempts", limit=2),
        Budget(scope="run", measure="ms", limit=20_000),
        Budget(scope="run", measure="attempts", limit=4),
        Budget(scope="session", measure="ms", limit=60_000),
        Budget(scope="day", measure="attempts", limit=25),
    ]
    return tuple(b for b in found if random_.random() < 0.3) if random_.random() < 0.4 else ()


class Simulation:
    """One seed's world: a log, a script, limits and a policy; ``crowded``: 64 workers."""

    def __init__(self, seed: int, blobs: BlobStore | None = None, *, crowded: bool = False) -> None:
        self.random = random.Random(seed)
        self.store = MemoryStore()
        self.blobs = blobs
        self.clock = VirtualClock(START_US)
        self.ids = IdMaker(self.clock.now_us, lambda: self.random.getrandbits(80))
        self.runs = self.random.randint(40, 70) if crowded else self.random.randint(1, 6)
        self.rules = rules(self.random, self.runs)
        policy = policies(self.random)
        named = not crowded and self.random.random() < NAMED_SHARE
        limits = Limits(
            batch_size=400 if crowded else self.random.randint(3, 60),
            workers=64 if crowded else self.random.randint(1, 8),
            per_run_max=self.random.randint(1, 3),
            phase_timeout_ms=TIMEOUT_S * 1000,
            grace_ms=100,
            total_ms_max=self.random.choice([None, 30_000]),
            run_id="run-0" if named else None,
            phase_id="p0" if named else None,
            budgets=budgets(self.random),
        )
        self.scope = Scope(self.ids("ses"), policy, limits)

    async def register(self) -> None:
        async with recording(self.store, self.clock, WRITER) as recorder:
            events = backlog(self.random, self.runs)
            await recorder.submit(Command("backlog", "backlog", b"", just(*events)))

    async def crash(self, *, resume: bool) -> None:
        """A life that ends at a random moment."""
        with suppress(RunoffError):  # a dead writer refuses whoever still asks it
            try:
                await self.drain(resume=resume, crash_after_s=self.random.uniform(0.5, 20))
            except ExceptionGroup as crashed:
                refusals, others = crashed.split(RunoffError)
                assert others is None
                assert refusals is not None

    async def drain(self, *, resume: bool, crash_after_s: float | None) -> None:
        """One life of an engine; a crash leaves the log as it was at that moment."""
        async with recording(self.store, self.clock, WRITER) as recorder:
            drain = Drain(
                recorder=recorder,
                executor=ScriptedExecutor(self.rules),
                scope=self.scope,
                clock=self.clock,
                ids=self.ids,
                blobs=self.blobs,
                tell=lambda _records: None,
                in_threads=False,
            )
            adopt = await open_attempts(recorder, self.clock, end=False)
            if crash_after_s is None:
                await drain.run(resume=resume, adopt=adopt)
                return
            with anyio.move_on_after(crash_after_s):
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: drain.run(resume=resume, adopt=adopt))
                    await anyio.sleep(crash_after_s / 2)
                    recorder.close()  # from here on nothing more is recorded: the engine is gone
