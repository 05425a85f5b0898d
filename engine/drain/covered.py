"""A report without the secrets that stood in its words, and how many of which kind those were.

Guardians cover what they keep of a child's output themselves.  What other executors kept, and what
a child wrote into its files, is covered here, before anything of it is diagnosed or recorded.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import msgspec

from engine.events import Redacted
from engine.executors.port import LABELS, Report, Usage
from engine.redaction.stream import covered_bytes
from engine.redaction.texts import marks, redacted


class Covered(NamedTuple):
    """``report`` with covered words, the kept bytes of both streams, and what was covered."""

    report: Report
    stdout: bytes
    stderr: bytes
    redacted: tuple[Redacted, ...]


def covered(report: Report, stdout: bytes, stderr: bytes) -> Covered:
    """``report`` and what was kept of its streams, without secrets.

    ``stdout`` and ``stderr``: the kept bytes as they are; covered ones keep their length.
    """
    counts: dict[str, int] = {}
    for kind, count in (*report.stdout.redacted, *report.stderr.redacted):
        counts[kind] = counts.get(kind, 0) + count
    kept = (covered_bytes(stdout, counts), covered_bytes(stderr, counts))
    made = _words_covered(report, counts)
    told = tuple(Redacted(kind=kind, count=counts[kind]) for kind in sorted(counts))
    return Covered(made, *kept, told)


def _words_covered(report: Report, counts: dict[str, int]) -> Report:
    said = partial(redacted, counts=counts)
    telemetry = report.telemetry
    for text in (report.reason or "", *(each.excerpt for each in telemetry.rejected)):
        # What was too long was covered when it was cut.
        for kind in marks(text):
            counts[kind] = counts.get(kind, 0) + 1
    return msgspec.structs.replace(
        report,
        reason=said(report.reason) if report.reason is not None else None,
        missing_deliverables=tuple(map(said, report.missing_deliverables)),
        telemetry=msgspec.structs.replace(
            telemetry,
            usage=_usage_covered(telemetry.usage, counts),
            rejected=tuple(
                msgspec.structs.replace(each, excerpt=said(each.excerpt))
                for each in telemetry.rejected
            ),
            artifacts=tuple(map(said, telemetry.artifacts)),
        ),
    )


def _usage_covered(records: tuple[Usage, ...], counts: dict[str, int]) -> tuple[Usage, ...]:
    # One text stands in thousands of records; it is looked at once if it holds nothing.
    clean = set[str]()
    made: list[Usage] = []
    for usage in records:
        changed: dict[str, str] = {}
        for label in LABELS:
            text: str | None = getattr(usage, label)
            if text is None or text in clean:
                continue
            if (said := redacted(text, counts)) is text:
                clean.add(text)
            else:
                changed[label] = said
        made.append(msgspec.structs.replace(usage, **changed) if changed else usage)
    return tuple(made)
