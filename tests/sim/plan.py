"""What a session is given: a backlog, a policy, limits, and what goes wrong, all from its seed."""

from __future__ import annotations

import random

from msgspec.structs import replace

from engine.events import (
    AnyEvent,
    Budget,
    Limits,
    Order,
    PhaseRegistered,
    PhaseState,
    RunRegistered,
)
from engine.triage.policy import Policy, policy_named
from tests.sim.faults import Fault

TIMEOUT_S = 4
ON_DEMAND = """
Sessions that touch the same run by turns: an older one is resumed when a younger one has been at
work, or a new one adopts what an older one left alive.  Commits that take time while an account is
paused.  A limit of the session's time while an account is paused.  Phases that need a label.
Hosts with less room than the session has workers.
"""
"""What is simulated with ``--all`` and by the fresh share: four faults of the engine were found
there, and the seeds of the planted bugs are those of sessions without it."""

CRASHES = (0.45, 0.82, 0.95)
"""How likely at most 0, 1 and 2 engines die in a session; otherwise 3 do."""

BASES = (Policy(name="plain"), policy_named("classic"), policy_named("default"))
_SMALL = ((1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 2), (4, 1), (4, 3))
"""How many runs with how many phases small sessions have at most.  Most bugs show in the smallest
backlog that has room for them, and sessions of few events are many for the same time."""
_STATES: tuple[PhaseState, ...] = ("QUEUED", "FAILED", "COMPLETE", "EXECUTING", "SKIPPED")
_ORDERS: tuple[tuple[Order, ...], ...] = (("strict",), ("free",), ("strict", "free"))
_BUDGETS = (
    Budget(scope="phase", measure="attempts", limit=1),
    Budget(scope="phase", measure="tokens", limit=900_000),
    Budget(scope="phase", measure="ms", limit=5_000),
    Budget(scope="run", measure="attempts", limit=2),
    Budget(scope="run", measure="tokens", limit=1_500_000),
    Budget(scope="run", measure="ms", limit=8_000),
    Budget(scope="session", measure="attempts", limit=4),
    Budget(scope="session", measure="tokens", limit=3_000_000),
    Budget(scope="session", measure="ms", limit=15_000),
    Budget(scope="day", measure="attempts", limit=6),
    Budget(scope="day", measure="tokens", limit=5_000_000),
    Budget(scope="day", measure="ms", limit=20_000),
)
_REASONS = (None, "import error", "deliverable missing", "patch failed", "timed out", "odd")


class Plan:
    """A session's random choices.

    ``size`` is 0 for small, 1 for middling, 2 for big ones.  ``crashes``: how many engines die.
    ``has_rivals``: one engine is fenced by another.  ``guarded``: attempts outlive their engine.
    ``repeats``: commands are submitted again.  ``delay_s`` passes after each commit.
    ``everything``: nothing is avoided.
    """

    def __init__(self, random_: random.Random, *, everything: bool = False) -> None:
        self.random = random_
        self.everything = everything
        lot = random_.random()
        self.size = 0 if lot < 0.975 else 1 if lot < 0.999 else 2
        lot = random_.random()
        self.crashes = next((n for n, share in enumerate(CRASHES) if lot < share), len(CRASHES))
        self.delay_s = random_.choice((1, 3, 8)) / 64 if random_.random() < 0.15 else 0.0
        self.repeats = random_.random() < 0.1
        self.has_rivals = self.crashes > 0 and random_.random() < 0.15
        self.guarded = self.has_rivals or random_.random() < 0.6

    def backlog(self) -> list[AnyEvent]:
        """Runs with their phases, in the order in which they are registered."""
        random_ = self.random
        fewest, runs, phases = ((1, *random_.choice(_SMALL)), (2, 8, 5), (10, 40, 6))[self.size]
        events: list[AnyEvent] = []
        order_of: tuple[Order, ...] = random_.choice(_ORDERS)
        for run in range(random_.randint(fewest, runs)):
            run_id = f"{'ab'[run % 2]}-{run}"
            events.append(RunRegistered(run_id=run_id, origin="sim", state="NEW"))
            order: Order = random_.choice(order_of)
            tiers = random_.choice((1, 1, 2, 3))
            events += [
                self._phase(run_id, number, number * tiers // phases, order)
                for number in range(random_.randint(1, phases))
            ]
        return events

    def _phase(self, run_id: str, number: int, tier: int, order: Order) -> PhaseRegistered:
        random_ = self.random
        state = random_.choices(_STATES, (40, 40, 12, 2, 6))[0]
        reason = random_.choice(_REASONS) if state == "FAILED" else None
        after = (f"p{number - 1}",) if number and random_.random() < 0.2 else ()
        return PhaseRegistered(
            run_id=run_id,
            phase_id=f"p{number}",
            tier_id=f"T{tier}",
            tier_index=tier,
            phase_index=number if random_.random() < 0.9 else 0,
            name="",
            state=state,
            order=order,
            after=after,
            last_failure_reason=reason,
            incident_token_cap=800_000 if random_.random() < 0.1 else None,
            needs=("gpu",) if self.everything and random_.random() < 0.15 else (),
        )

    def policy(self) -> Policy:
        """One with none of the improvements, the original's, or one with all of them."""
        policy = self._policy()
        if self.delay_s and not self.everything:
            policy = replace(policy, provider_pause_ms=None)
        return policy

    def _policy(self) -> Policy:
        random_ = self.random
        base = random_.choices(BASES, (2, 2, 5))[0]
        if random_.random() < 0.25:
            return base
        choice, classic = random_.choice, base.once_per_session
        policy = replace(
            base,
            attempts_per_phase_max=None if classic else choice((None, 1, 2, 3)),
            orphans_per_phase_max=choice((None, 1, 2)),
            timeouts_per_run_max=choice((None, 1, 2, 3)),
            fingerprint_repeats_max=choice((None, 1, 2, 3)),
            consecutive_zero_yield_max=choice((None, None, 2, 4)),
            order_phases=not classic and choice((True, True, False)),
        )
        if base is BASES[2]:
            policy = self._improved(policy)
        return policy

    def _improved(self, policy: Policy) -> Policy:
        """Thresholds that a short session can reach."""
        choice = self.random.choice
        return replace(
            policy,
            fingerprint_repeats_max=choice((None, 2, 3, 5)),
            timeout_fingerprints=choice(("detected", "run", "session")),
            stops_spare_yield=choice((True, False)),
            stop_outranks_verdict=choice((True, False)),
            breaker_runs=choice((None, 1, 1, 2, 2, 3)),
            breaker_probes_max=choice((0, 1, 2)),
            breaker_cool_down_ms=choice((None, 1_500)),
            samples_at_first=choice((None, 1, 2)),
            cool_down_ms=choice((None, 0, 1_000, 3_000)),
            provider_pause_ms=choice((None, 1_000, 1_000)),
            provider_pause_max_ms=choice((1_500, 6_000)),
            deferrals_per_phase_max=choice((0, 1, 1, None)),
        )

    def limits(self, phases: list[PhaseRegistered]) -> Limits:
        """Of a new session; ``phases`` are those that there are."""
        random_ = self.random
        workers = (random_.randint(1, 5), random_.randint(2, 9), 64)[self.size]
        named = random_.random() < 0.04
        chosen = random_.choice(phases)
        of_run = named or random_.random() < 0.05
        batch = random_.choice((3, 8, 25, 60)) if self.size < 2 else 200
        return Limits(
            batch_size=batch,
            workers=workers,
            per_run_max=random_.randint(1, 3),
            phase_timeout_ms=TIMEOUT_S * 1000,
            grace_ms=100,
            total_ms_max=random_.choice((None, None, None, 2_000, 9_000)),
            run_id=chosen.run_id if of_run else None,
            phase_id=chosen.phase_id if named else None,
            skip_run_prefixes=("b-",) if random_.random() < 0.06 else (),
            budgets=self._budgets(),
            host_workers=random_.choice((None, 1, 2)) if self.everything else None,
            labels=("gpu", "x") if self.everything and random_.random() < 0.5 else (),
        )

    def _budgets(self) -> tuple[Budget, ...]:
        if self.random.random() < 0.75:
            return ()
        return tuple(self.random.sample(_BUDGETS, self.random.randint(1, 3)))

    def resumed(self, limits: Limits) -> Limits:
        """The limits that a session is resumed with."""
        if self.random.random() < 0.5:
            return limits
        more = self.random.choice((0, 5, 20))
        return replace(
            limits,
            workers=self.random.randint(1, 5),
            batch_size=limits.batch_size + more,
            per_run_max=self.random.randint(1, 3),
        )

    def fault(self) -> Fault | None:
        """What happens to an engine's appends; None when it dies, if at all, at a moment."""
        if self.random.random() < 0.15:
            return None
        at = min(1 + int(self.random.expovariate(1 / 9)), 80)
        return Fault(self.random.choice(("before", "after", "refused")), at)

    def moment_s(self) -> float:
        """Some time while a session lasts."""
        return self.random.randint(1, 10 * 64) / 64

    def chance(self, share: float) -> bool:
        """Whether something that happens in ``share`` of all cases does."""
        return self.random.random() < share
