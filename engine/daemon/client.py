"""The other end of the control socket, for the command line; it blocks, with a bound."""

from __future__ import annotations

import socket
from pathlib import Path
from time import monotonic, sleep

from engine.daemon.messages import (
    LINE_BYTES_MAX,
    Answer,
    Requested,
    answer_from,
    error_of,
    line_of,
)
from engine.daemon.sockets import with_address
from engine.errors import LogHeld, RunoffError

WAIT_S = 60.0
_PAUSE_S = 0.02


class NobodyListens(RunoffError):
    """There is no daemon at the socket."""


class Client:
    """One connection to a daemon.  Raises NobodyListens when there is none."""

    def __init__(self, path: Path, wait_s: float = WAIT_S) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(wait_s)
        self._wait_s = wait_s
        try:
            _connect(self._socket, path, wait_s)
        except OSError as error:
            self._socket.close()
            raise NobodyListens(
                f"no daemon answers at {path}.",
                remedy="start one with `runoff daemon`, or check DATABASE_URL.",
            ) from error
        self._file = self._socket.makefile("rb")

    def ask(self, request: Requested) -> Answer:
        """What the daemon answers.

        Raises what it refused with, or LogHeld when it went away or says nothing.
        """
        try:
            self._socket.sendall(line_of(request))
            line = self._file.readline(LINE_BYTES_MAX)
        except TimeoutError as error:
            raise _silent(self._wait_s) from error
        except OSError as error:
            raise _gone() from error
        if not line.endswith(b"\n"):
            raise _gone()
        answer = answer_from(line)
        if not answer.ok:
            raise error_of(answer)
        return answer

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


def _connect(ours: socket.socket, path: Path, wait_s: float) -> None:
    """Connect; where nobody more can stand at the door, wait for room.

    A socket with a time limit is told so at once, instead of being made to wait.
    """
    until_s = monotonic() + wait_s
    while True:
        try:
            with_address(path, ours.connect)
        except BlockingIOError:
            if monotonic() >= until_s:
                raise
            sleep(_PAUSE_S)
        else:
            return


def _silent(waited_s: float) -> LogHeld:
    return LogHeld(
        f"the daemon gave no answer within {waited_s:g} s; it may be stopped, or wait for its disk"
        " or server.",
        remedy="look at its process, then ask again.",
    )


def _gone() -> LogHeld:
    return LogHeld(
        "the daemon went away before it answered.",
        remedy="ask again; what it had recorded by then stands, and is not recorded twice.",
    )
