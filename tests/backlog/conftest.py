"""Databases of the legacy family, built small and odd."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

Build = Callable[..., Path]


@pytest.fixture
def database(tmp_path: Path) -> Build:
    """Builds ``old.db`` from SQL statements, each alone or with its parameters."""

    def build(*statements: str | tuple[str, tuple[object, ...]]) -> Path:
        path = tmp_path / "source" / "old.db"
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(path)) as connection, connection:
            for statement in statements:
                sql, values = (statement, ()) if isinstance(statement, str) else statement
                connection.execute(sql, values)
        return path

    return build
