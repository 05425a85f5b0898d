"""Disks that fail, fill up and lose files under a real engine; each fault once.

The long form is ``python -m tests.harness faults --rounds 100``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import monotonic

import pytest

from tests.harness.faults import Faults
from tests.harness.kill import kill_all
from tests.harness.place import Place

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and pidfds")
QUICK = ("sync_fails_once", "full_then_freed", "locked", "page_overwritten")
KINDS = (
    "write_fails_once",
    "really_full_then_freed",
    "read_only_disk",
    "replaced_while_running",
    "anchors_missing",
    "older_copy",
    "wal_cut",
)


@pytest.mark.parametrize(
    "kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS)]
)
def test_a_fault_ends_in_one_clear_word_and_its_cure_in_a_drained_backlog(
    tmp_path: Path, kind: str
) -> None:
    faults = Faults(tmp_path, seed=(*QUICK, *KINDS).index(kind))
    missing = faults.why_not(kind)
    if missing:
        pytest.skip(f"{kind}: {missing}")
    faults.round(kind)
    assert faults.tally.ok, faults.tally.complaints


@pytest.mark.slow
def test_a_lock_that_stays_is_waited_for_five_real_seconds_and_no_longer(tmp_path: Path) -> None:
    faults = Faults(tmp_path, seed=1)
    place = Place(tmp_path / "place", 20, 4, 0.1, 0)
    began_s = monotonic()
    try:
        faults.locked(place, {})
    finally:
        kill_all(place)
    assert monotonic() - began_s > 5
    assert faults.tally.exits["75"] == 1
    assert faults.tally.ok, faults.tally.complaints
