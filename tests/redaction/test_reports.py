"""A report as it is recorded: no word of it shows a secret, and each of those is counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from engine.drain.covered import covered
from engine.events import Redacted
from engine.executors.port import LABELS, Output, Rejected, Report, Telemetry, Usage
from tests.secrets import SECRETS

KIND = "openai_key"
SECRET = SECRETS[KIND][0][1]
MARK = f"[redacted:{KIND}****]"
PLAIN = Report(ended="exited", duration_ms=1, exit_code=1)


def reported(**told: Any) -> Report:
    return replace(PLAIN, telemetry=Telemetry(**told))


def used(label: str, said: str) -> Report:
    return reported(usage=(replace(Usage(line=1, source="file"), **{label: said}),))


def failed(reason: str) -> Report:
    return replace(PLAIN, reason=reason)


def rejected(excerpt: str) -> Report:
    return reported(rejected=(Rejected(why="not_json", count=1, first_line=1, excerpt=excerpt),))


@pytest.mark.parametrize(
    "report",
    [
        failed(f"no luck with {SECRET}"),
        replace(PLAIN, missing_deliverables=(SECRET,)),
        reported(artifacts=(SECRET,)),
        rejected(SECRET),
        *(used(label, SECRET) for label in LABELS),
    ],
)
def test_a_secret_in_any_word_of_a_report_is_covered_and_counted_once(report: Report) -> None:
    found = covered(report, b"", b"")
    assert SECRET not in repr(found.report)
    assert found.redacted == (Redacted(kind=KIND, count=1),)
    assert covered(PLAIN, SECRET.encode(), b"").redacted == found.redacted
    assert covered(PLAIN, b"", SECRET.encode()).redacted == found.redacted


def test_a_secret_in_many_records_is_covered_and_counted_in_each() -> None:
    plain, secret = used("model", "m-1"), used("model", SECRET)
    usage = (plain.telemetry.usage + secret.telemetry.usage) * 3
    found = covered(reported(usage=usage), b"", b"")
    assert [record.model == "m-1" for record in found.report.telemetry.usage] == [True, False] * 3
    assert SECRET not in repr(found.report)
    assert found.redacted == (Redacted(kind=KIND, count=3),)


@pytest.mark.parametrize("marked", [failed, rejected])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_what_was_covered_when_it_was_cut_is_counted(
    marked: Callable[[str], Report], times: int
) -> None:
    found = covered(marked("no luck with " + " ".join([MARK] * times)), b"", b"")
    assert found.redacted == ((Redacted(kind=KIND, count=times),) if times else ())


def test_what_guardians_covered_is_counted_with_all_the_rest_and_told_by_kind() -> None:
    kept = Output(redacted=((KIND, 2), ("jwt", 1)))
    report = replace(
        PLAIN, stdout=kept, stderr=Output(redacted=((KIND, 3),)), reason=f"{MARK} {SECRET}"
    )
    found = covered(report, SECRET.encode(), b"")
    assert found.redacted == (Redacted(kind="jwt", count=1), Redacted(kind=KIND, count=8))
    assert covered(PLAIN, b"plain", b"words") == (PLAIN, b"plain", b"words", ())
