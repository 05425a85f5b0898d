"""Checks: what was found on a machine, judged.  Pure; ``probes`` is what looks.

Every check is ``ok``, ``warn`` (it may hurt, or cannot be told) or ``fail`` (it will), and what is
not ok has a remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.amounts import counted

Verdict = Literal["ok", "warn", "fail"]

PYTHON_MIN = (3, 11)
SQLITE_MIN = (3, 35, 0)
"""Older ones lack what the schema is written in."""

SQLITE_RESET_FIXED = (3, 51, 3)
"""Before it, a checkpoint by two connections at once could lose a part of the log
(https://sqlite.org/wal.html, "the WAL-reset bug")."""

NETWORK = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "ncpfs"}
)
NETWORK_FUSE = ("fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.glusterfs")
FORGETFUL = frozenset({"tmpfs", "ramfs"})
FSYNC_SLOW_MS, FSYNC_UNTRUE_MS = 50.0, 0.01
SPACE_WARN_BYTES, SPACE_FAIL_BYTES = 1024**3, 64 * 1024**2
FILES_WARN, FILES_FAIL = 10_000, 100
CLOCK_SLACK_US = 1_000_000
_NAMES_SHOWN = 5


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check: what was found, and what to do about it unless it is ``ok``."""

    name: str
    verdict: Verdict
    found: str
    remedy: str | None = None


def python(version: tuple[int, ...]) -> Check:
    """Whether this Python is new enough."""
    text = ".".join(map(str, version[:3]))
    if version[:2] >= PYTHON_MIN:
        return Check(name="python", verdict="ok", found=text)
    remedy = "install Python 3.11 or newer."
    return Check(name="python", verdict="fail", found=text, remedy=remedy)


def sqlite(version: tuple[int, ...]) -> Check:
    """Whether this SQLite is known to be bad."""
    text = ".".join(map(str, version))
    if version < SQLITE_MIN:
        remedy = "use a Python that is built with SQLite 3.51.3 or newer."
        return Check(name="sqlite", verdict="fail", found=text, remedy=remedy)
    if version < SQLITE_RESET_FIXED:
        return Check(
            name="sqlite",
            verdict="warn",
            found=f"{text}, which can lose data when two connections checkpoint at once",
            remedy="runoff lets only its writer checkpoint; let no other program write to the log,"
            " or use SQLite 3.51.3 or newer.",
        )
    return Check(name="sqlite", verdict="ok", found=text)


def file_system(kind: str | None) -> Check:
    """Whether locks and fsync can be trusted where the database is."""
    name = "file_system"
    if kind is None:
        remedy = "make sure that it is a local disk."
        return Check(name=name, verdict="warn", found="cannot be told here", remedy=remedy)
    if kind in NETWORK or kind.startswith(NETWORK_FUSE):
        remedy = "move the log to a local disk: locks over a network do not keep writers apart."
        return Check(name=name, verdict="warn", found=f"{kind}, over a network", remedy=remedy)
    if kind in FORGETFUL:
        remedy = "move the log to a disk: this one is empty after a restart of the machine."
        return Check(name=name, verdict="warn", found=f"{kind}, in memory", remedy=remedy)
    return Check(name=name, verdict="ok", found=kind)


def fsync(durations_ms: Sequence[float]) -> Check:
    """How long a commit waits for the disk, by the median of a few; none when it failed."""
    if not durations_ms:
        remedy = "let this user create files beside the database, and see that there is room."
        return Check(name="fsync", verdict="fail", found="no file can be written", remedy=remedy)
    median_ms = sorted(durations_ms)[len(durations_ms) // 2]
    found = f"{median_ms:.2f} ms"
    if median_ms > FSYNC_SLOW_MS:
        remedy = "expect few commits a second; a local SSD takes a few milliseconds."
        return Check(name="fsync", verdict="warn", found=found, remedy=remedy)
    if median_ms < FSYNC_UNTRUE_MS:
        remedy = "this disk seems not to wait; a power cut may lose what was acknowledged."
        return Check(name="fsync", verdict="warn", found=found, remedy=remedy)
    return Check(name="fsync", verdict="ok", found=found)


def free_space(free_bytes: int, free_files: int | None = None) -> Check:
    """Whether there is room for the log to grow.

    ``free_files``: how many more files the file system takes; None where it has no such limit.
    """
    found = f"{free_bytes / 1024**3:.1f} GiB"
    if free_files is not None and free_files < FILES_WARN:
        found += f", but room for {counted(free_files, 'file')} more only (inodes, `df -i`)"
        remedy = "remove small files there, or move the log: an attempt takes up to six files."
        scarce: Verdict = "fail" if free_files < FILES_FAIL else "warn"
        return Check(name="free_space", verdict=scarce, found=found, remedy=remedy)
    if free_bytes >= SPACE_WARN_BYTES:
        return Check(name="free_space", verdict="ok", found=found)
    verdict: Verdict = "fail" if free_bytes < SPACE_FAIL_BYTES else "warn"
    remedy = "make room; old folders in -files/attempts may go while no attempt is open."
    return Check(name="free_space", verdict=verdict, found=found, remedy=remedy)


def clock(now_us: int, newest_us: int) -> Check:
    """Whether the clock stands behind what the log says it was already."""
    behind_us = newest_us - now_us
    if behind_us <= CLOCK_SLACK_US:
        return Check(name="clock", verdict="ok", found="not behind the log")
    return Check(
        name="clock",
        verdict="warn",
        found=f"{behind_us / 1e6:.0f} s behind the newest event",
        remedy="set it; until it has caught up, the log's own time goes half as fast, and pauses"
        " last up to twice as long.",
    )


def distributions(owners: Sequence[str]) -> Check:
    """Whether another distribution also ships a package ``engine``, which may shadow this one."""
    others = sorted(set(owners) - {"runoff"})
    if not others:
        return Check(name="distributions", verdict="ok", found="none but runoff ships `engine`")
    return Check(
        name="distributions",
        verdict="warn",
        found=f"{', '.join(others)} also ships a package `engine`",
        remedy="install runoff into an environment of its own (pipx, or `uv tool install`).",
    )


def writer(holder: str | None, *, is_shared: bool = False) -> Check:
    """Who holds the log now; empty for nobody.  ``is_shared``: several may write it at once."""
    if is_shared:
        return Check(name="writer", verdict="ok", found="as many as like, each under a lease")
    if holder is None:
        remedy = "look for a running drain or daemon by hand."
        return Check(name="writer", verdict="warn", found="cannot be told here", remedy=remedy)
    return Check(name="writer", verdict="ok", found=holder or "nobody")


def server(off: Sequence[str] | None) -> Check:
    """Whether a server keeps what it acknowledged.

    ``off``: settings that it needs for that and has not; None when the log is in a file.
    """
    if off is None:
        return Check(name="server", verdict="ok", found="none, the log is a file")
    if not off:
        return Check(name="server", verdict="ok", found="keeps what it acknowledges")
    return Check(
        name="server",
        verdict="warn",
        found=f"{' and '.join(off)} off: a crash of its machine may lose what was acknowledged",
        remedy="set it to on in the server's postgresql.conf, and reload that.",
    )


class Left(msgspec.Struct, frozen=True, kw_only=True):
    """A process that carries the mark of an attempt of this log."""

    pid: int
    attempt_id: str
    is_open: bool


def processes(found: Sequence[Left] | None, *, held: bool) -> Check:
    """Whether processes of attempts are left that no engine sees to.

    ``found``: None where no process can be looked at.
    """
    name = "processes"
    if found is None:
        remedy = "look for them by hand (`ps`); mount /proc on Linux: nothing is drained without."
        return Check(name=name, verdict="warn", found="cannot be told here", remedy=remedy)
    stray = [each for each in found if not each.is_open]
    if stray:
        pids = ", ".join(str(each.pid) for each in stray[:_NAMES_SHOWN])
        return Check(
            name=name,
            verdict="fail",
            found=f"{len(stray)} of attempts that have ended: {pids}",
            remedy="end them (`kill PID`) and report this: nothing of an attempt may outlive it.",
        )
    if found and not held:
        remedy = "start the drain or daemon again: it takes them over, or ends them."
        text = f"{len(found)} of open attempts that no engine sees to"
        return Check(name=name, verdict="warn", found=text, remedy=remedy)
    return Check(name=name, verdict="ok", found=f"{len(found)} of running attempts")


def files(*, has_stale_socket: bool, names: int = 1) -> Check:
    """Whether a dead engine left a file behind that still looks alive.

    ``names``: how many the database file has.
    """
    if names > 1:
        remedy = "remove the other names (`find -samefile`): each has a write-ahead log of its own."
        found = f"the database has {names} names (hard links)"
        return Check(name="files", verdict="fail", found=found, remedy=remedy)
    if not has_stale_socket:
        return Check(name="files", verdict="ok", found="nothing left by a dead engine")
    remedy = "nothing needs to be done: the next daemon replaces it."
    found = "the control socket of a daemon that has died"
    return Check(name="files", verdict="warn", found=found, remedy=remedy)


def unreadable(problem: str, remedy: str) -> Check:
    """A log that cannot be looked at."""
    return Check(name="log", verdict="fail", found=problem, remedy=remedy)


def log(events: int, open_attempts: int) -> Check:
    """A log that can be looked at."""
    return Check(
        name="log",
        verdict="ok",
        found=f"{counted(events, 'event')}, {counted(open_attempts, 'open attempt')}",
    )
