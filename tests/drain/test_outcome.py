"""What the files of an attempt tell of its end: the guardian's last word, or what is left."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from engine.executors.outcome import MUCH_BYTES, Spec, lost_report, read_report
from engine.executors.port import Report, Telemetry
from tests.drain.test_child_protocol import USAGE, replaced


def write_spec(directory: Path) -> None:
    Spec(attempt_id="att_1", cwd=str(directory), timeout_s=1, grace_s=1, kill_budget_s=1).write(
        directory
    )


OUTCOME: dict[str, Any] = {
    "ended": "exited",
    "exit_code": 0,
    "signal": None,
    "spawn_error": None,
    "duration_ms": 5,
    "killed": 0,
    "survivors": 0,
}


def test_without_an_outcome_there_is_no_report(tmp_path: Path) -> None:
    write_spec(tmp_path)
    assert read_report(tmp_path) is None
    assert read_report(tmp_path / "never made") is None


def test_an_outcome_is_read_into_a_report(tmp_path: Path) -> None:
    write_spec(tmp_path)
    (tmp_path / "stdout").write_bytes(b"0123456789")
    sums = {"stdout": {"total": 99, "head": 6, "tail": 4}}
    (tmp_path / "outcome.json").write_text(json.dumps(OUTCOME | sums))
    report = read_report(tmp_path)
    assert report is not None
    assert (report.ended, report.exit_code, report.duration_ms) == ("exited", 0, 5)
    kept = report.stdout
    assert (kept.total_bytes, kept.head_bytes, kept.tail_bytes) == (99, 6, 4)
    assert kept.path == tmp_path / "stdout"


def test_sums_of_an_outcome_never_exceed_the_file(tmp_path: Path) -> None:
    write_spec(tmp_path)
    (tmp_path / "stdout").write_bytes(b"0123456789")
    sums = {"stdout": {"total": 3, "head": 6, "tail": 9}, "stderr": {"total": 9, "head": 9}}
    (tmp_path / "outcome.json").write_text(json.dumps(OUTCOME | sums))
    report = read_report(tmp_path)
    assert report is not None
    assert (report.stdout.head_bytes, report.stdout.tail_bytes) == (6, 4)
    assert report.stdout.total_bytes == 10
    assert (report.stderr.head_bytes, report.stderr.path) == (0, None)


@pytest.mark.parametrize(
    "contents",
    [
        "",
        "{",
        "[]",
        "null",
        json.dumps(OUTCOME | {"ended": "won"}),
        json.dumps(OUTCOME | {"duration_ms": -1}),
        json.dumps(OUTCOME | {"exit_code": "0"}),
        "[" * 60_000,
        " " * 100_000,
    ],
)
def test_an_outcome_that_cannot_be_understood_means_lost(tmp_path: Path, contents: str) -> None:
    write_spec(tmp_path)
    (tmp_path / "outcome.json").write_text(contents)
    (tmp_path / "events.ndjson").write_bytes(USAGE)
    (tmp_path / "stdout").write_bytes(b"begun")
    report = read_report(tmp_path)
    assert report is not None
    assert report.ended == "lost"
    assert (report.reason or "").startswith("its outcome cannot be understood: ")
    assert len(report.telemetry.usage) == 1
    assert report.stdout.head_bytes == 5


FILES = {"events.ndjson": USAGE, "result.json": b'{"success": false}', "stdout": b"said"}


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    write_spec(directory)
    for name, data in files.items():
        (directory / name).write_bytes(data)
    sizes = {name: len(data) for name, data in FILES.items()}
    (directory / "outcome.json").write_text(json.dumps(OUTCOME | {"files": sizes}))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("left", [None, 0, -2])
def test_an_outcome_whose_files_the_disk_has_not_whole_means_lost(
    tmp_path: Path, name: str, left: int | None
) -> None:
    """After a power cut the child's own word may be missing, and its exit code proves little."""
    write_files(tmp_path, FILES | {name: FILES[name][:left] if left is not None else b""})
    if left is None:
        (tmp_path / name).unlink()
    report = read_report(tmp_path)
    assert report is not None
    assert report.ended == "lost"
    assert report.reason == f"its file {name} has not reached the disk whole"
    assert bool(report.telemetry.usage) == (name != "events.ndjson")


def test_an_outcome_whose_files_have_grown_since_holds(tmp_path: Path) -> None:
    """What could not be ended may still write."""
    write_files(tmp_path, {name: data + b"\n" for name, data in FILES.items()})
    report = read_report(tmp_path)
    assert report is not None
    assert (report.ended, report.claimed_success) == ("exited", False)


@pytest.mark.parametrize("by", ["pipe", "folder", "link"])
def test_an_outcome_that_is_no_file_means_lost(tmp_path: Path, by: str) -> None:
    write_spec(tmp_path)
    replaced(tmp_path / "outcome.json", by)
    report = read_report(tmp_path)
    assert report is not None
    assert report.ended == "lost"


@pytest.mark.parametrize("spec", [None, "", "[1]", '{"cwd": 1}', "[" * 100_000])
def test_an_outcome_without_its_spec_proves_nothing(tmp_path: Path, spec: str | None) -> None:
    (tmp_path / "outcome.json").write_text(json.dumps(OUTCOME))
    if spec is not None:
        (tmp_path / "spec.json").write_text(spec)
    report = read_report(tmp_path)
    assert report is not None
    assert report.ended == "lost"


@pytest.mark.parametrize("more_bytes", [0, 1])
@pytest.mark.parametrize("name", ["events.ndjson", "result.json"])
def test_much_that_a_child_said_is_read_later(tmp_path: Path, name: str, more_bytes: int) -> None:
    """Until then the report says how the attempt ended, for which nothing of it is needed."""
    write_spec(tmp_path)
    (tmp_path / "outcome.json").write_text(json.dumps(OUTCOME | {"exit_code": 3}))
    (tmp_path / "events.ndjson").write_bytes(USAGE)
    with (tmp_path / name).open("ab") as file:
        file.truncate(MUCH_BYTES + more_bytes - (len(USAGE) if name == "result.json" else 0))
    finished, lost = read_report(tmp_path), lost_report(tmp_path, reason="gone", killed=2)
    assert finished is not None
    for report in (finished, lost):
        assert (report.rest is not None) == bool(more_bytes)
        if report.rest is not None:
            assert report.telemetry == Telemetry()
    finished, lost_whole = whole(finished), whole(lost)
    assert (finished.ended, finished.duration_ms, finished.exit_code) == ("exited", 5, 3)
    assert (lost_whole.ended, lost_whole.reason, lost_whole.killed) == ("lost", "gone", 2)
    assert (lost.ended, lost.reason) == ("lost", "gone")
    assert [len(each.telemetry.usage) for each in (finished, lost_whole)] == [1, 1]


def whole(report: Report) -> Report:
    return report if report.rest is None else report.rest()
