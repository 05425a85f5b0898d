"""The estimate of an attempt as an event; the writer makes it, and an audit makes it again."""

from __future__ import annotations

from engine.calibration.estimator import Coefficients, estimate
from engine.events import AttemptEstimated, AttemptStarted


def estimated(
    started: AttemptStarted,
    category: str | None,
    complexity: str | None,
    deliverables: int,
    coefficients: Coefficients,
) -> AttemptEstimated:
    """What ``started`` is estimated at, being an attempt of a phase of this kind."""
    made = estimate(coefficients, category, complexity, deliverables)
    return AttemptEstimated(
        session_id=started.session_id,
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        category=made.category,
        complexity=made.complexity,
        deliverables=made.deliverables,
        estimated_tokens=made.estimated_tokens,
        budget_tokens=made.budget_tokens,
        coefficient_version=made.coefficient_version,
    )
