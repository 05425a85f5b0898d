"""``audit --at`` and ``verify --at``: what was there by then, whatever has come since."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from engine.audit.as_of import local_as_of
from engine.audit.audit import Level, audit
from engine.audit.verify import verify
from engine.errors import LogUnreadable, StorageFailed
from engine.store.location import Location, locate
from tests.forgery import forge
from tests.program import runoff

LONG = "more than stands in the log itself\n" * 20
RULES = [
    {"run": "*-r2", "rc": 1, "state": "FAILED", "stderr": "KeyError: 'x'\n", "stdout": LONG},
    {"state": "COMPLETE", "rc": 0, "events": 1, "sleep": 400},
]
OF_THE_LOG: tuple[Level, ...] = ("structure", "chain", "decisions")
BESIDE = ("anchors", "files")


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("as-of")
    (folder / "script.json").write_text(json.dumps(RULES))
    assert runoff(folder, "seed", "--repeat", "2").returncode == 0
    arguments = ("--virtual-time", "--batch-size", "6", "--workers", "2")
    assert runoff(folder, "drain", "--script", "script.json", *arguments).returncode in (0, 4)
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "log"))


def at(folder: Path) -> Location:
    return locate(f"sqlite:///{folder}/b.db")


def ends(folder: Path) -> list[int]:
    """The last position of every command."""
    with closing(sqlite3.connect(folder / "b.db")) as connection:
        sql = "SELECT max(pos) FROM events GROUP BY command_id ORDER BY 1"
        return [row[0] for row in connection.execute(sql)]


def told(folder: Path, *arguments: str) -> tuple[int, Any, str]:
    done = runoff(folder, *arguments, "--json")
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout), done.stderr


def anchored(folder: Path) -> list[str]:
    return (folder / "b.db-anchors").read_text().splitlines(keepends=True)


def test_a_log_that_holds_held_at_every_moment(drained: Path) -> None:
    last = ends(drained)
    for until in range(last[-1] + 1):
        whole = max((end for end in last if end <= until), default=0)
        with local_as_of(at(drained), until) as (place, end):
            verified = verify(place, is_copy=True)
            audited = audit(place, OF_THE_LOG) if until % 17 == 0 else None
        assert end == whole
        assert (verified.ok, verified.events, verified.anchored) == (True, whole, whole)
        assert verified.anchors == ("ok" if whole else "none")
        if audited is not None:
            assert (audited.ok, audited.events, audited.anchored) == (True, whole, whole)


def test_without_a_moment_it_is_the_log_itself(drained: Path) -> None:
    with local_as_of(at(drained), None) as (place, end):
        assert (place, end) == (at(drained), None)


def test_what_was_forged_later_is_not_held_against_what_was_there(log: Path) -> None:
    end = ends(log)[-5]
    with closing(sqlite3.connect(log / "b.db")) as connection:
        sql = "SELECT min(pos) FROM events WHERE type = 'attempt.finished' AND pos > 40"
        (forged,) = connection.execute(sql).fetchone()
    forge(log / "b.db", (forged, lambda row: row.update(actor="somebody")))
    before = next(e for e in reversed(ends(log)) if e < forged)
    assert told(log, "audit", "--at", str(before))[0] == 0
    assert told(log, "verify", "--at", str(before))[0] == 0
    for verb in ("audit", "verify"):
        code, found, _ = told(log, verb, "--at", str(end))
        assert code == 6
        assert [each["pos"] for each in found.get("findings", found.get("violations"))] == [forged]


def _cut_of(lines: list[str]) -> Iterator[tuple[str, list[str]]]:
    yield "ok", lines
    yield "ok", [*lines[:1], lines[-1]]
    yield "ok", lines[-1:]
    yield "ok", lines[-1:] + lines[:1]


def test_an_anchor_behind_covers_all_that_leads_to_it(log: Path) -> None:
    until = ends(log)[4]
    for state, lines in _cut_of(anchored(log)):
        (log / "b.db-anchors").write_text("".join(lines))
        code, found, _ = told(log, "audit", "--at", str(until))
        assert (code, found["anchors"], found["anchored"]) == (0, state, until)


def test_rows_that_lead_nowhere_are_covered_by_no_anchor(log: Path) -> None:
    until = ends(log)[4]
    (log / "b.db-anchors").write_text(anchored(log)[-1])
    with closing(sqlite3.connect(log / "b.db")) as connection:
        connection.execute("DROP TRIGGER events_never_change")
        connection.execute(
            "UPDATE events SET actor = 'x' WHERE pos = (SELECT max(pos) FROM events)"
        )
        connection.commit()
    with local_as_of(at(log), until) as (place, _):
        assert audit(place, OF_THE_LOG).anchored == 0


def test_an_anchor_that_the_rows_do_not_lead_to_covers_nothing(log: Path) -> None:
    until = ends(log)[4]
    (log / "b.db-anchors").write_text(f"{until + 3} {'0' * 64}\n")
    with local_as_of(at(log), until) as (place, _):
        assert audit(place, OF_THE_LOG).anchored == 0


def test_an_anchor_of_another_log_is_a_finding_where_it_stands(log: Path) -> None:
    until = ends(log)[4]
    with (log / "b.db-anchors").open("a") as file:
        file.write(f"{until} {'0' * 64}\n")
    assert told(log, "audit", "--at", str(until - 1))[0] == 0
    code, found, _ = told(log, "audit", "--at", str(until))
    assert code == 6
    assert (
        found["findings"][0]["what"] == f"S2: the log was changed: the anchor at {until} is another"
    )


SAID = {
    "none": [],
    "folder": ["S2: what bears the name of the anchors is no file"],
    "no anchors in it": ["S2: a line of the anchors is no anchor: b'hello\\n'"],
}


@pytest.mark.parametrize("kind", SAID)
def test_what_stands_for_the_anchors_is_found_at_any_moment(log: Path, kind: str) -> None:
    path = log / "b.db-anchors"
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "none":
        path.write_text("hello\n")
    code, found, _ = told(log, "verify", "--at", str(ends(log)[4]))
    assert (code, found["anchors"]) == ((0, "missing") if kind == "none" else (6, "broken"))
    said = [each["what"] for each in found["violations"]]
    assert said[:1] == SAID[kind]


def test_a_command_that_goes_on_is_left_out_whole_and_that_is_said(drained: Path) -> None:
    until = next(
        e for e, after in zip(ends(drained), ends(drained)[1:], strict=False) if after > e + 1
    )
    code, found, words = told(drained, "audit", "--at", str(until + 1))
    assert (code, found["events"]) == (0, until)
    assert words.splitlines()[-2:] == [
        *(line for line in words.splitlines() if line.startswith(f"as of position {until + 1} (")),
        f"up to position {until}, where the last whole command ends",
    ]
    assert "up to" not in told(drained, "audit", "--at", str(until))[2]


def test_stored_projections_are_of_today_alone(log: Path) -> None:
    with closing(sqlite3.connect(log / "b.db")) as connection:
        connection.execute("UPDATE projections SET digest = zeroblob(32)")
        connection.commit()
    assert told(log, "audit")[0] == told(log, "verify")[0] == 6
    head = str(ends(log)[-1])
    code, found, _ = told(log, "audit", "--at", head)
    assert (code, tuple(found["levels"])) == (0, OF_THE_LOG)
    assert told(log, "verify", "--at", head)[0] == 0
    refused = runoff(log, "audit", "--at", head, "--level", "projections")
    assert refused.returncode == 2
    assert "leave out one of --at and --level projections" in refused.stderr


def test_no_byte_of_the_log_changes(drained: Path) -> None:
    def content() -> dict[str, bytes]:
        files = [path for path in drained.rglob("*") if path.is_file() and path.suffix != ".db-shm"]
        return {str(path): path.read_bytes() for path in files if path.stat().st_size}

    before = content()
    assert told(drained, "audit", "--at", "60")[0] == told(drained, "verify", "--at", "60")[0] == 0
    assert content() == before


def test_rows_that_cannot_be_read_are_the_logs_fault(log: Path) -> None:
    database = log / "b.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = bytearray(database.read_bytes())
    whole[8192:] = b"\xff" * (len(whole) - 8192)
    database.write_bytes(whole)
    with pytest.raises(LogUnreadable), local_as_of(at(log), 60):
        pass


def test_no_room_for_the_copy_is_no_broken_log(
    drained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def without_room(path: Path | str, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(path, **options)
        if isinstance(path, Path):
            connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", without_room)
    full = pytest.raises(StorageFailed, match=r"the snapshot .* could not be written")
    with full, local_as_of(at(drained), 60):
        pass
