"""Plans: what a plan file asks for, checked for sense, order and dependencies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from engine.backlog.dependencies import AFTER_MAX, Work, tangle, waits
from engine.backlog.paths import checked_path
from engine.backlog.plan_file import (
    PHASE_BYTES_MAX,
    PhaseEntry,
    Place,
    PlanEntry,
    TierEntry,
    read_entry,
)
from engine.backlog.spelling import fold_category, fold_complexity
from engine.errors import UsageProblem
from engine.events import Deliverable, PhaseRegistered, RunRegistered, TierRegistered
from engine.ids import checked_id
from engine.labels import checked_labels

T = TypeVar("T")
U = TypeVar("U")
_ONE_TIER = (TierEntry(tier_id="T1", name="T1"),)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A checked plan, as the events that would register it once.

    ``phases`` are in order of tier and index, their dependencies resolved.
    """

    run: RunRegistered
    tiers: tuple[TierRegistered, ...]
    phases: tuple[PhaseRegistered, ...]


def load_plan(path: Path) -> Plan:
    """The plan in a TOML or JSON file, checked.

    Raises UsageProblem naming file, place and remedy: for a file that cannot be read or has the
    wrong shape, ids beyond the limits, unknown or double ids, paths that lead outside, and phases
    that wait for each other.
    """
    return checked_plan(read_entry(path), Place.of(path))


def checked_plan(entry: PlanEntry, place: Place) -> Plan:
    """``entry`` as a plan; ``place`` names the file in errors and as the run's origin."""
    run_id = _id(entry.run_id, place.at("run_id"))
    if entry.path:
        _path("", entry.path, place.at("path"))
    tiers = _tiers(entry, place)
    phases = [
        _phase(phase, entry, tiers, place.at(f"phases[{at}]"))
        for at, phase in enumerate(entry.phases)
    ]
    _refuse_twice([p.phase_id for p in phases], place, "phases", "phase_id")
    written_at = {phase.phase_id: at for at, phase in enumerate(phases)}
    placed = _in_order(phases)
    after = _after(placed, place, written_at)
    placed = [replace(phase, run_id=run_id, after=after[phase.phase_id]) for phase in placed]
    _refuse_large(placed, place, written_at)
    return Plan(
        run=RunRegistered(
            run_id=run_id,
            origin=f"plan {PurePath(place.file).name}",
            state="RUN_CREATED",
            token_cap=entry.token_cap,
            phases_max=entry.phases_max,
            duration_minutes_max=entry.duration_minutes_max,
        ),
        tiers=tuple(replace(tier, run_id=run_id) for tier in tiers.values()),
        phases=tuple(placed),
    )


def _tiers(entry: PlanEntry, place: Place) -> dict[str, TierRegistered]:
    written = entry.tiers or _ONE_TIER
    ids = [_id(tier.tier_id, place.at(f"tiers[{at}].tier_id")) for at, tier in enumerate(written)]
    _refuse_twice(ids, place, "tiers", "tier_id")
    return {
        tier.tier_id: TierRegistered(
            run_id="",
            tier_id=tier.tier_id,
            tier_index=index,
            name=tier.name or tier.tier_id,
            description=tier.description,
            ci_run_cap=tier.ci_run_cap,
            order=tier.order,
        )
        for index, tier in enumerate(written)
    }


def _phase(
    phase: PhaseEntry, entry: PlanEntry, tiers: dict[str, TierRegistered], place: Place
) -> PhaseRegistered:
    """One phase; its run, index and dependencies are filled in once all phases are known."""
    phase_id = _id(phase.phase_id, place.at("phase_id"))
    tier = _tier_of(phase, tiers, place)
    defaults = entry.defaults
    return PhaseRegistered(
        run_id="",
        phase_id=phase_id,
        tier_id=tier.tier_id,
        tier_index=tier.tier_index,
        phase_index=0,
        name=phase.name or phase_id,
        goal=phase.goal,
        state="QUEUED",
        category=fold_category(phase.category).word if phase.category else None,
        category_raw=phase.category,
        complexity=fold_complexity(phase.complexity).word if phase.complexity else None,
        complexity_raw=phase.complexity,
        order=tier.order,
        after=phase.after,
        needs=_checked(checked_labels, phase.needs, place.at("needs")),
        deliverables=_deliverables(phase, entry.path, place),
        read_only_context=tuple(
            _path(entry.path, path, place.at(f"read_only_context[{at}]"))
            for at, path in enumerate(phase.read_only_context)
        ),
        builder_attempts_max=_or(phase.builder_attempts_max, defaults.builder_attempts_max),
        auditor_attempts_max=_or(phase.auditor_attempts_max, defaults.auditor_attempts_max),
        incident_token_cap=_or(phase.incident_token_cap, defaults.incident_token_cap),
    )


def _or(own: int | None, default: int | None) -> int | None:
    return default if own is None else own


def _deliverables(phase: PhaseEntry, prefix: str, place: Place) -> tuple[Deliverable, ...]:
    found: list[Deliverable] = []
    for at, entry in enumerate(phase.deliverables):
        path, must_contain = (
            (entry, ()) if isinstance(entry, str) else (entry.path, entry.must_contain)
        )
        checked = _path(prefix, path, place.at(f"deliverables[{at}]"))
        found.append(Deliverable(path=checked, must_contain=must_contain))
    return tuple(found)


def _tier_of(phase: PhaseEntry, tiers: dict[str, TierRegistered], place: Place) -> TierRegistered:
    if phase.tier is None and len(tiers) == 1:
        return next(iter(tiers.values()))
    if phase.tier is None:
        raise place.problem(
            "says no tier, and the plan has several.", remedy='add tier = "…" to the phase.'
        )
    if phase.tier not in tiers:
        raise place.at("tier").problem(
            f"there is no tier {phase.tier[:80]!a}.",
            remedy=f"use a tier_id of the plan, such as {next(iter(tiers))!a}.",
        )
    return tiers[phase.tier]


def _in_order(phases: Sequence[PhaseRegistered]) -> list[PhaseRegistered]:
    """By tier, then as written, numbered from 0 within each tier."""
    placed: list[PhaseRegistered] = []
    for phase in sorted(phases, key=lambda phase: phase.tier_index):
        same = placed and placed[-1].tier_index == phase.tier_index
        index = placed[-1].phase_index + 1 if same else 0
        placed.append(replace(phase, phase_index=index))
    return placed


def _after(
    placed: Sequence[PhaseRegistered], place: Place, written_at: dict[str, int]
) -> dict[str, tuple[str, ...]]:
    """Phase id → ids it waits for; ``written_at`` tells where in the file each phase stands."""
    work = [
        Work(
            phase.phase_id,
            phase.order,
            phase.after,
            tuple(deliverable.path for deliverable in phase.deliverables),
            phase.read_only_context,
        )
        for phase in placed
    ]
    for phase in placed:
        here = place.at(f"phases[{written_at[phase.phase_id]}]")
        for at, earlier in enumerate(phase.after):
            _refuse_stated(phase.phase_id, earlier, written_at, here.at(f"after[{at}]"))
    after = waits(work)
    for phase_id, earlier_ids in after.items():
        if len(earlier_ids) > AFTER_MAX:
            raise place.at(f"phases[{written_at[phase_id]}]").problem(
                f"the phase {phase_id} waits for more than {AFTER_MAX} phases.",
                remedy='put it into a later tier with order = "strict" instead.',
            )
    _refuse_tangle(work, after, place, written_at)
    return after


def _refuse_stated(phase_id: str, earlier: str, known: dict[str, int], here: Place) -> None:
    if earlier == phase_id:
        raise here.problem(
            f"the phase {phase_id} waits for itself.", remedy="take its own id out of `after`."
        )
    if earlier not in known:
        raise here.problem(
            f"the phase {phase_id} waits for {earlier[:80]!a}, which the plan does not have.",
            remedy="use the phase_id of another phase of this plan.",
        )


def _refuse_tangle(
    work: Sequence[Work],
    after: dict[str, tuple[str, ...]],
    place: Place,
    written_at: dict[str, int],
) -> None:
    found = tangle(work, after)
    if found is None:
        return
    shown = " → ".join(found.phase_ids[:8])
    remedy = "take one of them out of `after` or out of what the other reads"
    if found.by_order:
        remedy += ', or give the tier order = "free": in a strict one a phase waits for all before'
    raise place.at(f"phases[{written_at[found.phase_ids[0]]}]").problem(
        f"phases wait for each other: {shown}.", remedy=f"{remedy}."
    )


def _refuse_twice(ids: Sequence[str], place: Place, table: str, field: str) -> None:
    first: dict[str, int] = {}
    for at, name in enumerate(ids):
        if name in first:
            raise place.at(f"{table}[{at}].{field}").problem(
                f"{name} is used before, at {table}[{first[name]}].",
                remedy="give each its own id.",
            )
        first[name] = at


def _refuse_large(phases: Sequence[PhaseRegistered], place: Place, written: dict[str, int]) -> None:
    for phase in phases:
        size_bytes = len(msgspec.json.encode(phase))
        if size_bytes > PHASE_BYTES_MAX:
            raise place.at(f"phases[{written[phase.phase_id]}]").problem(
                f"the phase takes {size_bytes} bytes; the limit is {PHASE_BYTES_MAX}.",
                remedy="shorten its texts, or put them into a file that it reads.",
            )


def _id(text: str, place: Place) -> str:
    return _checked(checked_id, text, place)


def _path(prefix: str, text: str, place: Place) -> str:
    own = _checked(checked_path, text, place)
    return _checked(checked_path, f"{prefix.rstrip('/')}/{own}", place) if prefix else own


def _checked(check: Callable[[T, str], U], said: T, place: Place) -> U:
    try:
        return check(said, str(place) + ":")
    except UsageProblem as problem:
        raise UsageProblem(problem.problem, remedy=problem.remedy) from None
