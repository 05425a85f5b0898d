"""The doctor: every judgement as a table, and one look at a real log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.daemon.wire import unix_listener
from engine.doctor import checks, probes
from engine.doctor.checks import Check, Left
from tests.program import runoff

OPEN = Left(pid=1, attempt_id="a", is_open=True)
STRAY = Left(pid=2, attempt_id="b", is_open=False)

TABLE: list[tuple[Check, str]] = [
    (checks.python((3, 11, 0)), "ok"),
    (checks.python((3, 10, 9)), "fail"),
    (checks.sqlite((3, 34, 1)), "fail"),
    (checks.sqlite((3, 35, 0)), "warn"),
    (checks.sqlite((3, 51, 2)), "warn"),
    (checks.sqlite((3, 51, 3)), "ok"),
    (checks.file_system("ext4"), "ok"),
    (checks.file_system("nfs4"), "warn"),
    (checks.file_system("fuse.sshfs"), "warn"),
    (checks.file_system("fuse.ext4"), "ok"),
    (checks.file_system("tmpfs"), "warn"),
    (checks.file_system(None), "warn"),
    (checks.fsync([]), "fail"),
    (checks.fsync([1.0, 2.0, 900.0]), "ok"),
    (checks.fsync([60.0]), "warn"),
    (checks.fsync([0.001]), "warn"),
    (checks.free_space(1024**3), "ok"),
    (checks.free_space(1024**3 - 1), "warn"),
    (checks.free_space(64 * 1024**2 - 1), "fail"),
    (checks.free_space(1024**3, 10_000), "ok"),
    (checks.free_space(1024**3, 9_999), "warn"),
    (checks.free_space(1024**3, 99), "fail"),
    (checks.clock(5_000_000, 6_000_000), "ok"),
    (checks.clock(5_000_000, 6_000_001), "warn"),
    (checks.distributions(["runoff"]), "ok"),
    (checks.distributions(["runoff", "other"]), "warn"),
    (checks.writer(""), "ok"),
    (checks.writer("runoff daemon, pid 1"), "ok"),
    (checks.writer(None), "warn"),
    (checks.writer(None, is_shared=True), "ok"),
    (checks.server(None), "ok"),
    (checks.server([]), "ok"),
    (checks.server(["fsync"]), "warn"),
    (checks.processes([], held=False), "ok"),
    (checks.processes([OPEN], held=True), "ok"),
    (checks.processes([OPEN], held=False), "warn"),
    (checks.processes([OPEN, STRAY], held=True), "fail"),
    (checks.files(has_stale_socket=False), "ok"),
    (checks.files(has_stale_socket=True), "warn"),
    (checks.files(has_stale_socket=True, names=2), "fail"),
    (checks.unreadable("no.", "yes."), "fail"),
    (checks.log(3, 0), "ok"),
]


@pytest.mark.parametrize(("check", "verdict"), TABLE)
def test_what_is_found_is_judged(check: Check, verdict: str) -> None:
    assert check.verdict == verdict
    assert (check.remedy is None) is (verdict == "ok"), "what is not ok has a remedy"


def test_a_file_system_is_that_of_the_nearest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        f"2 1 0:5 / {str(tmp_path).replace('-', chr(92) + '055')} rw shared:1 - nfs4 host:/x rw\n"
        f"3 1 0:6 / {tmp_path}/other rw - tmpfs tmpfs rw\n"
    )
    assert probes.file_system_of(tmp_path / "b", mounts) == "nfs4"
    assert probes.file_system_of(Path("/"), mounts) == "ext4"
    assert probes.file_system_of(tmp_path, tmp_path / "none") is None


def test_a_file_system_tells_how_many_files_it_takes_or_that_it_has_no_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = 100

    def told(_: Path) -> os.statvfs_result:
        return os.statvfs_result((4096, 4096, 9, 9, 9, files, 8, 7, 0, 255))

    monkeypatch.setattr(os, "statvfs", told)
    assert probes.free_files(tmp_path) == 7
    files = 0
    assert probes.free_files(tmp_path) is None


def test_a_healthy_log_passes_and_leaves_no_trace(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    before = {path.name for path in tmp_path.iterdir()}
    done = runoff(tmp_path, "doctor", "--json")
    found = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert list(found) == [
        "python", "sqlite", "distributions", "file_system", "fsync", "free_space", "writer",
        "files", "server", "clock", "processes", "log",
    ]  # fmt: skip
    assert found["writer"]["found"] == "nobody"
    left = {path.name for path in tmp_path.iterdir()} - {"b.db-shm", "b.db-wal"}  # SQLite's own
    assert left == before


def test_leftovers_and_a_missing_log_are_named(tmp_path: Path) -> None:
    unix_listener(tmp_path / "b.db-control").close()
    done = runoff(tmp_path, "doctor")
    assert done.returncode == 1
    assert "fail  log" in done.stdout
    assert "warn  files" in done.stdout


def test_where_no_process_can_be_seen_none_is_said_to_be_gone(tmp_path: Path) -> None:
    assert probes.marked(tmp_path) is None
    assert checks.processes(None, held=False).verdict == "warn"


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_marked_process_is_seen() -> None:
    environment = {**os.environ, "RUNOFF_ATTEMPT_ID": "att_doctor"}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env=environment) as child:
        seen = {}
        while child.pid not in seen:  # until it is the program that it will be
            seen = dict(probes.marked() or {})
        assert seen[child.pid] == "att_doctor"
        assert child.stdin is not None
        child.stdin.close()
