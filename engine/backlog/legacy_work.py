"""Runs, tiers and phases of a legacy database, as events.

States stay as recorded, in upper case.  A phase that was EXECUTING stands so without an attempt of
ours, since the program that executed it is gone; whether that is backlog is the policy's to say.  A
state that no table here knows becomes SKIPPED: what is not understood must not cost tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, get_args

import msgspec

from engine.backlog.cells import Row, clipped, text_of
from engine.backlog.dependencies import AFTER_MAX, Work, waits
from engine.backlog.findings import Findings
from engine.backlog.legacy_scope import SCOPE_BYTES_MAX, Scope, read_scope
from engine.backlog.spelling import CATEGORY_BYTES_MAX, Folded, fold_category, fold_complexity
from engine.errors import UsageProblem
from engine.events import PhaseRegistered, PhaseState, RunRegistered, TierRegistered
from engine.ids import checked_id

PROSE_BYTES_MAX = 16 * 1024
TITLE_BYTES_MAX = 1024
REASON_BYTES_MAX = 4 * 1024
AFTER_BYTES_MAX = 32 * 1024
UNTIERED = "untiered"
UNKNOWN_STATE = "UNKNOWN"

PHASE_STATES: dict[str, PhaseState] = {
    **{state: state for state in get_args(PhaseState)},
    "RUNNING": "EXECUTING",
    "IN_PROGRESS": "EXECUTING",
    "PENDING": "QUEUED",
    "READY": "QUEUED",
    "COMPLETED": "COMPLETE",
    "DONE": "COMPLETE",
    "SUCCESS": "COMPLETE",
    "ERROR": "FAILED",
    "CANCELLED": "SKIPPED",
}


class Tiers(NamedTuple):
    """Tiers that were taken, in table order, and how phases refer to them.

    ``by_key`` finds one by the text of its row key, ``by_id`` by run and tier id.
    """

    events: list[TierRegistered]
    by_key: dict[str, TierRegistered]
    by_id: dict[tuple[str, str], TierRegistered]


def runs_of(rows: Sequence[Row], origin: str, findings: Findings) -> dict[str, RunRegistered]:
    """Run id → event, in table order."""
    runs: dict[str, RunRegistered] = {}
    for row in rows:
        run_id = row.id("run_id")
        if run_id is None:
            continue
        if run_id in runs:
            findings.note("runs: the id appears twice, first one kept", run_id)
            continue
        runs[run_id] = RunRegistered(
            run_id=run_id,
            origin=origin,
            state=row.text("state", TITLE_BYTES_MAX) or UNKNOWN_STATE,
            token_cap=row.count("token_cap"),
            phases_max=row.count("phases_max"),
            duration_minutes_max=row.count("duration_minutes_max"),
            created_us=row.time_us("created"),
            failure_reason=row.text("failure_reason", REASON_BYTES_MAX),
        )
    return runs


def add_missing_runs(
    runs: dict[str, RunRegistered], rows: Sequence[Row], origin: str, findings: Findings
) -> None:
    """Runs that phases name but the table of runs lacks, with the state UNKNOWN."""
    for row in rows:
        run_id = usable_id(text_of(row.cell("run_id")))
        if run_id is not None and run_id not in runs:
            findings.note("phases name a run that is missing, registered as UNKNOWN", run_id)
            runs[run_id] = RunRegistered(run_id=run_id, origin=origin, state=UNKNOWN_STATE)


def tiers_of(rows: Sequence[Row], runs: dict[str, RunRegistered], findings: Findings) -> Tiers:
    """The tiers of known runs; without an index of their own they count up within their run."""
    tiers = Tiers([], {}, {})
    counts: dict[str, int] = {}
    for row in rows:
        run_id, tier_id = row.id("run_id"), row.id("tier_id")
        if run_id is None or tier_id is None:
            continue
        if run_id not in runs:
            findings.note("tiers name a run that is missing, row skipped", run_id)
            continue
        place = counts.get(run_id, 0)
        counts[run_id] = place + 1
        tier = tiers.by_id.get((run_id, tier_id))
        if tier is None:
            tier = _tier(row, run_id, tier_id, place)
            tiers.by_id[run_id, tier_id] = tier
            tiers.events.append(tier)
        else:
            findings.note("tiers: the id appears twice in a run, first one kept", tier_id)
        key = text_of(row.cell("key"))
        if key is not None:
            tiers.by_key.setdefault(key, tier)
    return tiers


def _tier(row: Row, run_id: str, tier_id: str, place: int) -> TierRegistered:
    index = row.count("tier_index")
    return TierRegistered(
        run_id=run_id,
        tier_id=tier_id,
        tier_index=place if index is None else index,
        name=row.text("name", TITLE_BYTES_MAX) or tier_id,
        description=row.text("description", PROSE_BYTES_MAX),
        state=row.text("state", TITLE_BYTES_MAX),
        ci_run_cap=row.count("ci_run_cap"),
    )


def phases_of(rows: Sequence[Row], tiers: Tiers, findings: Findings) -> list[PhaseRegistered]:
    """The phases in table order, with what they wait for."""
    phases: dict[tuple[str, str], PhaseRegistered] = {}
    stated: dict[tuple[str, str], tuple[str, ...]] = {}
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        run_id, phase_id = row.id("run_id"), row.id("phase_id")
        if run_id is None or phase_id is None:
            continue
        if (run_id, phase_id) in phases:
            findings.note("phases: the id appears twice in a run, first one kept", phase_id)
            continue
        scope = read_scope(text_of(row.cell("scope")), findings)
        phase = _phase(row, (run_id, phase_id), scope, tiers, findings)
        if not row.has("phase_index"):
            place = counts.get((run_id, phase.tier_id), 0)
            counts[run_id, phase.tier_id] = place + 1
            phase = msgspec.structs.replace(phase, phase_index=place)
        phases[run_id, phase_id] = phase
        stated[run_id, phase_id] = scope.dependencies
    after = _after(list(phases.values()), stated, findings)
    return [
        msgspec.structs.replace(phase, after=after[key]) if after[key] else phase
        for key, phase in phases.items()
    ]


def _phase(
    row: Row, ids: tuple[str, str], scope: Scope, tiers: Tiers, findings: Findings
) -> PhaseRegistered:
    run_id, phase_id = ids
    tier_id, tier_index, tier_run_id = _placed(row, run_id, tiers, findings)
    category = word_of(row, "category", fold_category, findings)
    complexity = word_of(row, "complexity", fold_complexity, findings)
    goal = row.text("goal", PROSE_BYTES_MAX)
    return PhaseRegistered(
        run_id=run_id,
        phase_id=phase_id,
        tier_id=tier_id,
        tier_index=tier_index,
        tier_run_id=tier_run_id,
        phase_index=row.count("phase_index") or 0,
        name=row.text("name", TITLE_BYTES_MAX) or phase_id,
        goal=clipped(scope.goal, PROSE_BYTES_MAX) if goal is None and scope.goal else goal,
        state=_state(row, findings),
        category=category[0],
        category_raw=category[1],
        complexity=complexity[0],
        complexity_raw=complexity[1],
        deliverables=scope.deliverables,
        read_only_context=scope.read_only_context,
        scope_json=row.text("scope", SCOPE_BYTES_MAX),
        builder_attempts_max=row.count("builder_attempts_max"),
        auditor_attempts_max=row.count("auditor_attempts_max"),
        incident_token_cap=row.count("incident_token_cap"),
        earlier_attempts=max(row.count("builder_attempts") or 0, row.count("retry_attempt") or 0),
        last_failure_reason=row.text("last_failure_reason", REASON_BYTES_MAX),
        created_us=row.time_us("created"),
    )


def _placed(row: Row, run_id: str, tiers: Tiers, findings: Findings) -> tuple[str, int, str | None]:
    """Tier id, tier index, and the tier's run when it is another one's."""
    reference = text_of(row.cell("tier"))
    if reference is None:
        return UNTIERED, 0, None
    by_key, by_id = tiers.by_key.get(reference), tiers.by_id.get((run_id, reference))
    # Newer databases refer by row key, a number; older ones by the tier's id, a text.
    tier = by_key or by_id if isinstance(row.cell("tier"), int) else by_id or by_key
    if tier is None:
        findings.note("phases name a tier that is missing", f"{run_id}: {reference}")
        return usable_id(reference) or UNTIERED, 0, None
    if tier.run_id == run_id:
        return tier.tier_id, tier.tier_index, None
    findings.note("phases sit in a tier of another run", f"{run_id}: {tier.run_id}")
    return tier.tier_id, tier.tier_index, tier.run_id


def _state(row: Row, findings: Findings) -> PhaseState:
    raw = text_of(row.cell("state")) or ""
    word = raw.rpartition(".")[2].strip().upper().replace("-", "_").replace(" ", "_")
    state = PHASE_STATES.get(word)
    if state is None:
        findings.note("phases.state is none that is known, taken as SKIPPED", raw or "(none)")
        return "SKIPPED"
    if state != word:
        findings.note(f"phases.state {word} taken as {state}", row.cell("phase_id"))
    return state


def word_of(
    row: Row, field: str, fold: Callable[[str], Folded], findings: Findings
) -> tuple[str | None, str | None]:
    """A category or complexity twice: folded, and as the source spells it."""
    raw = row.text(field, CATEGORY_BYTES_MAX)
    if raw is None or not raw.strip():
        return None, raw
    folded = fold(raw)
    if not folded.familiar:
        findings.note(f"{field}: a spelling that is not known, kept in lower case", raw)
    return folded.word, raw


def usable_id(text: str | None) -> str | None:
    """``text`` if it may be an id, else None."""
    try:
        return checked_id(text, "id") if text is not None else None
    except UsageProblem:
        return None


def _after(
    phases: Sequence[PhaseRegistered],
    stated: dict[tuple[str, str], tuple[str, ...]],
    findings: Findings,
) -> dict[tuple[str, str], tuple[str, ...]]:
    """(run id, phase id) → earlier phases of the run that it waits for.

    Only earlier ones count: legacy backlogs were drained in order, so a later one is a mistake
    of the source, and two phases could wait for each other.
    """
    by_run: dict[str, list[PhaseRegistered]] = {}
    for phase in phases:
        by_run.setdefault(phase.run_id, []).append(phase)
    after: dict[tuple[str, str], tuple[str, ...]] = {}
    for run_id, own in by_run.items():
        own.sort(key=lambda phase: (phase.tier_index, phase.phase_index))
        places = {phase.phase_id: at for at, phase in enumerate(own)}
        work = [
            Work(
                phase.phase_id,
                phase.order,
                _looked_up(phase, stated[run_id, phase.phase_id], places, findings),
                tuple(deliverable.path for deliverable in phase.deliverables),
                phase.read_only_context,
            )
            for phase in own
        ]
        for phase_id, earlier in waits(work).items():
            kept = [name for name in earlier if places[name] < places[phase_id]]
            after[run_id, phase_id] = _bounded(kept, findings)
    return after


def _bounded(names: Sequence[str], findings: Findings) -> tuple[str, ...]:
    size_bytes = 0
    for count, name in enumerate(names):
        size_bytes += len(name.encode())
        if count == AFTER_MAX or size_bytes > AFTER_BYTES_MAX:
            findings.note("phases wait for too many others by name, the rest left out", name)
            return tuple(names[:count])
    return tuple(names)


def _looked_up(
    phase: PhaseRegistered, names: Sequence[str], places: dict[str, int], findings: Findings
) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        if name not in places:
            findings.note("phases.scope.dependencies names no phase of the run", name)
        elif places[name] >= places[phase.phase_id]:
            findings.note("phases.scope.dependencies names a later phase, left out", name)
        else:
            found.append(name)
    return tuple(found)
