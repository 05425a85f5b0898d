"""The same commands on a log in PostgreSQL: one story from seed to audit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.program import run
from tests.servers import PASSWORD, PASSWORD_IN_URL, Server

RUN = "telemetry-collection-v4"


class Place:
    """A server's database, and a folder for the files that stand here."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url

    def runoff(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        files = {"DATABASE_URL": self.url, "RUNOFF_FILES": str(self.folder / "files")}
        done = run(self.folder, arguments, os.environ | files)
        assert done.returncode == code, (arguments, done.stderr)
        for text in (done.stdout, done.stderr):
            assert PASSWORD not in text
            assert PASSWORD_IN_URL not in text
        return done

    def shown(self, *arguments: str) -> Any:
        return json.loads(self.runoff(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def drained(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("server")
    rules = [
        {"run": "*-r2", "state": "FAILED", "rc": 1, "reason": "no", "stderr": "no"},
        {"state": "COMPLETE", "rc": 0, "events": 2, "stdout": "done"},
    ]
    (folder / "script.json").write_text(json.dumps(rules))
    place = Place(folder, anyio.run(postgres.fresh))
    assert "there is no Runoff log" in place.runoff("identity", code=3).stderr
    assert "Started a new database at postgresql://" in place.runoff("seed", "--repeat", "2").stderr
    place.runoff("drain", "--script", "script.json", "--batch-size", "99")
    return place


def test_verify_and_audit_find_nothing(drained: Place) -> None:
    verified = drained.shown("verify")
    assert verified["ok"]
    assert verified["anchors"] == "ok"
    audited = drained.shown("audit")
    assert audited["ok"]
    assert audited["events"] == verified["events"] > 80
    assert audited["decided"]["attempt.estimated"] > 10
    for verb in ("audit", "verify"):
        then = drained.shown(verb, "--at", "60")
        assert then["ok"]
        assert 50 < then["events"] <= 60
    drained.runoff("projection", "check")
    drained.runoff("whatif", "--policy", "classic", "--simulate")


def test_what_is_read_is_what_was_written(drained: Place) -> None:
    identity = drained.shown("identity")
    assert identity["url"].startswith("postgresql://runoff:***@127.0.0.1:")
    assert identity["file"].startswith(str(drained.folder / "files"))
    assert (identity["runs"], identity["phases"]) == (2, 20)
    assert drained.shown("why", RUN)["run_id"] == RUN
    drained.runoff("why")
    newest = drained.runoff("log", "show", "--json", "--limit", "1").stdout
    assert json.loads(newest)["hash"] == identity["digest"]
    drained.runoff("log", "show", "--raw", "--at", "3")
    drained.runoff("replay", "--at", "40")
    attempt = drained.shown("attempt", "list", "--limit", "1")[0]
    drained.runoff("attempt", "show", attempt["attempt_id"])


def test_the_doctor_warns_of_a_server_that_may_lose_what_it_acknowledged(
    postgres: Server, drained: Place
) -> None:
    async def switch(value: str) -> None:
        connection = await postgres.connect("postgres")
        await connection.execute(f"ALTER SYSTEM SET full_page_writes = {value}")
        await connection.execute("SELECT pg_reload_conf()")
        while await connection.fetchval("SHOW full_page_writes") != value:  # noqa: ASYNC110  it reloads
            await anyio.sleep(0.01)
        await connection.close()

    def server() -> dict[str, Any]:
        found: list[dict[str, Any]] = drained.shown("doctor")
        return next(check for check in found if check["name"] == "server")

    anyio.run(switch, "off")
    try:
        told = server()
    finally:
        anyio.run(switch, "on")
    assert (told["verdict"], "full_page_writes" in told["found"]) == ("warn", True)
    assert "full_page_writes" not in server()["found"]


def test_a_forged_row_is_found(postgres: Server, drained: Place) -> None:
    """A role that may alter tables can forge; the chain shows it."""

    async def forge(trigger: str) -> None:
        connection = await postgres.connect(drained.url.rpartition("/")[2])
        await connection.execute(f"ALTER TABLE runoff.events {trigger} TRIGGER events_never_change")
        if trigger == "DISABLE":
            await connection.execute(
                "UPDATE runoff.events SET actor = CASE actor WHEN 'x' THEN 'cli' ELSE 'x' END"
                " WHERE pos = 2"
            )
        await connection.close()

    actor = drained.runoff("log", "show", "--json", "--at", "2").stdout
    assert json.loads(actor)["actor"] == "cli"
    anyio.run(forge, "DISABLE")
    found = json.loads(drained.runoff("verify", "--json", code=6).stdout)
    assert {v["pos"] for v in found["violations"]} == {2}
    anyio.run(forge, "DISABLE")
    anyio.run(forge, "ENABLE")
    drained.runoff("verify")


def test_a_log_moves_to_a_file_and_to_another_server_with_its_chain(
    postgres: Server, drained: Place
) -> None:
    file, folder = f"sqlite:///{drained.folder}/moved.db", drained.folder
    out = drained.shown("log", "copy", drained.url, file)
    back = Place(folder, anyio.run(postgres.fresh))
    assert drained.shown("log", "copy", file, back.url)["head"] == out["head"]
    logs = [
        place.runoff("log", "show", "--after", "0", "--limit", "9999", "--json").stdout
        for place in (drained, Place(folder, file), back)
    ]
    assert logs[0] == logs[1] == logs[2]
    for place in (Place(folder, file), back):
        place.runoff("verify")
        place.runoff("audit")
    assert "events already" in drained.runoff("log", "copy", file, back.url, code=1).stderr
    drained.runoff("log", "copy", file, file, code=2)
    drained.runoff("log", "copy", f"sqlite:///{folder}/none.db", back.url, code=3)
    back.runoff("drain", "--script", "script.json", "--batch-size", "99")
    assert (
        "the target goes on to position"
        in back.runoff("log", "copy", "--resume", file, back.url, code=1).stderr
    )
