"""Where a daemon listens for requests: one socket beside the log, or one a daemon if many share it.

Nothing of a daemon itself is imported here, because every command that records looks for one.
"""

from __future__ import annotations

import glob
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from engine.store.location import Location

_ADDRESS_BYTES_MAX = 100  # of 108 on Linux and 104 elsewhere
_PROBE_S = 1.0


def control_path(location: Location, pid: int | None = None) -> Path:
    """The socket of a log's daemon; on a shared log that of one process, this one by default."""
    path = location.beside("control")
    if location.address is None:
        return path
    return path.with_name(f"{path.name}-{socket.gethostname()}-{pid or os.getpid()}")


def control_paths(location: Location) -> list[Path]:
    """The sockets of all daemons of a log on this machine, those of dead ones among them."""
    path = location.beside("control")
    if location.address is None:
        return [path] if _is_socket(path) else []
    name = f"{path.name}-{socket.gethostname()}-"
    found = path.parent.glob(f"{glob.escape(name)}*")
    return sorted(each for each in found if each.name.removeprefix(name).isdecimal())


def pid_of(path: Path) -> int:
    """Whose socket one of a shared log is."""
    return int(path.name.rpartition("-")[2])


def is_stale(path: Path) -> bool:
    """Whether a socket is there that nobody listens at."""
    if not _is_socket(path):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_S)
            with_address(path, probe.connect)
    except OSError as error:
        return isinstance(error, ConnectionRefusedError)
    return False


def _is_socket(path: Path) -> bool:
    """Where nothing can be looked at, as under too long a name, none can have been made."""
    try:
        return path.is_socket()
    except OSError:
        return False


def with_address(path: Path, use: Callable[[str], None]) -> None:
    """Call ``use`` with an address for ``path``, which may be longer than addresses may be."""
    address = str(path)
    if len(os.fsencode(address)) <= _ADDRESS_BYTES_MAX or sys.platform != "linux":
        use(address)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        use(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)
