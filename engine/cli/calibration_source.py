"""Where samples come from: a table, or the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from engine.audit.estimates import Gathered, gathered
from engine.calibration.estimator import coefficients_from_json, shipped
from engine.calibration.patch import Multiplier
from engine.calibration.result import LogHead, Settings
from engine.calibration.samples import Group, GroupKey, Sample, grouped
from engine.calibration.track_record import Proposal, Score, scored
from engine.calibration.verdict import CONFIDENCE_THRESHOLD, MIN_SAMPLES
from engine.cli.context import run_async
from engine.cli.moment import Moment, place_of
from engine.cli.peeking import Peek, peeking
from engine.cli.render import asked
from engine.cli.samples_file import samples_in_file
from engine.clock import SystemClock
from engine.errors import UsageProblem
from engine.store.moments import position_at


@dataclass(frozen=True)
class Source:
    """Samples, and what else is known where they come from.

    ``current``: the coefficients whose samples count unless others are named; ``since`` and
    ``until``: positions or rows, both included; ``at_us``: the time of asking (Unix).
    """

    samples: list[Sample]
    at_us: int
    current: str | None = None
    log: LogHead | None = None
    since: int | None = None
    until: int | None = None
    coefficients: dict[str, str] = field(default_factory=dict[str, str])
    proposals: list[Proposal] = field(default_factory=list[Proposal])

    def multiplier(self, version: str | None) -> Multiplier | None:
        """The multipliers of the coefficients of a version; None when they are none of ours."""
        if version is not None and version in self.coefficients:
            return coefficients_from_json(self.coefficients[version]).multiplier
        return shipped().multiplier if version == shipped().version else None

    def track_record(self) -> list[Score]:
        """Earlier proposals against what came after them."""
        groups: dict[tuple[str | None, GroupKey], Group] = {}
        for version in {each.version for each in self.proposals}:
            of_version = [each for each in self.samples if each.version == (version or "")]
            groups |= {(version, group.key): group for group in grouped(of_version)}
        return scored(self.proposals, groups)


def source_of(options: dict[str, Any]) -> Source:
    """The table that is named, else the log."""
    for name in ("coefficients", "version_column"):
        if options[name] is not None:
            asked(options[name], f"--{name.replace('_', '-')}")
    if options["from_csv"] is not None:
        return _from_table(options)
    if options["version_column"] is not None:
        raise UsageProblem(
            "--version-column is for tables.", remedy="leave it out, or name one with --from-csv."
        )
    return run_async(lambda: _from_log(options))


def settings_of(
    source: Source,
    options: dict[str, Any],
    version: str | None,
    *,
    min_samples: int = MIN_SAMPLES,
    confidence_threshold: float = CONFIDENCE_THRESHOLD,
) -> Settings:
    """Which samples of a source are asked for; ``version``: of which coefficients, None for all."""
    return Settings(
        min_samples=min_samples,
        confidence_threshold=confidence_threshold,
        coefficient_version=version,
        include_run_ids=tuple(asked(run, "--include-run-id") for run in options["runs"]),
        since=source.since,
        until=source.until,
    )


def _from_table(options: dict[str, Any]) -> Source:
    samples = samples_in_file(options["from_csv"], options["version_column"])
    since, until = options["since"], options["at"]
    return Source(
        samples,
        SystemClock().now_us(),
        current=samples[-1].version or None if samples else None,
        since=None if since is None else _first_from(samples, since),
        until=None if until is None else _last_until(samples, until),
    )


def _first_from(samples: list[Sample], wanted: Moment) -> int:
    """The first row at or after a moment."""
    if wanted.pos is not None:
        return wanted.pos
    late = [each.pos for each in samples if _time(each) >= (wanted.at_us or 0)]
    return min(late, default=len(samples) + 1)


def _last_until(samples: list[Sample], wanted: Moment) -> int:
    """The last row at or before a moment."""
    if wanted.pos is not None:
        return wanted.pos
    early = [each.pos for each in samples if _time(each) <= (wanted.at_us or 0)]
    return max(early, default=0)


def _time(sample: Sample) -> int:
    if sample.at_us is None:
        raise UsageProblem(
            f"row {sample.pos} has no timestamp, so a time names no row.",
            remedy="give --since and --at as numbers of rows.",
        )
    return sample.at_us


async def _from_log(options: dict[str, Any]) -> Source:
    allow, at = options["allow_empty_db"], options["at"]
    async with peeking(options["database"], allow_empty=allow, at=at) as peek:
        found: Gathered = await gathered(peek.reader, peek.end)
        return Source(
            found.samples,
            peek.now_us,
            current=found.current,
            log=found.head,
            since=await _since(peek, options["since"]),
            coefficients=found.coefficients,
            proposals=found.proposals,
        )


async def _since(peek: Peek, wanted: Moment | None) -> int | None:
    """The first position at or after a moment."""
    if wanted is None:
        return None
    if wanted.at_us is None:
        return (await place_of(peek.reader, wanted)).pos
    return await position_at(peek.reader, wanted.at_us - 1) + 1
