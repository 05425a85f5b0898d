"""The harness in short: every way to end an engine once, and the crash test of two hundred tasks.

The long form is ``python -m tests.harness kill --rounds 1000``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.harness import powercut
from tests.harness.crash200 import crash200
from tests.harness.engine_process import ENGINE
from tests.harness.kill import Rounds

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and pidfds")


def test_nothing_is_lost_doubled_or_left_behind_however_an_engine_ends(tmp_path: Path) -> None:
    rounds = Rounds(tmp_path, rounds=9, seed=20, phases=60, audited=False)
    found = rounds.run()
    assert found.ok, found.complaints
    assert found.acknowledged > 0
    assert sum(found.rounds.values()) == 9


def test_every_task_is_done_once_however_often_the_engine_dies(tmp_path: Path) -> None:
    found = crash200(tmp_path, 1, ENGINE, tasks=40)
    assert found["ok"], found["complaints"]
    assert (found["done_once"], found["lost"], found["done_twice"]) == (40, 0, 0)
    assert found["ran_to_their_end_more_than_once"] == 0


def test_what_was_acknowledged_is_on_the_disk_when_the_power_fails(tmp_path: Path) -> None:
    missing = powercut.why_not(tmp_path / "why")
    if missing:
        pytest.skip(f"power cut: {missing}")
    found = powercut.powercut(tmp_path, 2, 3, ENGINE)
    assert found.ok, found.complaints
    assert found.acknowledged > 0
