"""What a calibration comes to: shapes for people and programs.  Field names are those of --json."""

from __future__ import annotations

import msgspec

from engine.calibration.budgets import BudgetSource
from engine.calibration.drift import Drift
from engine.calibration.samples import Class
from engine.calibration.verdict import Action, Verdict

FORMULA_VERSION = "1"
"""Of all formulas together; another one when any number may come out differently."""


class GroupResult(msgspec.Struct, frozen=True, kw_only=True):
    """One group.  None wherever its samples cannot tell.

    From ``sample_count`` to ``underestimation_rate`` over its clean (and where named truncated)
    samples, as documented; from ``phase_count`` on over one sample per phase.  ``*_multiplier`` are
    multipliers of the estimate; ``km_log_median``, ``log_sd``, ``log_multiplier`` and its sd are
    natural logarithms of such.  ``tokens_at_stake``: by how many tokens estimates were off in all.
    """

    category: str
    complexity: str
    counts: dict[Class, int]
    sample_count: int
    phase_count: int
    avg_actual: float | None
    avg_estimated: float | None
    avg_ratio: float | None
    median_ratio: float | None
    min_ratio: float | None
    max_ratio: float | None
    ratio_variance: float | None
    documented_confidence: float | None
    smape: float | None
    mape: float | None
    waste_median: float | None
    waste_p90: float | None
    truncation_rate: float | None
    underestimation_rate: float | None
    km_log_median: float | None
    log_sd: float | None
    shrink: float | None
    log_multiplier: float | None
    log_multiplier_sd: float | None
    proposed_multiplier: float | None
    multiplier_low: float | None
    multiplier_high: float | None
    confidence: float | None
    verdict: Verdict
    action: Action
    budget_p90_multiplier: float | None
    budget_p98_multiplier: float | None
    budget_source: BudgetSource | None
    drift: Drift
    budget_p98_source: BudgetSource | None
    clean_phase_count: int
    missing: str
    tokens_at_stake: float
    aliases: tuple[str, ...]
    first_sample_us: int | None
    last_sample_us: int | None

    @property
    def name(self) -> str:
        """The group for a person."""
        return f"{self.category}/{self.complexity}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked: gates, and which samples to read.

    ``coefficient_version``: the one whose samples count; None for all.  ``since`` and ``until``
    are positions (or numbers of rows), both included.
    """

    min_samples: int
    confidence_threshold: float
    coefficient_version: str | None = None
    include_run_ids: tuple[str, ...] = ()
    since: int | None = None
    until: int | None = None


class LogHead(msgspec.Struct, frozen=True, kw_only=True):
    """The end of the log that was read; the hash in hexadecimal, the time in Unix microseconds."""

    position: int
    hash: str
    recorded_us: int | None


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """All samples that were read: by class, and of other coefficients than the current ones.

    ``read`` is the sum of the others; ``outside`` were not asked for (run or time).
    """

    read: int
    counts: dict[Class, int]
    stale: int
    outside: int
    stale_versions: dict[str, int]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One proposal; up to ``reasoning`` with the names of the original's patch.

    ``coefficient`` is the key in the coefficients' file, ``old_value`` and ``new_value`` what it
    says and what it should say.
    """

    category: str
    complexity: str
    sample_count: int
    confidence: float
    median_ratio: float
    proposed_multiplier: float
    action: str
    reasoning: str
    direction: Action
    coefficient: str
    old_value: float
    new_value: float
    multiplier_low: float
    multiplier_high: float
    documented_confidence: float
    phase_count: int
    counts: dict[Class, int]
    aliases: tuple[str, ...]
    first_sample_at: str | None
    last_sample_at: str | None
    coefficient_version: str | None
    formula_version: str


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    """Where a patch comes from; the first four with the names of the original's.

    ``generated_at`` is the time of the log's head, or of the newest sample: the same log gives the
    same bytes whenever it is asked.
    """

    generated_at: str | None
    confidence_threshold: float
    total_samples: int
    high_confidence_groups: int
    min_samples: int
    formula_version: str
    coefficient_version: str | None
    input_sha256: str
    sample_counts: dict[Class, int]
    first_sample_at: str | None
    last_sample_at: str | None
    log_position: int | None
    log_hash: str | None


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """What a person may change in the coefficients; nothing does it for them."""

    metadata: Metadata
    proposed_changes: tuple[Change, ...]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The whole result.  ``sentence`` says it to a person."""

    groups: tuple[GroupResult, ...]
    patch: Patch
    sentence: str
    notes: tuple[str, ...]
    settings: Settings
    totals: Totals
    input_sha256: str
    formula_version: str
    log: LogHead | None
    typical_error_before: float | None
    typical_error_after: float | None
