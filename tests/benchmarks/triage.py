"""``python -m tests.benchmarks.triage [URL RUN]``: pick and decide, and commands on a log.

``python -m tests.benchmarks.drained URL`` makes a long one.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.detect import detectors
from engine.detect.diagnosis import Kept, Streams, diagnosis_of
from engine.events import (
    AnyEvent,
    AttemptFinished,
    AttemptStarted,
    Limits,
    PhaseRegistered,
    RunRegistered,
    SessionStarted,
    Stream,
    Told,
)
from engine.triage.decide import Facts, following
from engine.triage.picking import Picker, next_event
from engine.triage.policy import policy_named
from engine.triage.reasons import Ground
from engine.triage.scope import Scope
from engine.triage.select import Queue
from projections.board import Board

PHASES = 50_000
PICKS = 3000
LIMITS = Limits(batch_size=10**9, workers=8, per_run_max=2, phase_timeout_ms=1000, grace_ms=10)
SCOPE = Scope("s", policy_named("default"), LIMITS)
FAILED_EVERY = 4


def floor_us() -> float:
    """A thousand rounds of a bare loop: what else shares this machine shows here."""
    start = time.perf_counter()
    total = 0
    for number in range(1_000_000):
        total += number
    return (time.perf_counter() - start) * 1e3


class Bench:
    """A board with a backlog, moved as the writer moves it, with each step timed."""

    def __init__(self, phases: int) -> None:
        self.board = Board()
        for run in range(phases // 10):
            self.feed(RunRegistered(run_id=f"run-{run}", origin="bench", state="NEW"))
            for number in range(10):
                self.feed(_phase(f"run-{run}", number))
        self.feed(SessionStarted(session_id="s", executor="x", limits=LIMITS))
        self.queue = Queue(self.board, SCOPE)
        self.times: dict[str, list[float]] = {"pick": [], "index": [], "decide": []}

    def feed(self, event: AnyEvent) -> None:
        """Fold one event at the next position."""
        self.board.fold_next(event, self.board.head.pos)

    def timed(self, what: str, work: Callable[[], Any]) -> Any:
        """Do ``work`` and note its microseconds."""
        start = time.perf_counter()
        done = work()
        self.times[what].append((time.perf_counter() - start) * 1e6)
        return done

    def attempt(self, number: int) -> None:
        """Pick, fail or succeed, decide."""
        picker = Picker(self.board, self.queue, SCOPE, self.board.head.pos, lambda: f"a{number}")
        started = self.timed("pick", lambda: next_event(picker))
        assert isinstance(started, AttemptStarted)
        self.feed(started)
        self.timed("index", lambda: self.queue.heed(started))
        finished = _finished(started, failed=number % FAILED_EVERY == 0)
        ground = Ground(SCOPE, self.board.head.pos, self.board.head.pos)
        facts = _facts(finished)
        events = self.timed("decide", lambda: list(following(self.board, facts, ground)))
        for event in [finished, *events]:
            self.feed(event)
            self.queue.heed(event)


def _phase(run_id: str, number: int) -> PhaseRegistered:
    return PhaseRegistered(
        run_id=run_id,
        phase_id=f"p{number}",
        tier_id="T",
        tier_index=0,
        phase_index=number,
        name="",
        state="QUEUED",
    )


def _finished(started: AttemptStarted, *, failed: bool) -> AttemptFinished:
    said = b"Traceback\nValueError: no " + started.run_id.encode()
    stderr = Stream(total_bytes=len(said), head_bytes=len(said)) if failed else Stream()
    return AttemptFinished(
        session_id="s",
        run_id=started.run_id,
        phase_id=started.phase_id,
        attempt_id=started.attempt_id,
        number=started.number,
        ending="failed" if failed else "succeeded",
        final_state="FAILED" if failed else "COMPLETE",
        exit_code=int(failed),
        duration_ms=5,
        timeout_ms=1000,
        yield_events=0 if failed else 3,
        stderr=stderr,
        told=Told(ended="exited", reason=said.decode() if failed else None),
    )


def _facts(finished: AttemptFinished) -> Facts:
    stderr = Kept.of(((finished.told and finished.told.reason) or "").encode())
    found = diagnosis_of(finished, Streams(stderr=stderr), detectors("standard-1"), "run")
    return Facts(finished, found.fingerprinted, found.boundaries, found.zero_yield)


def rules() -> dict[str, Any]:
    """Microseconds per pick, per notice of a change, and per decision, at 50 000 phases."""
    bench = Bench(PHASES)
    for number in range(PICKS):
        bench.attempt(number)
    medians = {f"{k}_us": round(statistics.median(v), 1) for k, v in bench.times.items()}
    return {"phases": PHASES, **medians, "bare_loop_of_1000_us": round(floor_us(), 1)}


def commands(url: str, run_id: str) -> dict[str, Any]:
    """Seconds of ``audit``, ``whatif`` and ``why`` on a log, beside a bare start of the program."""
    whatif = ["whatif", "--set", "fingerprint_repeats_max=2", "--json"]
    found: dict[str, Any] = {"log": url}
    for name, argv in (
        ("version", ["--version"]),
        ("audit", ["audit", "--json", "--database", url]),
        ("whatif", [*whatif, "--database", url]),
        ("why", ["why", run_id, "--json", "--database", url]),
    ):
        took, out = _timed([sys.executable, "-m", "engine", *argv])
        found[f"{name}_s"] = round(took, 2)
        if name == "audit":
            said = json.loads(out)
            found |= {"events": said["events"], "audit_ok": said["ok"]}
    return found


def _timed(argv: list[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(argv, check=True, capture_output=True, text=True, cwd=_HOME)
    return time.perf_counter() - start, done.stdout


_HOME = Path(__file__).parents[2]


def main(arguments: list[str]) -> None:
    """Print the rules' figures, and with a log's URL and one of its runs those of commands."""
    found: dict[str, Any] = {"rules": rules()}
    if arguments:
        found["commands"] = commands(*arguments)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
