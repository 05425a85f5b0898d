"""Calibration: what attempts were estimated at, what was proposed, and what a person adopted."""

from __future__ import annotations

from engine.events.base import Event, Value


class CoefficientsInForce(Event, frozen=True, kw_only=True, tag="session.coefficients_in_force"):
    """The coefficients that this session estimates with; ``coefficients_json`` is all of them."""

    session_id: str
    coefficient_version: str
    coefficients_sha256: str
    coefficients_json: str


class AttemptEstimated(Event, frozen=True, kw_only=True, tag="attempt.estimated"):
    """What an attempt was estimated at when it began, in tokens of output.

    The estimate is right in the middle; ``budget_tokens`` is what it may take, which is another
    thing.  ``deliverables`` counts them; the words are as they were looked up.
    """

    session_id: str
    run_id: str
    phase_id: str
    attempt_id: str
    category: str
    complexity: str
    deliverables: int
    estimated_tokens: int
    budget_tokens: int
    coefficient_version: str


class ProposedMultiplier(Value, frozen=True, kw_only=True, omit_defaults=False):
    """One group of a calibration that should change."""

    category: str
    complexity: str
    multiplier: float
    multiplier_low: float
    multiplier_high: float
    confidence: float
    phase_count: int


class CalibrationProposed(Event, frozen=True, kw_only=True, tag="calibration.proposed"):
    """A calibration was reported: of the log up to ``position``, whose chain hash is ``hash``.

    Of its samples those from position ``since`` on, and of ``include_run_ids`` if there are any;
    ``input_sha256`` is of those.  Nothing was changed by it.
    """

    position: int
    hash: str
    input_sha256: str
    formula_version: str
    coefficient_version: str | None
    min_samples: int
    confidence_threshold: float
    include_run_ids: tuple[str, ...] = ()
    since: int | None = None
    samples: int
    groups: int
    sentence: str
    proposals: tuple[ProposedMultiplier, ...] = ()


class DriftAlarmed(Event, frozen=True, kw_only=True, tag="calibration.drift_alarmed"):
    """The newest ratios of a group no longer look like those before them.

    ``position``: the sample at which that showed; ``z`` of the rank test, above 0 when the newest
    are larger.
    """

    category: str
    complexity: str
    coefficient_version: str
    position: int
    z: float


class CoefficientsAdopted(Event, frozen=True, kw_only=True, tag="calibration.coefficients_adopted"):
    """A person changed the coefficients, and says why; ``coefficients_json`` is all of them."""

    coefficient_version: str
    coefficients_sha256: str
    coefficients_json: str
    replaces: str | None
    by: str
    why: str
