"""The engine's end of guardians: have them started, talk to them in bytes, notice their end."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import weakref
from contextlib import suppress
from functools import cache
from pathlib import Path

import anyio

from engine.errors import NOTHING_LEFT, DiskFull, RunoffError, StorageFailed, nothing_left
from engine.executors.processes import end_process

GUARDIAN = Path(__file__).with_name("guardian.py")
PATIENCES_S = (5.0, 10.0, 15.0)
"""How long each try to start a guardian waits before the process that forks it is replaced."""

LOOK_S = 0.25
"""A guardian comes up in milliseconds; else so often we look whether it still shall."""

GOING_S = 1.0
DESCRIPTORS_MAX = 16_384
_HEARD_BYTES_MAX = 1024
_PAUSE_S = 0.005


class NotStarted(Exception):
    """No guardian came up for an attempt, and why; nothing of it runs, or will."""


def _refused(error: OSError) -> RunoffError | NotStarted:
    """A limit of the machine is no fault of the phase, and the next one would meet it as well."""
    said = error.strerror or str(error)
    return nothing_left(said) if error.errno in NOTHING_LEFT else NotStarted(said)


def _not_whole(why: str) -> StorageFailed:
    """No attempt can be begun here, whichever phase it is of."""
    return StorageFailed(
        f"no guardian of an attempt can be started: {why}.",
        remedy="check that Python and this program are installed as they were, then start again.",
    )


def _failure_told(said: bytes) -> StorageFailed | None:
    """What of a guardian's trouble is neither its phase's doing nor its own."""
    word, _, why = said.decode("utf-8", "replace").rstrip().partition(" ")
    match word:
        case "L":
            return nothing_left(why)
        case "F":
            return DiskFull.at("a file of an attempt")
        case "D":
            return StorageFailed(
                f"the disk with the files of an attempt fails: a guardian {why}.",
                remedy="check permissions and the disk, then start again; what was acknowledged"
                " is safe.",
            )
        case _:
            return None


class GuardianProcess:
    """A guardian to be, and then one; its end is the end of the socket that only it holds.

    Waiting on that needs neither a thread nor a signal handler per attempt.  ``pid`` and
    ``start_ticks`` are known once it is ready.  ``failure``: what kept it from its last word.
    """

    def __init__(self) -> None:
        self._socket, self._theirs = socket.socketpair()
        self._socket.setblocking(False)
        self.pid = 0
        self.start_ticks: int | None = None
        self.gone = False
        self.failure: StorageFailed | None = None

    async def asked_of(self, door: socket.socket, directory: Path) -> None:
        """Have it forked for the attempt in ``directory``; raises OSError when that fails."""
        with self._theirs:
            self._socket.send(os.fsencode(directory) + b"\0")
            while True:
                try:
                    socket.send_fds(door, [b"\0"], [self._theirs.fileno()])
                except BlockingIOError:
                    await anyio.wait_writable(door)
                else:
                    return

    async def greeted(self, abandon: anyio.Event) -> bool:
        """Wait until it is ready to start the child; false when it died before.

        Raises NotStarted when it says why it cannot, or when ``abandon`` is set meanwhile;
        StorageFailed when it cannot be forked.
        """
        greeting = b""
        while not greeting.endswith(b"\n"):
            with anyio.move_on_after(LOOK_S) as look:
                said = await self._heard()
                if not said:
                    return False
                greeting += said
            if look.cancelled_caught and abandon.is_set():
                raise NotStarted("it was told to end before it began")
        word, pid, ticks = greeting.decode("utf-8", "replace").rstrip().split(" ", 2)
        if (failure := _failure_told(greeting)) is not None:
            raise failure
        if word != "R":
            raise NotStarted(f"{pid} {ticks}")
        self.pid, self.start_ticks = int(pid), None if ticks == "null" else int(ticks)
        return True

    async def _heard(self) -> bytes:
        while True:
            try:
                return self._socket.recv(_HEARD_BYTES_MAX)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except ConnectionResetError:  # it went without listening to our last word
                return b""

    def go(self) -> None:
        """Let it start the child."""
        self._say(b"G")

    def end(self) -> None:
        """Tell it to end the attempt now."""
        self._say(b"E")

    def _say(self, word: bytes) -> None:
        try:
            self._socket.send(word)
        except OSError:
            return  # it is dead or dying, which is noticed elsewhere

    def leave(self) -> None:
        """Let go of it as a dying engine does; it knows what to do then."""
        self._socket.close()
        self._theirs.close()
        self.gone = True

    @property
    def has_hung_up(self) -> bool:
        """Whether it has ended, and has said nothing that is still to be heard."""
        try:
            return self.gone or not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    async def wait(self) -> None:
        """Until it has ended; afterwards ``gone`` is true and nothing of ours is left open.

        After its last word it is gone in a moment; a copy of its socket may be held by a server
        that was stopped at the wrong one.
        """
        if self.gone:
            return
        while said := await self._heard():
            if said.endswith(b"."):
                with anyio.move_on_after(GOING_S):
                    while await self._heard():
                        pass
                break
            self.failure = _failure_told(said)
        self.leave()

    async def wait_at_most(self, limit_s: float) -> bool:
        """Whether it ended within ``limit_s``."""
        with anyio.move_on_after(limit_s):
            await self.wait()
        return self.gone

    def kill(self) -> None:
        """End it without a word; its attempt's processes are then for the caller to end."""
        end_process(self.pid, self.start_ticks, signal.SIGKILL)


class _Server:
    """The process that guardians are forked from, and the socket to it."""

    def __init__(self) -> None:
        usual = more_descriptors()
        self.door, theirs = socket.socketpair()
        try:
            process = subprocess.Popen(  # noqa: S603  our own program
                [sys.executable, "-I", "-S", str(GUARDIAN), str(usual)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            self.door.close()
            if error.errno in NOTHING_LEFT:
                raise
            place = "" if error.filename is None else f"{error.filename}: "
            raise _not_whole(f"{place}{error.strerror}") from error
        finally:
            theirs.close()
        self.door.setblocking(False)
        self._process = process
        self.end = weakref.finalize(self, _ended, process, self.door)

    async def ending(self) -> int | None:
        """Its exit code, negative for a signal; None when it goes on."""
        with anyio.move_on_after(LOOK_S):
            while self._process.poll() is None:  # noqa: ASYNC110  what died closed its socket first
                await anyio.sleep(_PAUSE_S)
        return self._process.poll()


def _ended(process: subprocess.Popen[bytes], door: socket.socket) -> None:
    door.close()
    process.kill()  # it holds nothing, and would end by itself but for a SIGSTOP
    process.wait()


@cache
def more_descriptors() -> int:
    """Let this process open as many files as it may; how many it might at first.

    The usual limit of 1024 is for programs that ``select``; each attempt takes a few.
    """
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if most == resource.RLIM_INFINITY else min(DESCRIPTORS_MAX, most)
    if usual != resource.RLIM_INFINITY and usual < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return usual


class Guardians:
    """Starts guardians, from a server that is itself started at need, again when it has died."""

    def __init__(self) -> None:
        self._server: _Server | None = None
        self._turn = anyio.Lock()

    async def start(self, directory: Path, abandon: anyio.Event) -> GuardianProcess:
        """A guardian for the attempt in ``directory``, ready to start the child.

        Raises NotStarted when none comes up within half a minute, when it says why it cannot, or
        soon after ``abandon`` is set; StorageFailed at a limit of the user or the machine, and when
        what they are forked from cannot run.
        """
        why = "it died at once, again and again"
        for patience_s in PATIENCES_S:
            try:
                guardian = GuardianProcess()
            except OSError as error:
                raise _refused(error) from error
            asked: list[_Server] = []
            try:
                with anyio.move_on_after(patience_s) as patience:
                    if await self._comes_up(guardian, directory, abandon, asked):
                        return guardian
            except BaseException:
                guardian.leave()  # if it comes up after all, it ends at once: nobody is there
                raise
            guardian.leave()
            if patience.cancelled_caught:
                self._end(*asked)
                why = "no answer"
            else:
                await self._look_at(*asked)
        raise NotStarted(why)

    async def _comes_up(
        self,
        guardian: GuardianProcess,
        directory: Path,
        abandon: anyio.Event,
        asked: list[_Server],
    ) -> bool:
        """Have it started, and wait until it is; false when its server died over that.

        The server goes into ``asked``: whoever gives up on it must end that one, and not what
        others, who gave up at the same time, have started in its place.
        """
        try:
            async with self._turn:
                server = self._server = self._server or _Server()
                asked.append(server)
                await guardian.asked_of(server.door, directory)
        except BrokenPipeError:
            return False
        except OSError as error:
            raise _refused(error) from error
        return await guardian.greeted(abandon)

    async def _look_at(self, *servers: _Server) -> None:
        """After a failure be done with a server that has ended.

        Raises StorageFailed when it did so by itself, as the next one would: one that is killed
        can be replaced.
        """
        for server in servers:
            code = await server.ending()
            if code is not None:
                self._end(server)
            if code is not None and code > 0:
                raise _not_whole("what they are forked from cannot run")

    def _end(self, *servers: _Server) -> None:
        for server in servers:
            server.end()
            if self._server is server:
                self._server = None
