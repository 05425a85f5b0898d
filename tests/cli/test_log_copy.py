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
