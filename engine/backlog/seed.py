"""Seeding: plans that are shipped, and how often to register a plan.

One clean sample of each phase of the telemetry plan gives groups of 4, 2, 2, 1 and 1, while a
calibration asks for five; so a plan can be registered several times, as runs ``<run_id>``,
``<run_id>-r2``, ``<run_id>-r3`` and so on, each with the same phases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from importlib.resources import as_file, files

from msgspec.structs import replace

from engine.backlog.batch import Registration, run_registrations
from engine.backlog.plan import Plan, load_plan
from engine.errors import UsageProblem
from engine.events import AnyEvent
from engine.ids import checked_id
from engine.labels import checked_labels

BUILT_IN_PLANS = ("telemetry",)
REPEAT_MAX = 1_000
REPEATED_PHASES_MAX = 100_000
_FORMER_NAME = "collect_telemetry_data"


def built_in_plan(name: str) -> Plan:
    """A plan that is shipped, read by the loader that users' files go through.

    Raises UsageProblem for a name that is none, and says how to move on from the former one.
    """
    if name.removesuffix(".py") == _FORMER_NAME:
        raise UsageProblem(
            f"{_FORMER_NAME} is gone; the plan named telemetry took its place.",
            remedy="run `runoff seed`: it registers the run telemetry-collection-v4.",
        )
    if name not in BUILT_IN_PLANS:
        raise UsageProblem(
            f"there is no built-in plan {name[:80]!a}.",
            remedy=f"use {', '.join(BUILT_IN_PLANS)}, or name a .toml or .json file.",
        )
    with as_file(files("engine.backlog") / "plans" / f"{name}.toml") as path:
        return load_plan(path)


def registrations(plan: Plan, *, run_id: str | None = None, repeat: int = 1) -> list[Registration]:
    """The groups that register ``plan`` ``repeat`` times, under ``run_id`` if one is given.

    Raises UsageProblem for a repeat below 1 or over 1000, more than 100 000 phases in all, or
    a run id beyond the limits.
    """
    first = checked_id(plan.run.run_id if run_id is None else run_id, "the run id")
    _refuse_repeat(repeat, len(plan.phases))
    groups: list[Registration] = []
    for number in range(1, repeat + 1):
        name = first if number == 1 else checked_id(f"{first}-r{number}", "the run id")
        named: list[AnyEvent] = [replace(plan.run, run_id=name)]
        named += [replace(tier, run_id=name) for tier in plan.tiers]
        named += [replace(phase, run_id=name) for phase in plan.phases]
        groups += run_registrations(name, named)
    return groups


def needing(plan: Plan, labels: Iterable[str]) -> Plan:
    """``plan`` with ``labels`` among what each phase needs.

    Raises UsageProblem for what cannot be a label, and for more than 32 of one phase.
    """
    asked = checked_labels(labels, "--needs")
    phases = (
        replace(phase, needs=checked_labels((*phase.needs, *asked), phase.phase_id))
        for phase in plan.phases
    )
    return replace(plan, phases=tuple(phases))


def samples_by_group(plan: Plan, repeat: int = 1) -> dict[tuple[str, str], int]:
    """(category, complexity) → clean samples, if every phase of every copy succeeds once."""
    groups = Counter((p.category or "unknown", p.complexity or "unknown") for p in plan.phases)
    return {group: count * repeat for group, count in groups.items()}


def repeats_for(plan: Plan, samples_min: int) -> int:
    """The smallest ``repeat`` that gives each group of the plan at least ``samples_min``."""
    return max(1, -(-samples_min // min(samples_by_group(plan).values())))


def _refuse_repeat(repeat: int, phases: int) -> None:
    if not 1 <= repeat <= REPEAT_MAX:
        raise UsageProblem(
            f"a plan cannot be registered {repeat} times.",
            remedy=f"use --repeat from 1 to {REPEAT_MAX}.",
        )
    if repeat * phases > REPEATED_PHASES_MAX:
        raise UsageProblem(
            f"{repeat} copies of {phases} phases are more than {REPEATED_PHASES_MAX} phases.",
            remedy="lower --repeat, or seed into several logs.",
        )
