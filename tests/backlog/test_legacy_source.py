"""Legacy import of the file: what it may be, and that it stays as it is."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.backlog import legacy_source
from engine.backlog.batch import Known
from engine.backlog.legacy import read_legacy
from engine.errors import (
    LogHeld,
    LogUnreadable,
    RunoffError,
    StorageFailed,
    UsageProblem,
    WrongDatabase,
)

Build = Callable[..., Path]

REAL = Path(__file__).parents[3] / "shared" / "data" / "autopack_legacy.db"
TABLES = (
    "CREATE TABLE runs (id)",
    "INSERT INTO runs VALUES ('r')",
    "CREATE TABLE phases (run_id, phase_id)",
)


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Each file's digest and time of change."""
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in folder.iterdir()
    }


def problem_of(path: Path) -> RunoffError:
    with pytest.raises(RunoffError) as caught:
        read_legacy(path, Known())
    assert caught.value.remedy
    assert "\n" not in caught.value.problem
    return caught.value


def runs_in(path: Path) -> int:
    return read_legacy(path, Known()).finished.runs


@pytest.mark.skipif(not REAL.exists(), reason="autopack_legacy.db is not at hand")
def test_the_real_source_stays_byte_for_byte_as_it_is() -> None:
    before = snapshot(REAL.parent) if all(p.is_file() for p in REAL.parent.iterdir()) else None
    digest = hashlib.sha256(REAL.read_bytes()).hexdigest()
    names = sorted(path.name for path in REAL.parent.iterdir())
    assert read_legacy(REAL, Known()).source_sha256 == digest
    assert hashlib.sha256(REAL.read_bytes()).hexdigest() == digest
    assert sorted(path.name for path in REAL.parent.iterdir()) == names
    assert before is None or snapshot(REAL.parent) == before


def test_a_plain_source_stays_as_it_is(database: Build) -> None:
    path = database(*TABLES)
    before = snapshot(path.parent)
    assert runs_in(path) == 1
    assert snapshot(path.parent) == before


def test_a_source_in_a_directory_without_write_permission_is_read(database: Build) -> None:
    path = database("PRAGMA journal_mode = WAL", *TABLES)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        before = snapshot(path.parent)
        assert runs_in(path) == 1
        assert snapshot(path.parent) == before
    finally:
        path.parent.chmod(0o755)


def test_what_stands_only_in_the_write_ahead_log_is_read_too(database: Build) -> None:
    path = database("PRAGMA journal_mode = WAL", *TABLES)
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        writer.execute("INSERT INTO runs VALUES ('only in the log')")
        writer.commit()
        before = snapshot(path.parent)
        assert "old.db-wal" in before
        assert runs_in(path) == 2
        assert snapshot(path.parent) == before


def test_a_journal_left_by_a_crash_is_rolled_back_in_a_copy(database: Build) -> None:
    path = database(*TABLES)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN")
        for at in range(3_000):
            writer.execute("INSERT INTO runs VALUES (?)", (f"never committed {at}",))
        torn, journal = path.read_bytes(), path.with_name("old.db-journal").read_bytes()
    crashed = path.parent / "crashed"
    crashed.mkdir()
    (crashed / "old.db").write_bytes(torn)
    (crashed / "old.db-journal").write_bytes(journal)
    before = snapshot(crashed)
    assert runs_in(crashed / "old.db") == 1
    assert snapshot(crashed) == before


def test_a_locked_source_is_told_apart(database: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(legacy_source, "_LOCK_WAIT_S", 0.01)
    path = database(*TABLES)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        assert isinstance(problem_of(path), LogHeld)


def test_a_source_that_changes_meanwhile_is_refused(database: Build) -> None:
    path = database(*TABLES)
    with pytest.raises(LogHeld, match="changed while it was read"), legacy_source.opened(path):
        os.utime(path, ns=(1, 1))


def test_names_with_marks_of_a_uri_are_files_like_any_other(database: Build) -> None:
    path = database(*TABLES)
    odd = path.with_name("a b?mode=memory#%41&.db")
    path.rename(odd)
    assert runs_in(odd) == 1
    link = odd.with_name("link.db")
    link.symlink_to(odd)
    assert runs_in(link) == 1


@pytest.mark.parametrize("content", [b"", b"x", b"hello\n" * 1_000, b"SQLite format 3\x00"])
def test_a_file_that_is_no_database_is_the_wrong_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "old.db"
    path.write_bytes(content)
    assert isinstance(problem_of(path), WrongDatabase)


def test_what_is_no_file_at_all_is_the_wrong_database(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "none.db", tmp_path / "pipe", tmp_path / "loop"):
        assert isinstance(problem_of(path), WrongDatabase)
    assert isinstance(problem_of(Path("nul\0byte")), WrongDatabase)


def test_our_own_log_is_the_wrong_database(database: Build) -> None:
    path = database(f"PRAGMA application_id = {0x52554E46}", *TABLES)
    problem = problem_of(path)
    assert isinstance(problem, WrongDatabase)
    assert "DATABASE_URL" in problem.remedy


@pytest.mark.parametrize(
    ("statements", "lacking"),
    [
        (("CREATE TABLE other (x)",), "no table runs"),
        (("CREATE TABLE runs (id)",), "no table phases"),
        (("CREATE TABLE runs (name)", TABLES[2]), "no column id or run_id in its table runs"),
        (("CREATE TABLE runs (id)", "CREATE TABLE phases (id)"), "no column run_id"),
        (("CREATE TABLE runs (id)", "CREATE TABLE phases (run_id)"), "no column phase_id or id"),
        (("CREATE VIEW runs AS SELECT 1 AS id", TABLES[2]), "no table runs"),
    ],
)
def test_a_database_without_a_backlog_says_what_is_missing(
    database: Build, statements: tuple[str, ...], lacking: str
) -> None:
    problem = problem_of(database(*statements))
    assert isinstance(problem, WrongDatabase)
    assert lacking in problem.problem


def test_a_damaged_database_says_how_to_rescue_it(database: Build) -> None:
    path = database(*TABLES, *["INSERT INTO runs VALUES (hex(zeroblob(900)))"] * 20)
    data = bytearray(path.read_bytes())
    data[4096 * 3 :] = bytes(len(data) - 4096 * 3)
    path.write_bytes(data)
    problem = problem_of(path)
    assert isinstance(problem, LogUnreadable)
    assert ".recover" in problem.remedy


def test_rows_that_break_a_constraint_are_read(database: Build) -> None:
    path = database(
        "CREATE TABLE runs (id, state)",
        "INSERT INTO runs VALUES ('r', NULL), ('s', 'X')",
        "CREATE TABLE phases (run_id, phase_id)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE runs (id, state NOT NULL)'"
        " WHERE name = 'runs'",
    )
    assert runs_in(path) == 2


def test_tables_of_other_kinds_are_read(database: Build) -> None:
    path = database(
        'CREATE TABLE "RUNS" ("ID" TEXT PRIMARY KEY, rowid, oid) WITHOUT ROWID',
        "INSERT INTO RUNS VALUES ('b', 1, 1), ('a', 2, 2)",
        "CREATE TABLE Phases (Run_Id, Phase_Id, rowid, _rowid_, oid)",
        "INSERT INTO Phases VALUES ('a', 'p', 9, 9, 9)",
    )
    found = read_legacy(path, Known()).finished
    assert (found.runs, found.phases) == (2, 1)


@pytest.mark.parametrize("table", ["tiers", "llm_usage_events", "token_estimation_v2_events"])
def test_a_table_without_a_column_that_is_known_counts_as_missing(
    database: Build, table: str
) -> None:
    path = database(*TABLES, f"CREATE TABLE {table} (other)", f"INSERT INTO {table} VALUES (1)")
    found = read_legacy(path, Known())
    assert found.finished.runs == 1
    assert found.finished.findings == ()


def test_a_source_beyond_the_limits_is_refused(
    database: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = database(*TABLES, "INSERT INTO runs VALUES ('s')")
    monkeypatch.setattr(legacy_source, "TABLE_ROWS_MAX", 1)
    assert isinstance(problem_of(path), UsageProblem)
    monkeypatch.setattr(legacy_source, "SOURCE_BYTES_MAX", 4_096)
    assert "limit is 4096" in problem_of(path).problem


def test_no_room_for_a_copy_is_told(database: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = database(*TABLES)
    path.with_name("old.db-journal").write_bytes(b"left over")
    monkeypatch.setattr("shutil.copyfile", full)
    problem = problem_of(path)
    assert isinstance(problem, StorageFailed)
    assert "No space left" in problem.problem
