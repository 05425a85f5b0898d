"""A log of which tables were made anew, or are no tables: whoever reads it says so, and ends."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.program import runoff

ENDLESS = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT kept.* FROM kept, n"
)
READERS = [("identity",), ("audit",), ("replay", "--step"), ("log", "show"), ("why",), ("doctor",)]
WRITERS = [("run", "reinstate", "r", "--why", "x"), ("drain", "--", "true")]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("altered")
    assert runoff(folder, "seed").returncode == 0
    assert runoff(folder, "drain", "--batch-size", "1", "--", "true").returncode == 4
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "log"))


def alter(folder: Path, *statements: str) -> None:
    """Change the schema, with nothing in the way of it."""
    with closing(sqlite3.connect(folder / "b.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA legacy_alter_table = 1")
        triggers = "SELECT name FROM sqlite_schema WHERE type = 'trigger'"
        for (name,) in connection.execute(triggers).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)


def made_anew(table: str) -> tuple[str, ...]:
    """Statements after which ``table`` holds the same rows, and takes any others."""
    return (
        f"ALTER TABLE {table} RENAME TO kept",
        f"CREATE TABLE {table} AS SELECT * FROM kept",
        "DROP TABLE kept",
    )


@pytest.mark.parametrize("table", ["events", "projections", "projection_causes_v1"])
def test_a_view_in_the_place_of_a_table_is_not_waited_for(log: Path, table: str) -> None:
    alter(log, f"ALTER TABLE {table} RENAME TO kept", f"CREATE VIEW {table} AS {ENDLESS}")
    for argv in (*READERS, *WRITERS, ("verify",)):
        done = runoff(log, *argv)
        assert done.returncode == (1 if argv == ("doctor",) else 5), (argv, done.stderr)
        assert f"{table} is a view" in done.stderr + done.stdout, argv


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("events", "recorded_us"),
        ("events", "hash"),
        ("projections", "digest"),
        ("projection_sessions_v8", "data"),
        ("projection_sessions_v8", "key"),
    ],
)
@pytest.mark.parametrize("value", ["'\u202e'", "x'ff00'", "NULL"])
def test_a_table_that_takes_any_type_is_not_read(
    log: Path, table: str, column: str, value: str
) -> None:
    alter(log, *made_anew(table), f"UPDATE {table} SET {column} = {value}")
    for argv in (*READERS, *WRITERS):
        done = runoff(log, *argv)
        assert done.returncode == (1 if argv == ("doctor",) else 5), (argv, done.stderr)
        assert f"{table} is a table that takes any type" in done.stderr + done.stdout, argv
    verified = runoff(log, "verify")
    if verified.returncode == 5 and table == "events":
        assert f" for {column}" in verified.stderr
    else:
        assert verified.returncode == 6, verified.stderr
        assert f"the projections cannot be built: the database cannot be read: {table}" in (
            verified.stdout
        )
        assert "runoff verify" not in verified.stdout, "nobody is sent to what says it"


def test_a_list_of_attempts_that_lost_its_names_does_not_hold(log: Path) -> None:
    alter(log, *made_anew("open_attempts"), "ALTER TABLE open_attempts DROP COLUMN attempt")
    done = runoff(log, "verify")
    assert done.returncode == 6, done.stderr
    assert "S35: open_attempts cannot be asked: no such column: attempt" in done.stdout


def test_a_row_of_a_projection_that_stands_there_twice_is_a_difference(log: Path) -> None:
    alter(
        log,
        "ALTER TABLE projection_sessions_v8 RENAME TO kept",
        "CREATE TABLE projection_sessions_v8 (key TEXT, data TEXT) STRICT",
        "INSERT INTO projection_sessions_v8 SELECT * FROM kept",
        "INSERT INTO projection_sessions_v8 SELECT * FROM kept LIMIT 1",
        "DROP TABLE kept",
    )
    done = runoff(log, "verify")
    assert done.returncode == 6, done.stderr
    assert "S29: sessions differs at " in done.stdout
