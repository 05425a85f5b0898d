"""The work: runs, tiers and phases as they were registered, wherever they came from."""

from __future__ import annotations

from typing import ClassVar, Literal

from engine.events.base import Event, PhaseState, Value

Order = Literal["strict", "free"]
"""``strict``: a tier's phases wait for the earlier ones; ``free``: only for what they read."""


class RunRegistered(Event, frozen=True, kw_only=True, tag="backlog.run_registered"):
    """A run became known.  Caps are those of its origin; None means none was given."""

    run_id: str
    origin: str
    state: str
    token_cap: int | None = None
    phases_max: int | None = None
    duration_minutes_max: int | None = None
    created_us: int | None = None
    failure_reason: str | None = None


class TierRegistered(Event, frozen=True, kw_only=True, tag="backlog.tier_registered"):
    """An ordered group of phases became known."""

    run_id: str
    tier_id: str
    tier_index: int
    name: str
    description: str | None = None
    state: str | None = None
    ci_run_cap: int | None = None
    order: Order = "strict"


class Deliverable(Value, frozen=True, kw_only=True, omit_defaults=False):
    """A file a phase must produce, and names that must appear in it.

    Written whole: executors hand it on to their programs.
    """

    path: str
    must_contain: tuple[str, ...] = ()


class PhaseRegistered(Event, frozen=True, kw_only=True, tag="backlog.phase_registered"):
    """A phase became known.

    ``category`` and ``complexity`` are folded spellings, the ``_raw`` twins what the source said.
    ``after`` lists phases of the same run that must be finished first (from deliverables that
    are read, or stated); ``needs`` the labels that an engine must offer to attempt it.
    ``scope_json`` is the source's scope, byte for byte.
    ``tier_run_id`` is set when the source put the phase into a tier of another run.
    """

    schema: ClassVar[int] = 2

    run_id: str
    phase_id: str
    tier_id: str
    tier_index: int
    tier_run_id: str | None = None
    phase_index: int
    name: str
    goal: str | None = None
    state: PhaseState
    category: str | None = None
    category_raw: str | None = None
    complexity: str | None = None
    complexity_raw: str | None = None
    order: Order = "strict"
    after: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    deliverables: tuple[Deliverable, ...] = ()
    read_only_context: tuple[str, ...] = ()
    scope_json: str | None = None
    builder_attempts_max: int | None = None
    auditor_attempts_max: int | None = None
    incident_token_cap: int | None = None
    earlier_attempts: int = 0
    last_failure_reason: str | None = None
    created_us: int | None = None


class PhaseRequeued(Event, frozen=True, kw_only=True, tag="backlog.phase_requeued"):
    """An operator put a phase back; its attempts count from one again."""

    run_id: str
    phase_id: str
    by: str
    why: str


class Finding(Value, frozen=True, kw_only=True):
    """Something an import could not map, or mapped with a remark; ``count`` rows alike."""

    what: str
    count: int
    example: str | None = None


class ImportFinished(Event, frozen=True, kw_only=True, tag="backlog.import_finished"):
    """A source was taken in whole; ``source_sha256`` is of its content at that time."""

    source: str
    source_sha256: str
    runs: int
    tiers: int
    phases: int
    usage_rows: int
    estimate_rows: int
    already_known: int
    findings: tuple[Finding, ...] = ()
