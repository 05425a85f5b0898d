"""Errors a person can act on: the problem, then the remedy, and an exit code for scripts.

RunoffError                exit 1    what was asked could not be done
├── UsageProblem           exit 2    the request itself is wrong
├── WrongDatabase          exit 3    not the database you meant
├── LimitReached           exit 4    stopped by a limit, work left
├── LogUnreadable          exit 5    the log is damaged, or newer than this program
│   ├── UnknownEvent       exit 5    one event is of a type or version this program lacks
│   └── LogWentBack        exit 5    the server lost what it had acknowledged
├── AuditDifference        exit 6    an audit found a difference
├── StorageFailed          exit 74   the disk or database refused a write or a read
│   ├── DiskFull           exit 74   because there is no room
│   └── ServerLost         exit 74   the database server cannot be reached, or no longer
├── LogHeld                exit 75   another process holds the log, or it stayed locked
└── Fenced                 exit 76   a newer writer has taken over

Two more never leave the writer's callers:

AppendRefused              exit 1    the log's own rules refused the append
├── WrongVersion           exit 1    the stream moved on since the caller looked
└── CommandReused          exit 1    the command id was used before, for something else
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from errno import (
    EACCES,
    EAGAIN,
    EDQUOT,
    EIO,
    EMFILE,
    ENFILE,
    ENOBUFS,
    ENOMEM,
    ENOSPC,
    EPERM,
    ESTALE,
    ETOOMANYREFS,
)
from typing import ClassVar, cast

NO_FILES_LEFT = frozenset({EMFILE, ENFILE, ENOMEM})
NOTHING_LEFT = NO_FILES_LEFT | {EAGAIN, ENOBUFS, ETOOMANYREFS}
"""What an operating system says at a limit of the user or the machine."""

NO_THREAD = "can't start new thread"
"""What Python says of it, in an error that has no class of its own."""


class RunoffError(Exception):
    """What went wrong, then what to do about it.

    Both halves are required, so that no raise site can forget the second.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}\n  try: {self.remedy}"


class UsageProblem(RunoffError):
    """The request itself is wrong: a flag, a file or an id that cannot be meant."""

    exit_code = 2


class WrongDatabase(RunoffError):
    """The database is missing, foreign, empty, or otherwise not the one the caller means."""

    exit_code = 3

    @classmethod
    def empty(cls, url: str, *, runs: int, phases: int) -> WrongDatabase:
        """The guardrail of T2: nothing in it, so probably the wrong one."""
        return cls(
            f"{url} holds {runs} runs and {phases} phases, so there is nothing to work on.",
            remedy="check DATABASE_URL; fill it with `runoff seed` or `runoff import`; or pass"
            " --allow-empty-db if you mean this one.",
        )


class LimitReached(RunoffError):
    """Stopped on purpose with work left."""

    exit_code = 4


class LogUnreadable(RunoffError):
    """The log cannot be read to its end: damaged, or written by a newer program."""

    exit_code = 5


class UnknownEvent(LogUnreadable):
    """One event is of a type or version this program does not know; it stops there."""


class LogWentBack(LogUnreadable):
    """The log does not hold what was seen of it: an older copy, or another log, is in its place."""

    @classmethod
    def behind(cls, pos: int) -> LogWentBack:
        """What stood at ``pos`` is not there, or something else is."""
        return cls(
            f"the log went back: it does not hold any more what was seen of it at position {pos}.",
            remedy="put the newest copy back before any engine starts; see how to back up and"
            " restore a log.",
        )

    @classmethod
    def replaced(cls, path: str) -> LogWentBack:
        """Another file bears the name, or none; what is appended there is not seen here."""
        return cls(
            f"the log was replaced or removed: {path} is not the file any more that was opened.",
            remedy="read it again under its name; `runoff verify` says whether what is there now"
            " is whole.",
        )


class AuditDifference(RunoffError):
    """An audit found the record and its recomputation to differ."""

    exit_code = 6


class StorageFailed(RunoffError):
    """A write or read failed below us.  Nothing acknowledged is lost; the process stops."""

    exit_code = 74


class DiskFull(StorageFailed):
    """There is no room left.  Nothing acknowledged is lost; what a reserve has room for is kept."""

    @classmethod
    def at(cls, what: str) -> DiskFull:
        """``what`` could not be written for want of room."""
        return cls(
            f"the disk is full: {what} could not be written.",
            remedy="free space on that disk, then start again; what was acknowledged is safe.",
        )


def is_full(error: BaseException) -> bool:
    """Whether a full disk is among what went wrong."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return any(map(is_full, group.exceptions))
    return isinstance(error, DiskFull)


def not_written(what: str, error: OSError) -> StorageFailed:
    """``what`` could not be written, because of ``error``."""
    if error.errno in (ENOSPC, EDQUOT):
        return DiskFull.at(what)
    if error.errno in NO_FILES_LEFT:
        return nothing_left(error.strerror or str(error))
    return StorageFailed(
        f"cannot write {what}: {error.strerror}.",
        remedy="check permissions and the disk, then start again; what was acknowledged is safe.",
    )


def failed_below(error: OSError) -> StorageFailed:
    """What nobody nearer to it had a better word for."""
    if error.errno in NOTHING_LEFT:
        return nothing_left(error.strerror or str(error))
    what = repr(error.filename) if error.filename is not None else "a file or a stream"
    return StorageFailed(
        f"{what} could not be used: {error.strerror or error}.",
        remedy="check permissions and free space there, then run this again.",
    )


def nothing_left(what: str) -> StorageFailed:
    """The machine gave no further process, thread, file or memory: ``what`` it said."""
    return StorageFailed(
        f"the limits of this user or machine are reached: {what}.",
        remedy="raise them (`ulimit -a`) or end other programs; what was acknowledged is safe.",
    )


def raise_at_a_limit(error: OSError) -> None:
    """Raise StorageFailed unless we were able to look: at a limit an error says nothing else."""
    if error.errno in NO_FILES_LEFT:
        raise nothing_left(error.strerror or str(error)) from error


def raise_if_below(what: str, error: OSError) -> None:
    """Raise StorageFailed where a limit or the disk, and not what stands there, forbids to read."""
    raise_at_a_limit(error)
    if error.errno in (EIO, ESTALE):
        raise StorageFailed(
            f"cannot read {what}: {error.strerror}.",
            remedy="check the disk, then run this again; nothing was changed.",
        ) from error


def limit_met(error: BaseException) -> StorageFailed | None:
    """What to say where the machine gave no more of something, however that was raised, or None."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return next(filter(None, map(limit_met, group.exceptions)), None)
    if isinstance(error, MemoryError):
        return nothing_left("out of memory")
    if isinstance(error, RuntimeError) and str(error) == NO_THREAD:
        return nothing_left(NO_THREAD)
    if isinstance(error, OSError) and error.errno in NO_FILES_LEFT:
        return nothing_left(error.strerror or str(error))
    return None


def raise_if_unseen(what: str, error: OSError) -> None:
    """Raise StorageFailed where ``what`` is, or may be, there, and cannot be looked at by us."""
    raise_if_below(what, error)
    if error.errno in (EACCES, EPERM):
        raise StorageFailed(
            f"cannot read {what}: {error.strerror}.",
            remedy="run this as the user who drains, or let this one read it.",
        ) from error


@contextmanager
def limits_told() -> Generator[None, None, None]:
    """A limit of the user or the machine as StorageFailed: it is no fault of the work at hand."""
    try:
        yield
    except Exception as error:
        if (limit := limit_met(error)) is None:
            raise
        raise limit from error


class ServerLost(StorageFailed):
    """The database server cannot be reached.  It may be there again later."""


class LogHeld(RunoffError):
    """Another process holds the log; its holder is named."""

    exit_code = 75


class Fenced(RunoffError):
    """A writer of a later epoch has taken over; this one may not append any more."""

    exit_code = 76

    @classmethod
    def overtaken(cls) -> Fenced:
        """Another writer stands where this one meant to append."""
        return cls(
            "another writer has appended to this log.", remedy="start again; nothing was lost."
        )


class AppendRefused(RunoffError):
    """The log's own rules refused the append; nothing was written."""


class WrongVersion(AppendRefused):
    """The stream is not at the version that the caller expected."""


class CommandReused(AppendRefused):
    """A command id was used before with other contents."""
