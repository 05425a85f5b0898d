"""Wires: plain sockets with bounds on bytes, time and how many there are at once."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import anyio

from engine.daemon.sockets import with_address
from engine.errors import StorageFailed

CONNECTIONS_MAX = 32
BACKLOG = 1024
"""So many may stand at a door and be let in later; the kernel may allow fewer."""

_NO_FILES_PAUSE_S = 0.2
_CHUNK_BYTES = 64 * 1024


class TooLong(Exception):
    """The other side sent more than it may before the end that was waited for."""


class Places:
    """Room for so many connections at once.

    When all places are taken and somebody comes, whoever has kept us waiting longest for a request
    has to go: a crowd that says nothing keeps nobody out.
    """

    def __init__(self) -> None:
        self._free = anyio.Semaphore(CONNECTIONS_MAX)
        self._silent: dict[anyio.CancelScope, None] = {}
        self._is_wanted = False

    async def take(self) -> None:
        """Wait for a place; for one caller at a time."""
        self._is_wanted = True
        self._make_room()
        await self._free.acquire()
        self._is_wanted = False

    def give_back(self) -> None:
        """One is free again."""
        self._free.release()

    @contextmanager
    def awaiting(self, connection: anyio.CancelScope) -> Generator[None]:
        """While the block runs, ``connection`` keeps us waiting; cancelled, it has to go."""
        self._silent[connection] = None
        self._make_room()
        try:
            yield
        finally:
            self._silent.pop(connection, None)

    def _make_room(self) -> None:
        if self._is_wanted and not self._free.value and self._silent:
            self._is_wanted = False
            longest = next(iter(self._silent))
            longest.cancel()


class Wire:
    """One connection.  While it waits for the other side to say something, it is ``awaiting``."""

    def __init__(
        self, connection: socket.socket, awaiting: Callable[[], AbstractContextManager[None]]
    ) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._awaiting = awaiting
        self._data = bytearray()

    async def until(self, mark: bytes, bytes_max: int) -> bytes:
        """Everything up to and with ``mark``; empty when the other side is done before it.

        Raises TooLong when ``bytes_max`` bytes hold no mark.
        """
        if mark in self._data:
            return await self._until(mark, bytes_max)
        with self._awaiting():
            return await self._until(mark, bytes_max)

    async def _until(self, mark: bytes, bytes_max: int) -> bytes:
        searched = 0
        while (found := self._data.find(mark, max(0, searched - len(mark) + 1))) < 0:
            searched = len(self._data)
            if searched >= bytes_max:
                raise TooLong
            chunk = await self._receive()
            if not chunk:
                return b""
            self._data += chunk
        end = found + len(mark)
        if end > bytes_max:
            raise TooLong
        taken = bytes(self._data[:end])
        del self._data[:end]
        return taken

    async def _receive(self) -> bytes:
        while True:
            try:
                return self._socket.recv(_CHUNK_BYTES)
            except BlockingIOError:
                await anyio.wait_readable(self._socket)
            except ConnectionError:
                return b""

    async def send(self, data: bytes) -> None:
        """All of ``data``; quietly nothing more once the other side is gone."""
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except ConnectionError:
                return

    @property
    def user(self) -> int | None:
        """The numeric user at the other end, None where that cannot be told."""
        if sys.platform != "linux" or self._socket.family != socket.AF_UNIX:
            return None
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("3i", credentials)[1])


async def serve(
    listener: socket.socket, attend: Callable[[Wire], Awaitable[None]], *, seconds_max: float
) -> None:
    """Attend to connections side by side, for ever; each is over after ``seconds_max``."""
    places = Places()

    async def one(connection: socket.socket) -> None:
        try:
            with anyio.move_on_after(seconds_max) as limit, suppress(OSError):
                await attend(Wire(connection, lambda: places.awaiting(limit)))
        finally:
            connection.close()
            places.give_back()

    async with anyio.create_task_group() as group:
        while True:
            await anyio.wait_readable(listener)
            await places.take()
            group.start_soon(one, await _accepted(listener))


async def _accepted(listener: socket.socket) -> socket.socket:
    while True:
        await anyio.wait_readable(listener)
        try:
            return listener.accept()[0]
        except (BlockingIOError, ConnectionError):
            continue  # it is gone again
        except OSError:
            await anyio.sleep(_NO_FILES_PAUSE_S)


@contextmanager
def listening(path: Path) -> Generator[socket.socket]:
    """A socket at ``path``, for its owner alone; what a dead one left there is replaced.

    Only for whom nobody alive can stand in the way of: for the holder of the lock beside it, or at
    a name of one's own.  It is gone at the end of the block, unless another has replaced it.
    Raises StorageFailed when it cannot be made.
    """
    listener = unix_listener(path)
    ours = _identity(path)
    try:
        yield listener
    finally:
        if _identity(path) == ours:
            path.unlink(missing_ok=True)
        listener.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def unix_listener(path: Path) -> socket.socket:
    """The socket of ``listening``, which stays at ``path`` when it is closed."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(0, "something else stands there")
            path.unlink()
        os.fchmod(listener.fileno(), 0o600)  # on Linux the file is made with these
        with_address(path, listener.bind)
        path.chmod(0o600)
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StorageFailed(
            f"the control socket {path} cannot be made: {error.strerror or error}.",
            remedy=_remedy_for(error),
        ) from error
    return listener


def _remedy_for(error: OSError) -> str:
    if error.errno is None:  # Python's own, of an address that has no room for the name
        return "give the database a shorter name; one of 75 bytes fits in any folder."
    if error.errno in (errno.EPERM, errno.EOPNOTSUPP):
        return "put the log on a file system that has sockets, which FAT has not."
    return "check the folder's permissions; move what stands in its place."
