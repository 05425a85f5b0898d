"""What a guardian says to its engine and hears from it, over one socket: its input and output."""

import os
import sys

from engine.executors.guarding.child import NO_FILES_LEFT
from engine.executors.guarding.files import DISK_FAILS, DISK_FULL, quietly, read

LINUX = sys.platform == "linux"
TROUBLES = (("L", NO_FILES_LEFT), ("F", DISK_FULL), ("D", DISK_FAILS))


def heard(bytes_max: int) -> bytes:
    """What the engine says; nothing when it is gone, even if it went without listening."""
    try:
        return os.read(0, bytes_max)
    except ConnectionResetError:
        return b""


def called_to() -> str:
    """The directory of the attempt, as the engine says it; ends this process without one."""
    said = b""
    while not said.endswith(b"\0"):
        more = heard(4096)
        if not more:
            os._exit(0)
        said += more
    return os.fsdecode(said[:-1])


def start_ticks() -> str:
    """When this process began, in clock ticks since boot, or ``null`` where nobody tells."""
    if not LINUX:
        return "null"
    return read("/proc/self/stat").rpartition(")")[2].split()[19]


def tell_trouble(what: str, error: OSError) -> None:
    """Say what could not be done, and whether a limit, a full disk or a failing one forbade it."""
    word = next((word for word, numbers in TROUBLES if error.errno in numbers), "X")
    place = "" if error.filename is None else f": {error.filename}"
    said = f"{word} cannot {what}: {error.strerror}{place}\n"
    quietly(os.write, 1, said.encode("utf-8", "replace"))
