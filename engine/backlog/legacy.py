"""Legacy import: an old SQLite backlog as events, without changing a byte of it.

Events come in the order in which the source's tables hold them: first all runs, then all tiers,
then the phases of all runs in row order, then usage, then estimates.  Ties in later picking are
broken by log position, and the original picked in table order.

Importing again adds only what the log does not have.  Runs, tiers and phases are the same when
their ids are; usage and estimation rows when their number and content are, so that a copy of the
source which has grown since adds just its new rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.backlog.batch import Known, Registration, content_registrations
from engine.backlog.findings import Findings
from engine.backlog.legacy_source import Source, opened
from engine.backlog.legacy_tables import ESTIMATES, PHASES, RUNS, TIERS, USAGE
from engine.backlog.legacy_usage import estimates_of, usage_of
from engine.backlog.legacy_work import add_missing_runs, phases_of, runs_of, tiers_of
from engine.events import (
    AnyEvent,
    EstimateImported,
    ImportFinished,
    PhaseRegistered,
    RunRegistered,
    TierRegistered,
    UsageImported,
)


class LegacyImport(msgspec.Struct, frozen=True, kw_only=True):
    """What to append to take a legacy database in.

    ``registrations`` hold the new events in order and are empty when there is nothing new: then
    nothing at all is to be appended.  Otherwise ``closing``, which holds ``finished``, comes
    last.  ``finished`` counts what is new and what the log knew already.
    """

    registrations: tuple[Registration, ...]
    finished: ImportFinished
    closing: Registration
    source_sha256: str


class _Content(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one source holds, new or not."""

    runs: Sequence[RunRegistered]
    tiers: Sequence[TierRegistered]
    phases: Sequence[PhaseRegistered]
    usage: Sequence[UsageImported]
    estimates: Sequence[EstimateImported]


def read_legacy(path: Path, known: Known) -> LegacyImport:
    """What importing the database at ``path`` adds to a log that holds ``known``.

    Synchronous; takes about a tenth of a second for 2 000 rows.  Raises WrongDatabase when the
    file is missing, empty, foreign or a Runoff log, LogUnreadable when it is damaged, LogHeld
    when another process holds or changes it, UsageProblem when it is beyond the limits of size.
    """
    findings = Findings()
    with opened(path) as source:
        content = _read(source, findings)
    return _new_of(content, known, findings, source)


def _read(source: Source, findings: Findings) -> _Content:
    origin = f"legacy {source.name}"
    run_rows, phase_rows = source.rows(RUNS, findings), source.rows(PHASES, findings)
    runs = runs_of(run_rows, origin, findings)
    listed = frozenset(runs)
    add_missing_runs(runs, phase_rows, origin, findings)
    tiers = tiers_of(source.rows(TIERS, findings), runs, findings)
    return _Content(
        runs=list(runs.values()),
        tiers=tiers.events,
        phases=phases_of(phase_rows, tiers, findings),
        usage=usage_of(source.rows(USAGE, findings), listed, findings),
        estimates=estimates_of(source.rows(ESTIMATES, findings), listed, findings),
    )


def _new_of(content: _Content, known: Known, findings: Findings, source: Source) -> LegacyImport:
    runs = [run for run in content.runs if run.run_id not in known.runs]
    tiers = [tier for tier in content.tiers if (tier.run_id, tier.tier_id) not in known.tiers]
    phases = [
        phase for phase in content.phases if (phase.run_id, phase.phase_id) not in known.phases
    ]
    usage = [row for row in content.usage if row.row_digest not in known.usage_rows]
    estimates = [row for row in content.estimates if row.row_digest not in known.estimate_rows]
    parts: dict[str, Sequence[AnyEvent]] = {
        "runs": runs,
        "tiers": tiers,
        "phases": phases,
        "usage": usage,
        "estimates": estimates,
    }
    new = sum(len(part) for part in parts.values())
    held = sum(len(part) for part in (content.runs, content.tiers, content.phases))
    finished = ImportFinished(
        source=source.name,
        source_sha256=source.sha256,
        runs=len(runs),
        tiers=len(tiers),
        phases=len(phases),
        usage_rows=len(usage),
        estimate_rows=len(estimates),
        already_known=held + len(content.usage) + len(content.estimates) - new,
        findings=findings.listed(),
    )
    return _packed(parts, finished)


def _packed(parts: dict[str, Sequence[AnyEvent]], finished: ImportFinished) -> LegacyImport:
    stream = f"import/{finished.source}"
    groups: list[Registration] = []
    for kind, events in parts.items():
        groups += content_registrations(f"import/{kind}", stream, events)
    (closing,) = content_registrations("import/finished", stream, [finished])
    return LegacyImport(
        registrations=tuple(groups),
        finished=finished,
        closing=closing,
        source_sha256=finished.source_sha256,
    )
