"""Metrics: the board as text for Prometheus, so that every figure equals the log's.

Pure.  Format: https://prometheus.io/docs/instrumenting/exposition_formats/ (text, 0.0.4).
``docs/reference/metrics.md`` lists them for people; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import msgspec

from projections.board import Board
from projections.days import day_key
from projections.zero_yield import TOTAL, YieldCounts


class Metric(NamedTuple):
    """One family of figures."""

    kind: Literal["counter", "gauge"]
    help: str


METRICS: Mapping[str, Metric] = {
    "runoff_info": Metric("gauge", "1; its labels name version and policy."),
    "runoff_state": Metric("gauge", "1 for the state that the daemon is in, as status names it."),
    "runoff_log_position": Metric("gauge", "The position of the log that all figures are as of."),
    "runoff_epoch": Metric("gauge", "The epoch of the writer."),
    "runoff_runs": Metric("gauge", "Runs by how they stand."),
    "runoff_phases": Metric("gauge", "Phases by state."),
    "runoff_attempts_open": Metric("gauge", "Attempts that run now."),
    "runoff_attempts_started_total": Metric("counter", "Attempts that were started."),
    "runoff_attempts_ended_total": Metric("counter", "Attempts that ended, by how."),
    "runoff_attempts_deferred_total": Metric(
        "counter", "Attempts that do not count, because they met a provider's limit."
    ),
    "runoff_attempt_seconds_total": Metric("counter", "What attempts took, one by one."),
    "runoff_tokens_total": Metric("counter", "Tokens of attempts."),
    "runoff_usage_events_total": Metric("counter", "Usage records of attempts."),
    "runoff_zero_yield_attempts": Metric("gauge", "Attempts without usage, by newest reason."),
    "runoff_boundary_attempts": Metric("gauge", "Attempts that a limit stopped, by newest kind."),
    "runoff_breakers_open": Metric("gauge", "Causes that hold back runs without a verdict."),
    "runoff_accounts_paused": Metric("gauge", "Accounts that rest at a provider's limit."),
    "runoff_sessions_total": Metric("counter", "Sessions that were begun."),
    "runoff_day_attempts": Metric("gauge", "Attempts started on this day in UTC."),
    "runoff_day_tokens": Metric("gauge", "Tokens spent on this day in UTC."),
    "runoff_day_tokens_limit": Metric("gauge", "The day's budget of tokens, where there is one."),
    "runoff_log_lines_lost_total": Metric("counter", "Log lines that could not be written."),
    "process_cpu_seconds_total": Metric("counter", "CPU time of the daemon, without children."),
    "process_resident_memory_bytes": Metric("gauge", "Memory of the daemon."),
    "process_start_time_seconds": Metric("gauge", "When the daemon started, in Unix seconds."),
}
"""Every family by its name, in the order in which they are written."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """What is no fact of the log: the daemon itself.  Memory is 0 where it cannot be told."""

    version: str
    policy: str
    state: str
    epoch: int
    now_us: int
    day_tokens_limit: int | None
    cpu_s: float
    resident_bytes: int
    started_us: int
    lines_lost: int


class Sample(NamedTuple):
    """One figure; ``label`` and its ``value``, or none."""

    name: str
    figure: float
    labels: tuple[tuple[str, str], ...] = ()


def exposition(board: Board, engine: Engine) -> str:
    """All figures at the head of ``board``, as a page for Prometheus."""
    by_name: dict[str, list[Sample]] = {}
    for sample in (*of_engine(engine), *of_board(board, engine.now_us)):
        by_name.setdefault(sample.name, []).append(sample)
    lines: list[str] = []
    for name, metric in METRICS.items():
        samples = by_name.get(name, ())
        if samples:
            lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}"]
            lines += [_line(sample) for sample in samples]
    return "\n".join(lines) + "\n"


def of_engine(engine: Engine) -> Iterator[Sample]:
    """The figures of the daemon itself."""
    labels = (("version", engine.version), ("policy", engine.policy))
    yield Sample("runoff_info", 1, labels)
    yield Sample("runoff_state", 1, (("state", engine.state),))
    yield Sample("runoff_epoch", engine.epoch)
    if engine.day_tokens_limit is not None:
        yield Sample("runoff_day_tokens_limit", engine.day_tokens_limit)
    yield Sample("runoff_log_lines_lost_total", engine.lines_lost)
    yield Sample("process_cpu_seconds_total", engine.cpu_s)
    if engine.resident_bytes:
        yield Sample("process_resident_memory_bytes", engine.resident_bytes)
    yield Sample("process_start_time_seconds", engine.started_us / 1e6)


def of_board(board: Board, now_us: int) -> Iterator[Sample]:
    """The figures of the log, from its projections."""
    yield Sample("runoff_log_position", board.head.pos)
    yield from _counted("runoff_runs", "standing", (run.standing for run in board.runs.values()))
    yield from _counted("runoff_phases", "state", (p.state for p in board.backlog.values()))
    yield from _of_sessions(board)
    counts = board.zero_yield.get(TOTAL) or YieldCounts()
    yield from _by_label("runoff_zero_yield_attempts", "reason", counts.zero_yield)
    yield from _by_label("runoff_boundary_attempts", "kind", counts.boundaries)
    opened = sum(b.opened_pos is not None for b in board.breakers.values())
    yield Sample("runoff_breakers_open", opened)
    paused = sum(now_us < account.until_us for account in board.accounts.values())
    yield Sample("runoff_accounts_paused", paused)
    day = board.days.get(day_key(now_us))
    yield Sample("runoff_day_attempts", day.attempts if day else 0)
    yield Sample("runoff_day_tokens", day.tokens if day else 0)


def _of_sessions(board: Board) -> Iterator[Sample]:
    sessions = list(board.sessions.values())
    yield Sample("runoff_sessions_total", len(sessions))
    yield Sample("runoff_attempts_open", sum(s.open for s in sessions))
    yield Sample("runoff_attempts_started_total", sum(s.attempts for s in sessions))
    # A deferred attempt had ended; its session takes it out of those, and a counter never falls.
    endings = {
        "succeeded": sum(s.succeeded for s in sessions),
        "failed": sum(s.failed + s.deferred - s.deferred_timeouts for s in sessions),
        "timed_out": sum(s.timed_out + s.deferred_timeouts for s in sessions),
        "abandoned": sum(s.abandoned for s in sessions),
        "orphaned": sum(s.orphaned for s in sessions),
    }
    yield from _by_label("runoff_attempts_ended_total", "ending", endings)
    yield Sample("runoff_attempts_deferred_total", sum(s.deferred for s in sessions))
    yield Sample("runoff_attempt_seconds_total", sum(s.busy_ms for s in sessions) / 1000)
    yield Sample("runoff_tokens_total", sum(s.tokens for s in sessions))
    yield Sample("runoff_usage_events_total", sum(s.yield_events for s in sessions))


def _counted(name: str, label: str, values: Iterable[str]) -> Iterator[Sample]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    yield from _by_label(name, label, counts)


def _by_label(name: str, label: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    for value, count in sorted(counts.items()):
        yield Sample(name, count, ((label, value),))


def _line(sample: Sample) -> str:
    labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sample.labels)
    return (
        f"{sample.name}{{{labels}}} {sample.figure}" if labels else f"{sample.name} {sample.figure}"
    )


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
