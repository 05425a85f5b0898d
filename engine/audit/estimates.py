"""What a log holds for calibration: samples, coefficients and proposals."""

from __future__ import annotations

from dataclasses import dataclass, field

from engine.calibration.result import Calibration, Change, LogHead
from engine.calibration.samples import GroupKey, Sample
from engine.calibration.track_record import Proposal
from engine.events import (
    CalibrationProposed,
    CoefficientsAdopted,
    CoefficientsInForce,
    ProposedMultiplier,
    Seen,
)
from engine.store.boards import load_folds, seen_page
from engine.store.moments import recorded_at
from engine.store.protocol import LogReader
from projections.calibration import CALIBRATION, samples_of

TYPES = frozenset(
    {
        "session.coefficients_in_force",
        "calibration.proposed",
        "calibration.coefficients_adopted",
    }
)


@dataclass
class Gathered:
    """All of it as of one position.

    ``coefficients``: by version, as JSON; ``adopted``: the version adopted last, ``used`` that of
    the newest session; None when there was none.
    """

    head: LogHead
    samples: list[Sample]
    coefficients: dict[str, str] = field(default_factory=dict[str, str])
    adopted: str | None = None
    used: str | None = None
    proposals: list[Proposal] = field(default_factory=list[Proposal])

    @property
    def current(self) -> str | None:
        """Whose samples count unless one is named: those in force, else the newest sample's.

        In force are those adopted, as for a drain that names none.  A session may have gone by
        others once; that counts only where nobody adopted any.
        """
        found = self.adopted or self.used
        if found is not None:
            return found
        return next((each.version for each in reversed(self.samples) if each.version), None)


async def gathered(reader: LogReader, end: int) -> Gathered:
    """What the log up to position ``end`` holds; changes no byte of it."""
    folds = await load_folds(reader, [CALIBRATION], end)
    digest = await reader.hash_at(end) if end else None
    recorded_us = await recorded_at(reader, end) if end else None
    head = LogHead(position=end, hash=(digest or bytes(32)).hex(), recorded_us=recorded_us)
    found = Gathered(head, samples_of(folds[CALIBRATION.name].values()))
    pos = 0
    while rows := await reader.fold_rows(pos, end, TYPES):
        for seen in seen_page(rows):
            _take(found, seen)
        pos = rows[-1][0]
    return found


def _take(found: Gathered, seen: Seen) -> None:
    match seen.event:
        case CoefficientsInForce() as event:
            found.coefficients[event.coefficient_version] = event.coefficients_json
            found.used = event.coefficient_version
        case CoefficientsAdopted() as event:
            found.coefficients[event.coefficient_version] = event.coefficients_json
            found.adopted = event.coefficient_version
        case CalibrationProposed() as event:
            found.proposals += proposals_of(event)
        case _:
            pass


def proposals_of(event: CalibrationProposed) -> list[Proposal]:
    """Each group of a report that should have changed, as of the position that it was of."""
    return [
        Proposal(
            event.position,
            GroupKey(each.category, each.complexity),
            each.multiplier,
            each.confidence,
            event.coefficient_version,
        )
        for each in event.proposals
    ]


def event_of(result: Calibration) -> CalibrationProposed:
    """A report of the log, as the log has it."""
    assert result.log is not None
    return CalibrationProposed(
        position=result.log.position,
        hash=result.log.hash,
        input_sha256=result.input_sha256,
        formula_version=result.formula_version,
        coefficient_version=result.settings.coefficient_version,
        min_samples=result.settings.min_samples,
        confidence_threshold=result.settings.confidence_threshold,
        include_run_ids=result.settings.include_run_ids,
        since=result.settings.since,
        samples=result.totals.read,
        groups=len(result.groups),
        sentence=result.sentence,
        proposals=tuple(_proposed(change) for change in result.patch.proposed_changes),
    )


def _proposed(change: Change) -> ProposedMultiplier:
    return ProposedMultiplier(
        category=change.category,
        complexity=change.complexity,
        multiplier=change.proposed_multiplier,
        multiplier_low=change.multiplier_low,
        multiplier_high=change.multiplier_high,
        confidence=change.confidence,
        phase_count=change.phase_count,
    )
