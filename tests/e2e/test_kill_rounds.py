"""The harness in short: every way to end an engine once, and the crash test of two hundred tasks.

The long form is ``python -m tests.harness kill --rounds 1000``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness.kill import Rounds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and pidfds")


def test_nothing_is_lost_doubled_or_left_behind_however_an_engine_ends(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, rounds=9, seed=20, phases=60, audited=False)
    found = rounds.run()
    assert found.ok, found.complaints
    assert found.acknowledged > 0
    assert sum(found.rounds.values()) == 9
