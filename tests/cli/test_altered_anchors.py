"""Anchors that were altered, emptied or left behind: both commands say how far they reach."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.program import runoff


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("anchored")
    rules = [{"state": "COMPLETE", "rc": 0, "events": 1, "sleep": 400}]
    (folder / "script.json").write_text(json.dumps(rules))
    assert runoff(folder, "seed", "--repeat", "1").returncode == 0
    arguments = ["--virtual-time", "--batch-size", "5", "--workers", "1"]
    runoff(folder, "drain", "--script", "script.json", *arguments)
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "log"))


def anchors(folder: Path) -> Path:
    return folder / "b.db-anchors"


def said(folder: Path, verb: str, code: int) -> str:
    done = runoff(folder, verb)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stdout
    return done.stdout


Alter = Callable[[bytes], bytes]
ALTERED: dict[str, Alter] = {
    "a line before all": lambda old: b"hello\n" + old,
    "carriage returns": lambda old: old.replace(b"\n", b"\r\n"),
    "upper case": lambda old: old.upper(),
    "emptied": lambda _old: b"",
    "zeros": lambda old: bytes(len(old)),
    "zeros behind": lambda old: old + bytes(9),
    "the first line alone": lambda old: old[: old.index(b"\n") + 1],
    "a line without its end": lambda old: old.splitlines()[-1],
}


@pytest.mark.parametrize("verb", ["audit", "verify"])
@pytest.mark.parametrize("how", ALTERED)
def test_altered_anchors_are_a_finding_in_one_clear_line(log: Path, verb: str, how: str) -> None:
    anchors(log).write_bytes(ALTERED[how](anchors(log).read_bytes()))
    told = said(log, verb, 6)
    assert "S2: " in told
    assert "anchors broken" in told
    assert "ll holds" not in told


@pytest.mark.parametrize("verb", ["audit", "verify"])
def test_how_far_anchors_reach_is_said(log: Path, verb: str) -> None:
    head = anchors(log).read_text().split()[-2]
    assert f"anchors ok, up to {head}" in said(log, verb, 0)


@pytest.mark.parametrize("verb", ["audit", "verify"])
def test_a_log_without_its_anchors_is_no_finding_and_not_all_that_holds(
    log: Path, verb: str
) -> None:
    anchors(log).unlink()
    told = said(log, verb, 0)
    assert "anchors missing" in told
    assert "ll holds, as far as can be told without anchors" in told


@pytest.mark.parametrize("verb", ["audit", "verify"])
def test_an_engine_that_died_before_its_first_anchor_leaves_a_short_file(
    tmp_path: Path, verb: str
) -> None:
    assert runoff(tmp_path, "seed", "--repeat", "1").returncode == 0
    anchors(tmp_path).write_bytes(b"")
    told = said(tmp_path, verb, 0)
    assert "anchors short" in told
    assert "without anchors" in told


@pytest.mark.parametrize("verb", ["audit", "verify"])
def test_a_last_line_that_a_crash_cut_short_is_none(log: Path, verb: str) -> None:
    whole = anchors(log).read_bytes()
    anchors(log).write_bytes(whole + whole.splitlines()[-1][:30])
    assert "anchors ok" in said(log, verb, 0)
