"""Bring a database to today's schema: numbered .sql files, each applied once, in order."""

from __future__ import annotations

import hashlib
import sqlite3
from importlib import resources
from typing import NamedTuple

from engine.errors import LogUnreadable

APPLICATION_ID = 0x52554E46
"""``RUNF`` in SQLite's header, so that a foreign database is told from a Runoff log."""


class Migration(NamedTuple):
    """One file: its number, name, and text."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Of the text; a released migration never changes."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(dialect: str = "sqlite") -> list[Migration]:
    """All migrations that this program knows, in order."""
    folder = resources.files("engine.store.schema") / dialect
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(int(n[:4]), n, (folder / n).read_text(encoding="utf-8")) for n in names]


def statements(sql: str) -> list[str]:
    """The statements of a file, triggers whole."""
    found: list[str] = []
    text = ""
    for line in sql.splitlines(keepends=True):
        text += line
        if text.strip() and sqlite3.complete_statement(text):
            found.append(text.strip())
            text = ""
    assert not text.strip() or text.lstrip().startswith("--"), f"unfinished statement: {text!r}"
    return found


def pending(applied: dict[int, str], dialect: str = "sqlite") -> list[Migration]:
    """What is still to be applied, given number → sha256 of what was.

    Raises LogUnreadable when the database is newer than this program, or was made by another
    text of a migration.
    """
    known = {migration.number: migration for migration in migrations(dialect)}
    for number, sha256 in applied.items():
        if number not in known:
            raise LogUnreadable(
                f"the database has schema {number}; this program knows up to {max(known)}.",
                remedy="upgrade runoff; nothing was changed.",
            )
        if known[number].sha256 != sha256:
            raise LogUnreadable(
                f"the database's schema {number} is not the one of this program.",
                remedy="use the program that made it, and report this.",
            )
    return [migration for number, migration in known.items() if number not in applied]
