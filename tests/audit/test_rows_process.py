"""The process beside an audit: however it ends, the audit says in one line what that means."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from engine.audit import rows_process
from engine.audit.audit import audit
from engine.errors import LogUnreadable, RunoffError, StorageFailed
from engine.store.location import locate
from tests.program import runoff


@pytest.fixture
def log(tmp_path: Path) -> Path:
    assert runoff(tmp_path, "seed", "--database", "sqlite:///b.db").returncode == 0
    return tmp_path / "b.db"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), StorageFailed.exit_code),
        (OSError(24, "Too many open files"), StorageFailed.exit_code),
        (BrokenPipeError(), 1),
        (None, 0),
    ],
)
def test_a_limit_is_told_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, code: int
) -> None:
    def main(*arguments: str) -> None:
        assert arguments == ("url", "path", "rows")
        if error is not None:
            raise error

    monkeypatch.setattr(rows_process, "main", main)
    assert rows_process.run("url", "path", "rows") == code


def test_a_bug_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def main(*_: str) -> None:
        raise LookupError

    monkeypatch.setattr(rows_process, "main", main)
    with pytest.raises(LookupError):
        rows_process.run()


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        (74, StorageFailed, "limits of this user or machine are reached"),
        (1, LogUnreadable, r"could not be followed \(exit code 1\)"),
        (5, LogUnreadable, r"could not be followed \(exit code 5\)"),
    ],
)
def test_an_audit_whose_rows_nobody_followed_says_why(
    log: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[RunoffError], said: str
) -> None:
    broken = log.with_name("python")
    broken.write_text(f"#!/bin/sh\nexit {code}\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(error, match=said):
        audit(locate(f"sqlite:///{log}"))
