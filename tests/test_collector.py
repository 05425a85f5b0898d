"""The garbage collector: rare while an engine works, and as it was afterwards."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from engine.cli.main import runoff
from engine.collector import RARELY, collecting_rarely, without_collector
from engine.drain.summary import summarise


def test_it_is_rare_in_the_block_and_what_was_there_is_left_alone() -> None:
    before = gc.get_threshold()
    assert before != RARELY
    with collecting_rarely():
        assert gc.get_threshold() == RARELY
        assert gc.get_freeze_count() > 1000
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_failure_leaves_it_as_it_was() -> None:
    before = gc.get_threshold(), gc.isenabled()
    for block in (collecting_rarely, without_collector):
        with pytest.raises(KeyError), block():
            raise KeyError
        assert (gc.get_threshold(), gc.isenabled()) == before


@pytest.mark.parametrize("enabled", [True, False])
def test_it_is_off_in_a_walk_and_as_it_was_behind_it(enabled: bool) -> None:
    was = gc.isenabled()
    gc.enable() if enabled else gc.disable()
    try:
        with without_collector():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if was else gc.disable()


def test_a_drain_collects_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, int]] = []

    async def seeing(*given: Any) -> Any:
        seen.append(gc.get_threshold())
        return await summarise(*given)

    monkeypatch.setattr("engine.cli.drain.summarise", seeing)
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"state": "COMPLETE", "rc": 0, "events": 1, "sleep": 1}]))
    log = ("--database", f"sqlite:///{tmp_path}/b.db")
    invoke = CliRunner().invoke
    assert invoke(runoff, ["seed", *log]).exit_code == 0
    drained = invoke(runoff, ["drain", "--script", str(script), "--virtual-time", *log])
    assert (drained.exit_code, seen) == (0, [RARELY]), drained.output
