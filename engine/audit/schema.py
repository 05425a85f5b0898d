"""The schema of a log in a file, held against what its migrations make, with plain SQL (S38).

Tables, indexes and triggers keep rows as they were written, one after the other; a log without
them may hold and be changed tomorrow.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib import resources

from engine.audit.chain import Report

_OBJECTS = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
_APPLIED = "SELECT number, sha256 FROM migrations WHERE typeof(number) = 'integer'"
_NUMBER_MAX = 9999
"""Of four digits, as files of migrations are called; no forged one is counted up to."""

_TRIGGERS = "SELECT type, name, sql FROM sqlite_schema WHERE type = 'trigger'"


def check_schema(connection: sqlite3.Connection, report: Report) -> None:
    """Report migrations that are not listed as applied, and what of theirs is gone or another."""
    texts = _texts()
    try:
        applied = dict(connection.execute(_APPLIED).fetchall())
    except sqlite3.Error:
        applied = {}
    for number in sorted(number for number in applied if not 1 <= number <= _NUMBER_MAX):
        report(f"S38: the migration {number} is listed, which is none", None)
        del applied[number]
    for number in range(1, max(applied, default=len(texts)) + 1):
        if number not in applied:
            report(f"S38: the migration {number} is not listed as applied", None)
        elif number in texts and _sha256(texts[number]) != applied[number]:
            report(f"S38: the migration {number} is listed with another text", None)
    expected = _made({number: texts[number] for number in sorted(texts) if number in applied})
    for kind, name, _ in sorted(expected - set(connection.execute(_OBJECTS))):
        report(f"S38: the {kind} {name} is gone, or not what a migration made", None)
    if applied.keys() <= texts.keys():
        for _, name, _ in sorted(set(connection.execute(_TRIGGERS)) - expected):
            report(f"S38: the trigger {name!a:.80} is none that a migration made", None)


def _texts() -> Mapping[int, str]:
    """The migrations by their numbers."""
    folder = resources.files("engine.store.schema") / "sqlite"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".sql")]
    return {int(each.name[:4]): each.read_text(encoding="utf-8") for each in files}


def _made(texts: Mapping[int, str]) -> set[tuple[str, str, str]]:
    with closing(sqlite3.connect(":memory:")) as connection:
        for text in texts.values():
            connection.executescript(text)
        return set(connection.execute(_OBJECTS))


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
