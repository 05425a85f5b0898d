"""``runoff log copy`` between files, as a person uses it."""

from __future__ import annotations

from pathlib import Path

from tests.program import runoff


def test_a_copy_onto_a_place_where_a_log_stood_has_anchors_of_its_own(tmp_path: Path) -> None:
    copy = ("log", "copy", f"sqlite:///{tmp_path}/b.db", f"sqlite:///{tmp_path}/copy.db")
    runoff(tmp_path, "seed")
    assert runoff(tmp_path, *copy).returncode == 0
    for name in ("copy.db", "copy.db-wal", "copy.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    runoff(tmp_path, "seed", "--repeat", "2", "--database", copy[3])
    for name in ("copy.db", "copy.db-wal", "copy.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    again = runoff(tmp_path, *copy)
    assert again.returncode == 0, again.stderr
    assert "An earlier log stood here" in again.stderr
    verified = runoff(tmp_path, "verify", "--database", copy[3])
    assert verified.returncode == 0, verified.stdout
    assert len(list(tmp_path.glob("copy.db-anchors.before-*"))) == 2


def test_a_copy_shows_from_which_log_to_which_it_goes(tmp_path: Path) -> None:
    urls = (f"sqlite:///{tmp_path}/b.db", f"sqlite:///{tmp_path}/\x9b.db")
    runoff(tmp_path, "seed")
    done = runoff(tmp_path, "log", "copy", *urls)
    assert done.returncode == 0, done.stderr
    shown = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("database")]
    assert shown == [urls[0], urls[1].replace("\x9b", "\\x9b")]
    held = [line.split()[1] for line in done.stderr.splitlines() if line.startswith("log ")]
    assert held == ["13", "0"]
    assert done.stderr.replace("\n", "").isprintable()
