"""Forge a log so well that chain and anchors hold: only the rules can tell."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from engine.events import COLUMNS, GENESIS, chain_hash

Change = Callable[[dict[str, object]], None]


def forge(database: Path, *changes: tuple[int, Change], drop: tuple[int, ...] = ()) -> None:
    """Change rows by position, leave out those in ``drop``, renumber and hash everything anew."""
    connection = sqlite3.connect(database, isolation_level=None)
    triggers = unguarded(connection)
    found = [
        dict(zip(COLUMNS, row, strict=True))
        for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY pos")
    ]
    wanted = dict(changes)
    for row in found:
        if row["pos"] in wanted:
            wanted[row["pos"]](row)
    rows = [row for row in found if row["pos"] not in drop]
    connection.execute("BEGIN")
    connection.execute("DELETE FROM events")
    renumbered = {row["pos"]: pos for pos, row in enumerate(rows, 1)}
    previous, versions, indices = GENESIS, dict[object, int](), dict[object, int]()
    for row in rows:
        row["pos"] = renumbered[row["pos"]]
        row["cause"] = renumbered.get(row["cause"], row["cause"])
        versions[row["stream"]] = versions.get(row["stream"], 0) + 1
        indices[row["command_id"]] = indices.get(row["command_id"], -1) + 1
        row["version"], row["idx"] = versions[row["stream"]], indices[row["command_id"]]
        previous = row["hash"] = chain_hash(previous, tuple(row[name] for name in COLUMNS[:-1]))
        places = ", ".join("?" * len(COLUMNS))
        connection.execute(
            f"INSERT INTO events ({', '.join(COLUMNS)}) VALUES ({places})",
            tuple(row[name] for name in COLUMNS),
        )
    derive(connection)
    for name, version in connection.execute("SELECT name, version FROM projections").fetchall():
        connection.execute(f"DROP TABLE projection_{name}_v{version}")
    connection.execute("DELETE FROM projections")
    for trigger in triggers:
        connection.execute(trigger)
    connection.execute("COMMIT")
    connection.close()
    anchors = database.with_name(f"{database.name}-anchors")
    anchors.write_text(f"{len(rows)} {previous.hex()}\n")


def unguarded(connection: sqlite3.Connection) -> list[str]:
    """Take away what keeps rows from being changed; the statements that put it back."""
    found = connection.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"
    ).fetchall()
    for name, _ in found:
        connection.execute(f"DROP TRIGGER {name}")
    return [sql for _, sql in found]


def derive(connection: sqlite3.Connection) -> None:
    """Write anew what the database derives of the rows by itself."""
    connection.execute("DELETE FROM event_shapes")
    connection.execute(
        "INSERT INTO event_shapes SELECT type, schema, min(pos) FROM events GROUP BY type, schema"
    )
    connection.execute("DELETE FROM open_attempts")
    connection.execute(
        """INSERT OR IGNORE INTO open_attempts SELECT attempt, run, phase, pos,
             (SELECT max(pos) FROM events f WHERE f.attempt = s.attempt
                                              AND f.type = 'attempt.finished')
             FROM events s WHERE type = 'attempt.started'"""
    )
