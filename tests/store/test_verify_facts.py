"""Facts that cannot be, in logs with a perfect chain: verify names them, and so does the audit."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.audit.verify import Verification, verify
from engine.store.location import locate
from tests.forgery import Change, forge
from tests.program import runoff

USAGE = [{"input_tokens": 100, "output_tokens": 50, "model": "m"}]
RULES = [{"state": "COMPLETE", "rc": 0, "usage": USAGE, "sleep": 2}]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("facts")
    (folder / "script.json").write_text(json.dumps(RULES))
    assert runoff(folder, "seed", "--repeat", "2").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "8")
    assert "Traceback" not in runoff(folder, *drain).stderr
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "log"))


def verified(folder: Path) -> Verification:
    return verify(locate(f"sqlite:///{folder}/b.db"))


def first(folder: Path, kind: str, having: str = "") -> int:
    with closing(sqlite3.connect(folder / "b.db")) as connection:
        sql = "SELECT min(pos) FROM events WHERE type=? AND data LIKE ?"
        (pos,) = connection.execute(sql, (kind, f"%{having}%")).fetchone()
    assert pos is not None, (kind, having)
    return int(pos)


def fields(**changed: object) -> Change:
    def change(row: dict[str, object]) -> None:
        event = json.loads(str(row["data"])) | changed
        row["data"] = json.dumps(event, separators=(",", ":"), ensure_ascii=False)

    return change


def text(old: str, new: str) -> Change:
    def change(row: dict[str, object]) -> None:
        assert old in str(row["data"])
        row["data"] = str(row["data"]).replace(old, new, 1)

    return change


def column(name: str, value: object) -> Change:
    return lambda row: row.update({name: value})


def said(found: Verification, pos: int) -> list[str]:
    return [v.what.partition(":")[0] for v in found.violations if v.pos == pos]


def test_what_was_written_is_credible(log: Path) -> None:
    assert verified(log).violations == []


Case = tuple[str, str, Change, str]
CASES: dict[str, Case] = {
    "usage": ("attempt.finished", '"tokens":', fields(tokens=151), "S34"),
    "duration": ("attempt.finished", "", fields(duration_ms=-5), "S34"),
    "timeout": ("attempt.finished", "", fields(timeout_ms=7), "S34"),
    "success with 1": (
        "attempt.finished",
        '"succeeded"',
        fields(exit_code=1, told={"ended": "exited"}),
        "S34",
    ),
    "success by signal": ("attempt.finished", '"succeeded"', fields(signal=9), "S34"),
    "sha256": ("session.policy_adopted", "", fields(policy_sha256="0" * 64), "S33"),
    "label": ("session.policy_adopted", "", fields(policy="classic@1"), "S33"),
    "policy": ("session.policy_adopted", "", text('\\"order_tiers\\":true,', ""), "S33"),
    "coefficients": (
        "session.coefficients_in_force",
        "",
        fields(coefficients_sha256="0" * 64),
        "S33",
    ),
    "twice": ("attempt.finished", "", text('"number":', '"number":7,"number":'), "S3"),
    "not a number": ("attempt.finished", "", text('"number":', '"number":NaN,"n":'), "S3"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_is_named_at_its_place(log: Path, name: str) -> None:
    kind, having, change, invariant = CASES[name]
    pos = first(log, kind, having)
    forge(log / "b.db", (pos, change))
    assert invariant in said(verified(log), pos)


def test_usage_that_differs_from_what_its_end_claims_is_named_at_the_end(log: Path) -> None:
    usage = first(log, "usage.recorded")
    forge(log / "b.db", (usage, fields(input_tokens=99999)))
    assert said(verified(log), first(log, "attempt.finished", '"tokens":')) == ["S34"]


def test_a_version_that_goes_back_is_named(log: Path) -> None:
    with closing(sqlite3.connect(log / "b.db")) as connection:
        sql = "SELECT max(pos) FROM events WHERE type='triage.run_judged'"
        (pos,) = connection.execute(sql).fetchone()
    forge(log / "b.db", (pos, column("schema", 1)))
    assert "S35" in said(verified(log), pos)


@pytest.mark.parametrize(
    "gone",
    [
        "DELETE FROM event_shapes WHERE type = 'attempt.estimated'",
        "DELETE FROM open_attempts WHERE attempt IN (SELECT min(attempt) FROM open_attempts)",
        "UPDATE open_attempts SET closed_pos = NULL WHERE started_pos % 3 = 0",
    ],
)
def test_a_derived_row_that_is_gone_or_another_is_named(log: Path, gone: str) -> None:
    with closing(sqlite3.connect(log / "b.db")) as connection:
        assert connection.execute(gone).rowcount > 0
        connection.commit()
    found = verified(log).violations
    assert {v.what.partition(":")[0] for v in found} == {"S35"}


AUDITED: dict[str, tuple[str, Change, str]] = {
    "no JSON": ("usage.recorded", text('"line"', "GARBAGE"), "S3"),
    "twice": ("attempt.finished", text('"number":', '"number":7,"number":'), "S3"),
    "spaces": ("backlog.run_registered", text(",", ", "), "S3"),
    "tag": ("usage.recorded", column("phase", "another"), "S6"),
    "sha256": ("session.policy_adopted", fields(policy_sha256="0" * 64), "S33"),
    "label": ("session.policy_adopted", fields(policy="classic@1"), "S33"),
    "coefficients": ("session.coefficients_in_force", fields(coefficients_sha256="0"), "S33"),
}


@pytest.mark.parametrize("name", AUDITED)
def test_the_audit_names_a_row_that_was_written_otherwise(log: Path, name: str) -> None:
    kind, change, invariant = AUDITED[name]
    pos = first(log, kind)
    forge(log / "b.db", (pos, change))
    done = runoff(log, "audit", "--json")
    assert (done.returncode, "Traceback" in done.stderr) == (6, False)
    found = json.loads(done.stdout)["findings"]
    assert invariant in [f["what"].partition(":")[0] for f in found if f["pos"] == pos]


def test_estimates_are_taken_again_whatever_a_derived_table_says(log: Path) -> None:
    pos = first(log, "attempt.estimated")
    forge(log / "b.db", (pos, fields(estimated_tokens=1)))
    with closing(sqlite3.connect(log / "b.db")) as connection:
        connection.execute("DELETE FROM event_shapes WHERE type='attempt.estimated'")
        connection.commit()
    done = runoff(log, "audit", "--json", "--level", "decisions")
    assert done.returncode == 6
    assert pos in [each["pos"] for each in json.loads(done.stdout)["differences"]]
