"""The program as a person runs it: in a process of its own, on a database in a folder.

On Linux that process is forked from one that has the program loaded (``tests/forked.py``), since
loading it takes longer than most commands.  Tests in ``e2e`` start it as a person does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import weakref
from functools import cache
from pathlib import Path

LIMIT_S = 60


def runoff(
    folder: Path, *arguments: str, database: str = "b.db"
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end in ``folder``."""
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/{database}"}
    return run(folder, arguments, environment)


def run(
    folder: Path, arguments: tuple[str, ...], environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end in ``folder``, with nothing but that environment."""
    if sys.platform == "linux":
        return _loaded(os.getpid()).run(folder, arguments, environment)
    return subprocess.run(
        [sys.executable, "-m", "engine", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=LIMIT_S,
        check=False,
    )


class _Loaded:
    """The process that commands are forked from."""

    def __init__(self) -> None:
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    str(Path(__file__).with_name("forked.py")),
                    str(theirs.fileno()),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._end = weakref.finalize(self, _ended, self._door, process)

    def run(
        self, folder: Path, arguments: tuple[str, ...], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        request = {"arguments": arguments, "folder": str(folder), "environment": environment}
        with (
            open(os.devnull) as nothing,  # noqa: PTH123
            tempfile.TemporaryFile("w+") as out,
            tempfile.TemporaryFile("w+") as err,
        ):
            streams = [nothing.fileno(), out.fileno(), err.fileno()]
            socket.send_fds(self._door, [json.dumps(request).encode()], streams)
            code = self._code()
            for stream in (out, err):
                stream.seek(0)
            return subprocess.CompletedProcess(arguments, code, out.read(), err.read())

    def _code(self) -> int:
        pid = int(self._door.recv(64))
        self._door.settimeout(LIMIT_S)
        try:
            return int(self._door.recv(64))
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            self._door.settimeout(None)
            self._door.recv(64)
            raise


def _ended(door: socket.socket, process: subprocess.Popen[bytes]) -> None:
    door.close()
    process.wait()


@cache
def _loaded(_pid: int) -> _Loaded:
    """One for each process of tests, whatever that was forked from."""
    return _Loaded()
