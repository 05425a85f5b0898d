"""Where a log is read for an audit: its file, or a snapshot of a server's."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest

from engine.audit.anchored import SLACK_US
from engine.audit.audit import audit
from engine.audit.local import local
from engine.audit.verify import verify
from engine.backlog.batch import Registration
from engine.clock import HandSetClock
from engine.drain.intake import registering
from engine.errors import ServerLost, StorageFailed, UsageProblem, WrongDatabase
from engine.events import RunRegistered
from engine.store.location import Location, locate
from engine.store.opening import open_writer
from engine.store.recorder import Writer, recording
from tests.servers import Server


@pytest.fixture
def place(postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.setenv("RUNOFF_FILES", str(tmp_path / "files"))
    return locate(anyio.run(postgres.fresh))


async def _made(place: Location) -> None:
    await (await open_writer(place, create=True)).close()


def test_a_log_is_audited_wherever_its_path_leads(tmp_path: Path) -> None:
    (tmp_path / "a?b%20c").mkdir()
    odd = locate(f"sqlite:///{quote(str(tmp_path / 'a?b%20c' / 'b.db'))}")
    anyio.run(_made, odd)
    assert audit(odd).findings == ()


def test_a_server_without_a_log_is_named_with_what_starts_one(place: Location) -> None:
    with pytest.raises(WrongDatabase, match="no Runoff log") as refused, local(place):
        pass
    assert "runoff seed" in refused.value.remedy


def test_anchors_of_a_host_where_nobody_has_written_lately_are_short_and_not_broken(
    place: Location,
) -> None:
    """On a server each host anchors what it appends itself; the rest is anchored elsewhere."""

    async def written(anchors: Path | None, run_id: str, now_us: int) -> None:
        store = await open_writer(place, create=True)
        writer = Writer("host", "boot", 1, "test", "0")
        try:
            async with recording(store, HandSetClock(now_us), writer, anchors=anchors) as recorder:
                event = RunRegistered(run_id=run_id, origin="test", state="NEW")
                name = f"run/{run_id}"
                group = Registration(key=name, stream=name, events=(event,))
                await recorder.submit(registering(group))
        finally:
            await store.close()

    place.path.parent.mkdir(parents=True, exist_ok=True)
    anyio.run(written, place.beside("anchors"), "here", 1_000_000)
    anyio.run(written, None, "elsewhere", 1_000_000 + 2 * SLACK_US)
    audited, verified = audit(place), verify(place)
    assert (audited.anchors, audited.findings, audited.ok) == ("short", (), True)
    assert (verified.anchors, verified.ok) == ("short", True)


def test_a_full_disk_under_the_snapshot_is_no_broken_log(
    place: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    anyio.run(_made, place)
    connect = sqlite3.connect

    def without_room(path: Path, *, isolation_level: None) -> sqlite3.Connection:
        connection = connect(path, isolation_level=isolation_level)
        connection.execute("PRAGMA max_page_count = 2")
        return connection

    monkeypatch.setattr(sqlite3, "connect", without_room)
    with pytest.raises(StorageFailed, match=r"the snapshot .* is full"), local(place):
        pass


def test_a_server_that_is_not_there_and_a_wrong_setting_are_told_apart() -> None:
    pytest.importorskip("asyncpg", reason="the extra `postgres` is not installed")
    with pytest.raises(ServerLost), local(locate("postgresql://u@127.0.0.1:1/d")):
        pass
    wrong = locate("postgresql://u@127.0.0.1:1/d?sslmode=foo")
    with pytest.raises(UsageProblem), local(wrong):
        pass
