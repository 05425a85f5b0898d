"""Types are built before threads start: two that build one at once crash the interpreter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent.parent
PROGRAM = """
import sys, threading
from pathlib import Path
from engine.detect import Outcome, detectors
from engine.executors.outcome import Spec, read_report
from engine.executors.protocol import read_result, read_telemetry
import engine.drain.diagnose

folder = Path(sys.argv[1])
sys.setswitchinterval(1e-6)
gate = threading.Barrier(8)
found = detectors("standard-1")
said = '{"error":{"code":"context_length_exceeded"}}'
outcome = Outcome(ended="exited", succeeded=False, final_state="FAILED", stderr=said)

def work():
    gate.wait()
    assert found.boundary(outcome)
    assert read_telemetry(folder / "events").usage
    read_result(folder / "result")
    read_report(folder)

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
"""


@pytest.mark.parametrize("turn", range(6))
def test_many_attempts_may_end_at_once_in_a_fresh_process(turn: int, tmp_path: Path) -> None:
    (tmp_path / "events").write_text('{"type":"usage","output_tokens":1}\n')
    (tmp_path / "result").write_text('{"success": true}')
    (tmp_path / "outcome.json").write_text("{}")
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=HOME,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr
