"""The engine's end of a guardian: start it, talk to it in bytes, and notice its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio

from engine.executors.outcome import GUARDIAN_LOG

GUARDIAN = Path(__file__).with_name("guardian.py")
READY_LIMIT_S = 30.0
_EXIT_PAUSE_S = 0.001


class GuardianProcess:
    """A running guardian; its end is the end of the pipe that only it holds.

    Waiting on that pipe needs neither a thread nor a signal handler per attempt.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._to = process.stdin
        self._from = process.stdout
        self.gone = False
        os.set_blocking(self._from.fileno(), False)

    @classmethod
    def start(cls, directory: Path) -> GuardianProcess:
        """Start a guardian for the attempt in ``directory``; raises OSError when that fails."""
        command = [sys.executable, "-I", "-S", str(GUARDIAN), str(directory)]
        with (directory / GUARDIAN_LOG).open("wb") as log:
            return cls(
                subprocess.Popen(  # noqa: S603  our own program
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    bufsize=0,
                    start_new_session=True,
                )
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> bool:
        """Wait until it is ready to start the child; false when it died or took 30 s."""
        with anyio.move_on_after(READY_LIMIT_S):
            return await self._heard() == b"R"
        return False

    async def _heard(self) -> bytes:
        while True:
            try:
                return os.read(self._from.fileno(), 1)
            except BlockingIOError:
                await anyio.wait_readable(self._from.fileno())

    def go(self) -> None:
        """Let it start the child."""
        self._say(b"G")

    def end(self) -> None:
        """Tell it to end the attempt now."""
        self._say(b"E")

    def _say(self, word: bytes) -> None:
        try:
            self._to.write(word)
        except (OSError, ValueError):
            return  # it is dead or dying, which is noticed elsewhere

    def leave(self) -> None:
        """Let go of it as a dying engine does; it knows what to do then."""
        self._to.close()
        self._from.close()
        self._process.returncode = 0  # what becomes of it is for the next engine to find out
        self.gone = True

    async def wait(self) -> None:
        """Until it has ended; afterwards ``gone`` is true and nothing of ours is left open."""
        if self.gone:
            return
        while await self._heard():
            pass
        while self._process.poll() is None:  # noqa: ASYNC110  it is at its last instruction
            await anyio.sleep(_EXIT_PAUSE_S)
        self.gone = True
        self._to.close()
        self._from.close()

    async def wait_at_most(self, limit_s: float) -> bool:
        """Whether it ended within ``limit_s``."""
        with anyio.move_on_after(limit_s):
            await self.wait()
        return self.gone

    def kill(self) -> None:
        """End it without a word; its attempt's processes are then for the caller to end."""
        self._process.kill()
