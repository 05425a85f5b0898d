"""A process that has the program loaded and forks one for each command that a test runs.

``python tests/forked.py DOOR``: requests come over the socket DOOR, one at a time, each with the
descriptors of the command's standard input, output and error; the pid and then the exit code of
the command go back.  It ends when nobody is at the other end any more.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
from typing import TypedDict

import engine.cli

REQUEST_BYTES_MAX = 128 * 1024


class Request(TypedDict):
    """One command: its arguments, where it runs, and its whole environment."""

    arguments: list[str]
    folder: str
    environment: dict[str, str]


def main(door: socket.socket) -> None:
    """Serve until the other end hangs up; in a forked process, run the command and exit."""
    for module in pkgutil.walk_packages(engine.cli.__path__, "engine.cli."):
        importlib.import_module(module.name)
    gc.freeze()
    while True:
        text, streams, _, _ = socket.recv_fds(door, REQUEST_BYTES_MAX, 3)
        if not text:
            return
        pid = os.fork()
        if pid == 0:
            door.close()
            _become(json.loads(text), streams)
            runpy.run_module("engine", run_name="__main__", alter_sys=True)
            return
        for descriptor in streams:
            os.close(descriptor)
        door.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        door.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Request, streams: list[int]) -> None:
    """All that a command finds when it is started, but for the modules that are loaded already."""
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  as an interpreter opens them
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["engine", *request["arguments"]]


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
