"""How commands take a phase: RUN PHASE, or RUN/PHASE cut at the last slash that leaves one."""

from __future__ import annotations

from collections.abc import Iterable

from engine.errors import UsageProblem
from engine.triage.typed import cuts


def readings(what: str, phase_id: str | None) -> Iterable[tuple[str, str]]:
    """The pairs of run and phase that may be meant, the likeliest first."""
    return cuts(what) if phase_id is None else [(what, phase_id)]


def unknown_phase(what: str, phase_id: str | None) -> UsageProblem:
    """What to raise when there is none of these pairs."""
    name = "/".join(part for part in (what, phase_id) if part)
    return UsageProblem(
        f"there is no phase {name[:160]!a}.",
        remedy="name it as RUN/PHASE; `runoff phase list` names them all.",
    )
