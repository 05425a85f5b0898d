"""One engine under test: its command, what it acknowledged, and when it was ready."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

from tests.harness.processes import wait_until

HOME = Path(__file__).parents[2]
ENGINE = (
    "{python} -m engine drain --database {database} --ack-lines --workers {workers}"
    " --batch-size 1000000 --max-attempts-per-phase 0 {resume} -- {child}"
)
"""The command under test.  It must print ``READY`` and, for each commit, ``ACK <command id>``."""

LIMIT_S = 60.0


class EngineProcess:
    """A started engine; its output goes to files, so that nobody has to read it in time."""

    def __init__(
        self, argv: list[str], output: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.output = output
        self.errors = output.with_suffix(".err")
        self.began_s = monotonic()
        with output.open("wb") as out, self.errors.open("wb") as err:
            self.process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=HOME,
                env={**os.environ, "PYTHONPATH": str(HOME), **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id, and that of its group."""
        return self.process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def says(self, word: bytes) -> bool:
        """Whether it has printed ``word``."""
        return word in self.output.read_bytes()

    def ready_s(self, limit_s: float = LIMIT_S) -> float | None:
        """Seconds from its start until it said READY; None when it never did."""
        said = wait_until(lambda: self.says(b"READY "), limit_s, self.pid)
        return monotonic() - self.began_s if said else None

    def wait(self, limit_s: float = LIMIT_S) -> int | None:
        """Its exit code; None when it is still running after ``limit_s``."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it alone."""
        self.process.kill()
        self.process.wait(LIMIT_S)

    def kill_group(self) -> None:
        """End its process group."""
        os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)

    def acknowledged(self) -> set[str]:
        """The command ids of the whole lines that it printed."""
        lines = self.output.read_bytes().split(b"\n")[:-1]
        return {line[4:].decode() for line in lines if line.startswith(b"ACK ")}

    def complaint(self) -> str:
        """The end of what it wrote to standard error."""
        return self.errors.read_text(errors="replace")[-600:]


def engine_argv(template: str, values: Mapping[str, str]) -> list[str]:
    """``template`` split into words, with its placeholders filled in; ``{child}`` may be many."""
    filled: list[str] = []
    for word in shlex.split(template):
        text = word.format(python=sys.executable, **values)
        filled += shlex.split(text) if word in ("{child}", "{resume}") else [text]
    return filled
