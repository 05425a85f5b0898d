"""A log of which bytes were damaged: whoever reads it says so in one line, and exits 5."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.program import runoff

PAGE_BYTES = 4096
WHATIF = ("whatif", "--set", "fingerprint_repeats_max=2")
READERS = [WHATIF, ("log", "show"), ("replay", "--step"), ("verify",), ("audit",)]


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "script.json").write_text('[{"state": "COMPLETE", "rc": 0, "events": 1}]')
    assert runoff(folder, "seed").returncode == 0
    runoff(folder, "drain", "--script", "script.json", "--virtual-time")
    return folder


@pytest.fixture
def log(drained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(drained, tmp_path / "log"))


def unreadable(folder: Path, reader: tuple[str, ...]) -> str:
    done = runoff(folder, *reader)
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 5, (done.returncode, done.stderr)
    return done.stderr


def overwritten(file: Path, text: bytes, other: bytes) -> None:
    """Replace the last ``text`` in ``file`` by as many bytes of ``other``."""
    whole = file.read_bytes()
    at = whole.rindex(text)
    file.write_bytes(whole[:at] + other + whole[at + len(other) :])


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader[0])
def test_text_that_is_none_is_damage_and_not_a_failing_disk(
    log: Path, reader: tuple[str, ...]
) -> None:
    overwritten(log / "b.db", b'{"type":"attempt.started"', b'{"\xff\xfe')
    assert "cannot be read" in unreadable(log, reader)


def test_a_page_of_noise_is_damage_for_whatif_too(log: Path) -> None:
    whole = (log / "b.db").read_bytes()
    at = whole.rindex(b'{"type":"attempt.started"') // PAGE_BYTES * PAGE_BYTES
    (log / "b.db").write_bytes(whole[:at] + os.urandom(PAGE_BYTES) + whole[at + PAGE_BYTES :])
    assert "cannot be read" in unreadable(log, WHATIF)


def test_what_can_still_be_read_of_a_log_whose_end_is_damaged_is_verified(log: Path) -> None:
    whole = (log / "b.db").read_bytes()
    at = whole.rindex(b'{"type":"session.ended"') // PAGE_BYTES * PAGE_BYTES
    (log / "b.db").write_bytes(whole[:at] + bytes(PAGE_BYTES) + whole[at + PAGE_BYTES :])
    said = re.search(r"cannot be read beyond position (\d+)", unreadable(log, ("verify",)))
    assert said is not None
    assert int(said[1]) > 0
