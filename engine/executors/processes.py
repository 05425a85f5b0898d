"""Proof of life and death: processes are told apart by pid and start, never by pid alone.

Where no further file may be opened there is no proof: all of this then raises StorageFailed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from errno import ESRCH
from functools import cache
from pathlib import Path
from threading import Lock

from engine.errors import StorageFailed, raise_at_a_limit
from engine.executors.port import KILL_BUDGET_S

ATTEMPT_MARKER = "RUNOFF_ATTEMPT_ID"
_MARK = f"{ATTEMPT_MARKER}=".encode()
PROC = Path("/proc")
_PAUSE_S = 0.01
LINUX = sys.platform == "linux"
LOCK_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


@cache
def boot_id() -> str:
    """A name for this boot of the machine; nothing that ran under another one is alive.

    Raises StorageFailed where the system shows no processes.
    """
    if LINUX:
        try:
            return (PROC / "sys/kernel/random/boot_id").read_text().strip()
        except FileNotFoundError:
            raise StorageFailed(
                f"{PROC} is not there, and without it no process can be told from another.",
                remedy=f"mount it (`mount -t proc proc {PROC}`), then run this again.",
            ) from None
    command = ["/usr/sbin/sysctl", "-n", "kern.boottime"]
    return subprocess.run(command, capture_output=True, check=False, text=True).stdout.strip()  # noqa: S603


def process_start_ticks(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None when it is dead or unknowable."""
    try:
        fields = (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError as error:
        raise_at_a_limit(error)
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, start_ticks: int | None) -> bool:
    """Whether this very process still runs; a zombie does not.

    Without ``start_ticks`` (systems that do not tell them) the pid alone has to do.
    """
    if start_ticks is not None:
        return process_start_ticks(pid) == start_ticks
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not LINUX or process_start_ticks(pid) is not None


def handle_of(pid: int, start_ticks: int | None) -> int | None:
    """A descriptor that can be read once this very process has ended; the caller closes it.

    None when it is dead, and where there are no such handles.
    """
    if not LINUX or start_ticks is None:
        return None
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        raise_at_a_limit(error)
        return None
    if is_alive(pid, start_ticks):
        return handle
    os.close(handle)
    return None


def is_locked(path: Path) -> bool:
    """Whether a living process holds the POSIX lock on ``path``, in whatever container it is.

    A process's own locks do not show, and asking would lose them: do not ask about those.
    """
    try:
        # A child may have put anything in its place, even a link to a file that we have locked.
        descriptor = os.open(path, LOCK_FLAGS)
    except OSError as error:
        raise_at_a_limit(error)
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return isinstance(error, BlockingIOError | PermissionError)
    finally:
        os.close(descriptor)
    return False


class Census:
    """Which processes carry which mark, by a look that began after it was asked for.

    Those who ask while another look is under way share the next one: after a crash hundreds ask
    at once, each of whom would look at all processes of the machine.
    """

    def __init__(self, look: Callable[[], Mapping[bytes, list[int]]]) -> None:
        self._look = look
        self._turn = Lock()
        self._began_ns = -1
        self._found: Mapping[bytes, list[int]] = {}

    def carriers(self, marker: bytes, asked_ns: int) -> list[int]:
        """The pids of those that carried ``marker`` at a moment behind ``asked_ns``."""
        with self._turn:
            if self._began_ns <= asked_ns:
                began_ns = time.monotonic_ns()
                self._found = self._look()
                self._began_ns = began_ns
            return self._found.get(marker, [])


def _marks() -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = {}
    for pid in all_pids():
        for variable in _environment(pid):
            if variable.startswith(_MARK):
                found.setdefault(variable, []).append(pid)
    return found


_census = Census(_marks)


def marked_processes(attempt_id: str) -> list[int]:
    """The pids of living processes that carry the attempt's id in their environment."""
    marker = _MARK + attempt_id.encode()
    asked_ns = time.monotonic_ns()
    carriers = _census.carriers(marker, asked_ns) if LINUX else _carriers_by_ps(marker)
    return [pid for pid in carriers if pid != os.getpid()]


def all_pids() -> list[int]:
    """The pids of all processes, by ``/proc``."""
    try:
        return [int(name) for name in os.listdir(PROC) if name.isdigit()]  # noqa: PTH208  quicker
    except OSError as error:
        raise_at_a_limit(error)
        raise


def _carries(pid: int, marker: bytes) -> bool:
    return marker in _environment(pid)


def _environment(pid: int) -> list[bytes]:
    """The variables of a process; none when it is gone, dead or another user's."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123  of every process there is
            return file.read().split(b"\0")
    except OSError as error:
        raise_at_a_limit(error)
        return []


def _carriers_by_ps(marker: bytes) -> Iterator[int]:
    command = ["/bin/ps", "-A", "-E", "-ww", "-o", "pid=,command="]
    listing = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603
    for line in listing.splitlines():
        if marker in line.split():
            yield int(line.split()[0])


def end_marked_processes(attempt_id: str, budget_s: float = KILL_BUDGET_S) -> int:
    """Kill whatever still carries the attempt's id; the number of processes killed.

    For attempts whose guardian is gone.  Repeats until nothing is found or ``budget_s`` is used
    up, because the doomed may be forking; blocks that long at most, so call it in a thread.
    """
    marker = _MARK + attempt_id.encode()
    killed: set[int] = set()
    until_s = time.monotonic() + budget_s
    while found := marked_processes(attempt_id):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            killed.update(
                pid for pid in found if strike(pid, lambda pid: _carries(pid, marker), number)
            )
        if time.monotonic() >= until_s:
            break
        time.sleep(_PAUSE_S)
    return len(killed)


def strike(pid: int, is_meant: Callable[[int], bool], number: signal.Signals) -> bool:
    """Signal the process if it still is the one that is meant; a handle keeps its pid from reuse.

    Whether it was sent.
    """
    if not LINUX:
        return _sent(lambda: os.kill(pid, number))
    try:
        handle = os.pidfd_open(pid)
    except OSError as error:
        raise_at_a_limit(error)
        # Where handles are forbidden, as in some containers, the pid has to do.
        is_gone = error.errno == ESRCH
        return not is_gone and is_meant(pid) and _sent(lambda: os.kill(pid, number))
    try:
        return is_meant(pid) and _sent(lambda: signal.pidfd_send_signal(handle, number))
    finally:
        os.close(handle)


def _sent(send: Callable[[], None]) -> bool:
    try:
        send()
    except OSError:
        return False
    return True


def end_process(pid: int, start_ticks: int | None, number: signal.Signals) -> bool:
    """Signal a process only if it is the very one that was meant; whether it was sent."""
    return is_alive(pid, start_ticks) and _sent(lambda: os.kill(pid, number))
