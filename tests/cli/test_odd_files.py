"""Every command that reads a file answers for one that is none: in a line, and at once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import pytest

from tests.program import runoff

SPARSE_BYTES = 5 << 30

READS: dict[str, tuple[str, ...]] = {
    "seed": ("seed", "--plan", "@.toml"),
    "import": ("import", "@"),
    "drain by a policy": ("drain", "--dry-run", "--policy", "@.toml", "--", "true"),
    "drain by a script": ("drain", "--script", "@"),
    "drain in a folder": ("drain", "--workspace", "@", "--", "true"),
    "drain by coefficients": ("drain", "--coefficients", "@", "--", "true"),
    "daemon by settings": ("daemon", "--settings", "@", "--", "true"),
    "daemon by a policy": ("daemon", "--policy", "@.toml", "--", "true"),
    "daemon in a folder": ("daemon", "--workspace", "@", "--", "true"),
    "policy check": ("policy", "check", "@"),
    "policy show": ("policy", "show", "@.toml"),
    "policy diff": ("policy", "diff", "default", "@.toml"),
    "detect try": ("detect", "try", "@"),
    "detect try, of two": ("detect", "try", "policy.toml", "--stderr", "@"),
    "whatif by a policy": ("whatif", "--policy", "@.toml"),
    "whatif by a script": ("whatif", "--simulate", "--script", "@"),
    "calibrate": ("calibrate", "report", "--from-csv", "@"),
    "calibrate samples": ("calibrate", "samples", "--from-csv", "@"),
    "coefficients check": ("coefficients", "check", "@"),
    "coefficients show": ("coefficients", "show", "@"),
    "coefficients adopt": ("coefficients", "adopt", "@", "--why", "x"),
    "drift": ("drift", "--from-csv", "@"),
    "identity": ("identity", "--database", "sqlite:///@"),
    "verify": ("verify", "--database", "sqlite:///@"),
    "audit": ("audit", "--database", "sqlite:///@"),
    "why": ("why", "--database", "sqlite:///@"),
    "drain": ("drain", "--database", "sqlite:///@", "--", "true"),
    "daemon": ("daemon", "--database", "sqlite:///@", "--", "true"),
    "log copy": ("log", "copy", "sqlite:///@", "sqlite:///new.db"),
    "log copy to": ("log", "copy", "sqlite:///b.db", "sqlite:///@"),
    "demo": ("demo", "--directory", "@"),
}


def socket_at(path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as made:
        made.bind(path.name)


def sparse_at(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SPARSE_BYTES)


ODD: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "a full device": lambda path: path.symlink_to("/dev/full"),
    "a socket": socket_at,
    "five sparse gigabytes": sparse_at,
}
MADE = {("drain in a folder", "a folder"), ("daemon in a folder", "a folder"), ("demo", "a folder")}
"""What is as it should be."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path, None, None]:
    folder = tmp_path_factory.mktemp("odd")
    assert runoff(folder, "seed").returncode == 0
    assert runoff(folder, "drain", "--batch-size", "1", "--", "true").returncode == 4
    (folder / "policy.toml").write_text('name = "p"\nversion = 1\n')
    before = Path.cwd()
    os.chdir(folder)  # a socket's name has to be short
    for number, make in enumerate(ODD.values()):
        make(folder / f"odd{number}")
        (folder / f"odd{number}.toml").symlink_to(f"odd{number}")
    yield folder
    os.chdir(before)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("what", READS)
def test_what_is_no_file_is_refused_in_a_line(folder: Path, what: str, odd: str) -> None:
    if (what, odd) in MADE:
        return
    name = f"odd{list(ODD).index(odd)}"
    argv = tuple(part.replace("@", name) for part in READS[what])
    done = runoff(folder, *argv)
    assert done.returncode in (2, 3), (argv, done.stderr)
    said = [line for line in done.stderr.splitlines() if line.startswith(("runoff: ", "Error: "))]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert name in said[0]


BESIDE = ("-journal", "-wal", "-shm", "-lock")


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("odd", ["a pipe", "zeros without end"])
def test_what_stands_beside_a_log_and_is_no_file_is_named(
    tmp_path: Path, name: str, odd: str
) -> None:
    runoff(tmp_path, "seed")
    (tmp_path / f"b.db{name}").unlink(missing_ok=True)
    ODD[odd](tmp_path / f"b.db{name}")
    for argv in (("identity",), ("verify",), ("drain", "--", "true")):
        done = runoff(tmp_path, *argv)
        assert done.returncode == 3, (argv, done.stderr)
        assert f"b.db{name} belongs to the log, and is not a file." in done.stderr
    doctor = runoff(tmp_path, "doctor")
    assert doctor.returncode in (0, 1), doctor.stderr
    assert "Traceback" not in doctor.stderr


@pytest.mark.parametrize("odd", ["a pipe", "zeros without end", "a folder"])
def test_what_only_bears_the_name_of_the_anchors_is_a_finding_and_stops_writers(
    tmp_path: Path, odd: str
) -> None:
    runoff(tmp_path, "seed")
    (tmp_path / "b.db-anchors").unlink()
    ODD[odd](tmp_path / "b.db-anchors")
    assert runoff(tmp_path, "identity").returncode == 0
    assert runoff(tmp_path, "verify").returncode == 6
    for argv in (("drain", "--", "true"), ("run", "reinstate", "r", "--why", "x")):
        done = runoff(tmp_path, *argv)
        assert done.returncode == 74, (argv, done.stderr)
        assert "b.db-anchors: it is not a file." in done.stderr


def test_kept_output_that_is_a_pipe_is_missing(tmp_path: Path) -> None:
    runoff(tmp_path, "seed")
    runoff(tmp_path, "drain", "--batch-size", "1", "--", "sh", "-c", "seq 1 9000; exit 1")
    blobs = [path for path in (tmp_path / "b.db-files" / "blobs").rglob("*") if path.is_file()]
    assert blobs
    for blob in blobs:
        blob.unlink()
        os.mkfifo(blob)
    assert runoff(tmp_path, "verify").returncode == 6
    assert "Traceback" not in runoff(tmp_path, "audit").stderr
