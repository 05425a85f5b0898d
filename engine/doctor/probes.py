"""Probes: look at this machine, and change nothing but a scratch file."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib.metadata import packages_distributions
from pathlib import Path

from engine.executors.processes import ATTEMPT_MARKER
from engine.store.location import Location

FSYNCS = 15
_PAGE_BYTES = 4096
_OCTAL = re.compile(r"\\([0-7]{3})")


def versions() -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Of Python and of SQLite."""
    return tuple(sys.version_info[:3]), sqlite3.sqlite_version_info


def owners() -> list[str]:
    """Distributions that ship a package ``engine``."""
    return list(packages_distributions().get("engine", ()))


def file_system_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str | None:
    """The kind of file system that ``folder`` is on; None where that cannot be told."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    here = folder.resolve()
    for line in lines:
        fields, _, rest = line.partition(" - ")
        point = Path(_OCTAL.sub(lambda m: chr(int(m[1], 8)), fields.split()[4]))
        if here.is_relative_to(point) and (found is None or len(point.parts) >= found[0]):
            found = (len(point.parts), rest.split()[0])
    return found[1] if found else None


def fsync_ms(folder: Path) -> list[float]:
    """How long a page took to be on the disk, a few times; none when it could not be."""
    found: list[float] = []
    try:
        with tempfile.TemporaryFile(dir=folder, prefix=".runoff-doctor-") as file:
            for number in range(FSYNCS):
                began_ns = time.perf_counter_ns()
                os.pwrite(file.fileno(), bytes(_PAGE_BYTES), number * _PAGE_BYTES)
                os.fsync(file.fileno())
                found.append((time.perf_counter_ns() - began_ns) / 1e6)
    except OSError:
        return []
    return found


def free_bytes(folder: Path) -> int:
    """What this user may still write there."""
    return shutil.disk_usage(folder).free


def free_files(folder: Path) -> int | None:
    """How many more files this user may make there; None where that is not limited."""
    found = os.statvfs(folder)
    return found.f_favail if found.f_files else None


def names_of(file: Path) -> int:
    """How many names a file has (hard links); 0 without one."""
    try:
        return file.stat().st_nlink
    except OSError:
        return 0


def marked(proc: Path = Path("/proc")) -> Mapping[int, str] | None:
    """Processes that carry the mark of an attempt: pid to attempt id; None if none can be seen."""
    found: dict[int, str] = {}
    mark = f"{ATTEMPT_MARKER}=".encode()
    if sys.platform != "linux" or not (proc / "self").exists():
        return None
    for entry in proc.iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            for line in environment:
                if line.startswith(mark):
                    found[int(entry.name)] = line[len(mark) :].decode(errors="replace")
    return found


def folder_of(location: Location) -> Path:
    """The folder that the database is in, or would be: the nearest that there is."""
    folder = location.path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
