"""What holds a session back, worked out a second time: breakers, pauses, cool-downs and budgets.

Written from the policy's own words (docs/reference/policy-file.md), and like ``model`` without an
index: every question is answered by looking at everything.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.sim.standings import Event, Phase, Run, Session

DAY_US = 86_400_000_000
GROWTH = 2
STATED_MAX_US = 7 * DAY_US
PROVIDER_LIMITS = frozenset({"rate_limit", "quota", "spend_limit", "overloaded"})
Spent = dict[str, int]
Decision = tuple[str, dict[str, Any]]
"""The type of an event, and those of its fields that the rules determine; None is left out."""


@dataclass(slots=True)
class Breaker:
    """An open circuit breaker; it holds back every session."""

    fingerprint: str
    runs: int
    opened_pos: int
    opened_us: int
    probe: str | None = None
    probes: int = 0
    last_probe_us: int = 0


@dataclass(slots=True)
class Account:
    """A provider's account, paused until some time (0 for never)."""

    until_us: int = 0
    consecutive: int = 0


class Gate(NamedTuple):
    """Whether another run may be sampled; ``probe_of``: only as a probe of this failure."""

    hindrance: str | None = None
    probe_of: str | None = None


@dataclass(slots=True)
class Brakes:
    """All brakes at one position; only open breakers are kept.

    ``barren``: the runs whose sample failed without usage, by fingerprint.
    """

    breakers: dict[str, Breaker] = field(default_factory=dict[str, Breaker])
    accounts: dict[str, Account] = field(default_factory=lambda: defaultdict[str, Account](Account))
    barren: dict[str, list[str]] = field(default_factory=lambda: defaultdict[str, list[str]](list))
    days: dict[int, Counter[str]] = field(
        default_factory=lambda: defaultdict[int, Counter[str]](Counter)
    )

    # Breakers and the slow start

    def open_now(self) -> list[Breaker]:
        return sorted(self.breakers.values(), key=lambda each: each.opened_pos)

    def gate(self, session: Session, now_us: int) -> Gate:
        """Whether the session may sample another run at ``now_us``."""
        policy = session.policy
        if session.is_named_phase:
            return Gate()
        held = self.open_now() if policy["breaker_runs"] else []
        if held:
            if any(each.probe for each in held):
                return Gate("breaker_open")
            due = [each.fingerprint for each in held if _may_probe(each, session, now_us)]
            return Gate(None, due[0]) if due else Gate("breaker_open")
        first = policy["samples_at_first"]
        if first is not None and len(session.samples) >= first + GROWTH * session.telling:
            return Gate("slow_start")
        return Gate()

    def probes_us(self, session: Session) -> list[int]:
        """When breakers may be probed again, as far as they are to rest before."""
        if session.is_named_phase or not session.policy["breaker_runs"]:
            return []
        found = (_probe_us(each, session) for each in self.open_now() if each.probe is None)
        return [due_us for due_us in found if due_us is not None]

    def opens(self, session: Session, run: str, fingerprint: str) -> list[Decision]:
        """A breaker that the barren sample of a run opens."""
        limit, before = session.policy["breaker_runs"], self.barren[fingerprint]
        if limit is None or fingerprint in self.breakers or run in before:
            return []
        runs = len(before) + 1
        fields = {"fingerprint": fingerprint, "runs": runs}
        return [("triage.breaker_opened", fields)] if runs >= limit else []

    def settled(
        self,
        session: Session,
        attempt: str,
        run: str,
        ending: str,
        fingerprint: str | None,
        *,
        well: bool,
        deferred: bool,
    ) -> list[Decision]:
        """What the end of an attempt does to the breakers."""
        held = self.open_now()
        probed = next((each for each in held if each.probe == attempt), None)
        proves = not deferred and ending not in ("abandoned", "orphaned")
        if proves and well:
            gone = held
            if probed is None:
                heeds = session.policy["breaker_runs"]
                gone = [b for b in held if heeds and run in self.barren[b.fingerprint]]
            return [("triage.breaker_closed", {"fingerprint": b.fingerprint}) for b in gone]
        if probed is None:
            return []
        outcome = "unproved"
        if proves:
            alike = fingerprint == probed.fingerprint
            outcome = "failed_alike" if alike else "failed_otherwise"
        fields = {"fingerprint": probed.fingerprint, "attempt_id": attempt, "outcome": outcome}
        return [("triage.breaker_probed", fields)]

    # Accounts

    def account_of(self, session: Session) -> str:
        return session.limits.get("account") or session.executor

    def paused_until_us(self, session: Session, now_us: int) -> int | None:
        """When the session's account may be used again, None when it may be now."""
        if session.policy["provider_pause_ms"] is None or session.is_named_phase:
            return None
        until_us = self.accounts[self.account_of(session)].until_us
        return until_us if now_us < until_us else None

    def paused(
        self, session: Session, boundary: Event, now_us: int, duration_ms: int
    ) -> list[Decision]:
        """The pause that a provider's limit calls for."""
        name = self.account_of(session)
        account = self.accounts[name]
        stated_us = _stated_us(boundary, now_us, duration_ms)
        lasting = now_us < account.until_us
        if lasting and (stated_us is None or stated_us <= account.until_us):
            return []
        policy = session.policy
        doubled_ms = policy["provider_pause_ms"] * 2 ** min(account.consecutive, 30)
        pause_us = min(doubled_ms, policy["provider_pause_max_ms"]) * 1000
        fields = {
            "account": name,
            "kind": boundary["kind"],
            "until_us": stated_us or now_us + pause_us,
            "stated": stated_us is not None,
            "consecutive": account.consecutive + (not lasting),
        }
        return [("triage.account_paused", fields)]

    # What events change

    def follow(self, event: Event, pos: int, now_us: int) -> None:
        """Go on from an event about a brake."""
        kind = event["type"]
        if kind == "triage.breaker_opened":
            name = event["fingerprint"]
            self.breakers[name] = Breaker(name, event["runs"], pos, now_us)
        elif kind == "triage.breaker_probed":
            breaker = self.breakers[event["fingerprint"]]
            breaker.probe = None
            if event["outcome"] != "unproved":
                breaker.probes, breaker.last_probe_us = breaker.probes + 1, now_us
        elif kind in ("triage.breaker_closed", "operator.breaker_reset"):
            self.breakers.pop(event["fingerprint"], None)
            self.barren.pop(event["fingerprint"], None)
        elif kind == "triage.account_paused":
            found = Account(event["until_us"], event["consecutive"])
            self.accounts[event["account"]] = found
        elif kind == "triage.account_recovered":
            self.accounts[event["account"]].consecutive = 0
        elif kind == "operator.account_resumed":
            self.accounts[event["account"]] = Account()

    def spend(self, took: Spent, now_us: int) -> None:
        self.days[now_us // DAY_US].update(took)

    # Budgets

    def session_budgets(self, session: Session, now_us: int) -> Iterator[str]:
        """The scopes, session or day, of which a budget is used up."""
        spent = {"session": session.spent, "day": self.days[now_us // DAY_US]}
        for budget in session.limits.get("budgets", ()):
            of = spent.get(budget["scope"])
            if of is not None and of[budget["measure"]] >= budget["limit"]:
                yield budget["scope"]


def _may_probe(breaker: Breaker, session: Session, now_us: int) -> bool:
    policy = session.policy
    if breaker.probes < policy["breaker_probes_max"]:
        return True
    due_us = _probe_us(breaker, session)
    return due_us is not None and now_us >= due_us


def _probe_us(breaker: Breaker, session: Session) -> int | None:
    rest_ms = session.policy["breaker_cool_down_ms"]
    since_us = breaker.last_probe_us if breaker.probes else breaker.opened_us
    return None if rest_ms is None else since_us + int(rest_ms) * 1000


def _stated_us(boundary: Event, now_us: int, duration_ms: int) -> int | None:
    stated_us: int | None = boundary.get("resets_at_us")
    if stated_us is None and boundary.get("resets_in_ms") is not None:
        stated_us = now_us + boundary["resets_in_ms"] * 1000
    clock = boundary.get("resets_clock")
    if stated_us is None and boundary.get("resets_in_ms") is None and clock is not None:
        assert clock["zone"] == "UTC", "fates tell the time of day in UTC only"
        minute_us, begun_us = clock["minute"] * 60_000_000, now_us - duration_ms * 1000
        shown_us: int = begun_us - begun_us % DAY_US + minute_us
        stated_us = shown_us if shown_us > begun_us else shown_us + DAY_US
    if stated_us is None or stated_us <= now_us:
        return None
    return min(stated_us, now_us + STATED_MAX_US)


def budgets_of(phase: Phase, session: Session) -> list[tuple[str, str, int]]:
    """The budgets of a phase and of its run: scope, measure and limit, as they are looked at."""
    given = session.limits.get("budgets", ())
    found = [(b["scope"], b["measure"], b["limit"]) for b in given if b["scope"] == "phase"]
    if session.policy["heed_incident_caps"] and phase.tokens_cap:
        found.append(("phase", "tokens", phase.tokens_cap))
    return found + [(b["scope"], b["measure"], b["limit"]) for b in given if b["scope"] == "run"]


def is_over(spent: Counter[str], scope: str, phase: Phase, session: Session) -> bool:
    """Whether a phase, or a run (by any of its phases), has used up a budget of its own."""
    if not session.limits.get("budgets") and phase.tokens_cap is None:
        return False
    return any(
        spent[measure] >= limit for of, measure, limit in budgets_of(phase, session) if of == scope
    )


def crossed(phase: Phase, run: Run, session: Session, took: Spent) -> list[Decision]:
    """The budgets that are used up when ``took`` is added to what was spent before."""
    found: list[Decision] = []
    for scope, measure, limit in budgets_of(phase, session):
        before = (phase if scope == "phase" else run).spent[measure]
        spent = before + took.get(measure, 0)
        if before < limit <= spent:
            name = phase.name if scope == "phase" else None
            fields = {"scope": scope, "measure": measure, "limit": limit, "spent": spent}
            fields |= {"run_id": run.name, "phase_id": name}
            found.append(("triage.budget_reached", fields))
    return found


def cools_us(run: Run, session: Session) -> int | None:
    """When the session may set the verdict of a run aside by itself; None for never."""
    rest_ms, limits = session.policy["cool_down_ms"], session.limits
    if rest_ms is None or run.standing != "deprioritized" or session.is_named_phase:
        return None
    skipped = any(run.name.startswith(prefix) for prefix in limits.get("skip_run_prefixes", ()))
    if skipped or limits.get("run_id") not in (None, run.name):
        return None
    return run.verdict_us + int(rest_ms) * 1000
