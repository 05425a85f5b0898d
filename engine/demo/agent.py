"""The demo's agent: a real child process that behaves as its run's name says.

It uses the child protocol as any agent would: it reads RUNOFF_PHASE_FILE, appends usage to
RUNOFF_EVENTS_FILE, writes deliverables into its workspace, prints, and exits.  No model is called.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

STEP_S = 0.4
LONG_S = 3600.0
ERRORS = (
    "ModuleNotFoundError: No module named 'legacy_orm'",
    "AssertionError: expected 12 rows, got 11",
    "PermissionError: [Errno 13] Permission denied: 'settings.ini'",
    "TypeError: unsupported operand type(s) for +: 'int' and 'NoneType'",
)


def main() -> None:
    """Play the part."""
    phase = json.loads(Path(os.environ["RUNOFF_PHASE_FILE"]).read_text(encoding="utf-8"))
    part = PARTS.get(sys.argv[1], succeed)
    part(phase)


def call(tokens_in: int, tokens_out: int, finish: str = "stop") -> None:
    """Take a moment as a model would, and write one usage line."""
    time.sleep(STEP_S)
    line = {
        "type": "usage",
        "provider": "demo",
        "model": "scripted-1",
        "operation": "chat",
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "finish_reason": finish,
        "success": finish == "stop",
    }
    with Path(os.environ["RUNOFF_EVENTS_FILE"]).open("a", encoding="utf-8") as events:
        events.write(json.dumps(line) + "\n")


def succeed(phase: dict[str, Any]) -> None:
    """Two calls, and the files that were asked for."""
    weight = {"low": 1, "medium": 2}.get(phase.get("complexity") or "", 3)
    call(900 * weight, 260 * weight)
    call(1300 * weight, 410 * weight + 7 * len(phase["phase_id"]))
    for deliverable in phase["deliverables"]:
        path = Path(deliverable["path"])
        if not path.is_absolute() and ".." not in path.parts:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(deliverable["must_contain"]) + "\n", encoding="utf-8")
    print("done")


def fail_alike(_phase: dict[str, Any]) -> NoReturn:
    """The fault that all nightly imports share."""
    time.sleep(STEP_S)
    fail("ConnectionRefusedError: [Errno 111] Connection refused: warehouse-db:5432")


def hang(_phase: dict[str, Any]) -> None:
    """Say nothing until the deadline."""
    print("waiting for the transcoder ...", flush=True)
    time.sleep(LONG_S)


def overflow(_phase: dict[str, Any]) -> NoReturn:
    """Run into the context window on the second call."""
    call(7800, 350)
    error = {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
            "message": "prompt is too long: 9031 tokens > 8192 maximum",
        },
    }
    print(json.dumps(error), file=sys.stderr)
    raise SystemExit(1)


def fail_diversely(phase: dict[str, Any]) -> NoReturn:
    """Another error for every phase."""
    time.sleep(STEP_S)
    number = int(phase["phase_index"]) + int(phase["attempt"])
    fail(ERRORS[number % len(ERRORS)])


def fail_after_calls(phase: dict[str, Any]) -> NoReturn:
    """Spend tokens, then fail."""
    call(1500, 600)
    fail(f"ValueError: relevance dropped below the baseline in phase {phase['phase_index']}")


def succeed_quietly(_phase: dict[str, Any]) -> None:
    """Succeed without a single call."""
    time.sleep(STEP_S)
    print("nothing to change")


def fail(error: str) -> NoReturn:
    """End as an uncaught exception would."""
    print("Traceback (most recent call last):", file=sys.stderr)
    print('  File "agent.py", line 7, in <module>', file=sys.stderr)
    print(error, file=sys.stderr)
    raise SystemExit(1)


PARTS = {
    "succeeds": succeed,
    "systemic_fault": fail_alike,
    "hangs": hang,
    "context_window": overflow,
    "diverse_errors": fail_diversely,
    "fails_with_usage": fail_after_calls,
    "succeeds_without_calls": succeed_quietly,
}

if __name__ == "__main__":
    main()
