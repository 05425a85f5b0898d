"""Whether ``verify`` sees that a database no longer guards its rows, or derives from them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.audit.schema import check_schema
from engine.audit.verify import verify
from engine.store.location import locate
from engine.store.migrate import migrations
from tests.forgery import unguarded
from tests.program import runoff

Told = list[tuple[str, int | None]]
LISTED = "CREATE TABLE migrations (number INTEGER PRIMARY KEY, name TEXT, sha256 TEXT) STRICT"
OBJECTS = """SELECT type, name FROM sqlite_schema
  WHERE sql IS NOT NULL AND name != 'migrations' AND tbl_name NOT LIKE 'projection_%'"""


def made(upto: int = 9) -> sqlite3.Connection:
    """A database with the first migrations."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(LISTED)
    for each in migrations()[:upto]:
        connection.executescript(each.sql)
        row = (each.number, each.name, each.sha256)
        connection.execute("INSERT INTO migrations VALUES (?, ?, ?)", row)
    return connection


def told_of(connection: sqlite3.Connection, *changes: str) -> Told:
    found: Told = []
    with closing(connection):
        for change in changes:
            connection.execute(change)
        check_schema(connection, lambda what, pos: found.append((what, pos)))
    return found


def objects() -> list[tuple[str, str]]:
    with closing(made()) as connection:
        return sorted(connection.execute(OBJECTS))


@pytest.mark.parametrize("upto", range(1, len(migrations()) + 1))
def test_what_the_first_migrations_made_holds_without_the_later_ones(upto: int) -> None:
    assert told_of(made(upto)) == []


@pytest.mark.parametrize(("kind", "name"), objects())
def test_whatever_a_migration_made_is_missed(kind: str, name: str) -> None:
    gone = f"S38: the {kind} {name} is gone, or not what a migration made"
    assert (gone, None) in told_of(made(), f"DROP {kind} {name}")


def test_a_guard_that_lets_all_pass_is_none() -> None:
    idle = "CREATE TRIGGER events_never_change BEFORE UPDATE ON events BEGIN SELECT 1; END"
    assert told_of(made(), "DROP TRIGGER events_never_change", idle) == [
        ("S38: the trigger events_never_change is gone, or not what a migration made", None),
        ("S38: the trigger 'events_never_change' is none that a migration made", None),
    ]


def test_what_meddles_with_rows_is_named_unless_a_newer_program_made_it() -> None:
    meddles = "CREATE TRIGGER more AFTER INSERT ON events BEGIN DELETE FROM event_shapes; END"
    assert told_of(made(), meddles) == [
        ("S38: the trigger 'more' is none that a migration made", None)
    ]
    newer = f"INSERT INTO migrations VALUES ({len(migrations()) + 1}, 'x', 'y')"
    assert told_of(made(), meddles, newer) == []
    assert told_of(made(), "CREATE INDEX own ON events (actor)") == []


def test_migrations_are_listed_with_their_own_text() -> None:
    other = "UPDATE migrations SET sha256 = 'x' WHERE number = 2"
    assert told_of(made(), other) == [("S38: the migration 2 is listed with another text", None)]
    shifted = "UPDATE migrations SET number = 9 WHERE number = 2"
    assert ("S38: the migration 2 is not listed as applied", None) in told_of(made(), shifted)
    numbers = [each.number for each in migrations()]
    missing: Told = [(f"S38: the migration {n} is not listed as applied", None) for n in numbers]
    for change in ("DELETE FROM migrations", "DROP TABLE migrations"):
        assert told_of(made(), change)[: len(numbers)] == missing


@pytest.mark.parametrize("number", [2**63 - 1, 10_000, 0, -1])
def test_a_forged_number_of_a_migration_is_named_and_not_counted_up_to(number: int) -> None:
    forged = f"INSERT INTO migrations VALUES ({number}, 'x', 'y')"
    told = (f"S38: the migration {number} is listed, which is none", None)
    assert told_of(made(), forged) == [told]


def test_a_log_that_lost_its_guards_does_not_hold(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    location = locate(f"sqlite:///{tmp_path}/b.db")
    assert verify(location).ok
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection:
        connection.execute("DROP TRIGGER events_never_go")
    found = verify(location)
    assert [each.what.partition(":")[0] for each in found.violations] == ["S38"]
    assert runoff(tmp_path, "verify").returncode == 6


def test_a_row_that_was_altered_comes_before_the_guards_that_were_taken_away(
    tmp_path: Path,
) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    with closing(sqlite3.connect(tmp_path / "b.db")) as connection, connection:
        unguarded(connection)
        connection.execute("UPDATE events SET actor = 'me' WHERE pos = 3")
    found = verify(locate(f"sqlite:///{tmp_path}/b.db")).violations
    assert found[0].pos == 3
    assert {each.what[:3] for each in found if each.pos is None} == {"S38"}
