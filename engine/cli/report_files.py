"""The files of a report: named for a moment, never written over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from engine.cli.render import clean
from engine.errors import StorageFailed, UsageProblem

STEM = "token_estimator_calibration_"
TRIES_MAX = 1000


def write_report(directory: Path, at_us: int, contents: Mapping[str, bytes]) -> list[Path]:
    """Write one file for each ending in ``contents``, named for the time ``at_us`` (Unix, UTC).

    Where the name is taken, the next free one with ``_2``, ``_3`` and so on.  Raises UsageProblem
    for a directory that cannot be made or written to, StorageFailed for a write that failed.
    """
    stem = STEM + datetime.fromtimestamp(at_us / 1e6, UTC).strftime("%Y%m%d_%H%M%S")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for count in range(1, TRIES_MAX):
            name = stem if count == 1 else f"{stem}_{count}"
            paths = [directory / f"{name}.{ending}" for ending in contents]
            if _claimed(paths):
                return _filled(dict(zip(paths, contents.values(), strict=True)))
    except OSError as error:
        raise UsageProblem(
            f"the report cannot be written to {clean(str(directory)[:200])}:"
            f" {clean(error.strerror or str(error))}.",
            remedy="name a directory that you may write to with --output-dir.",
        ) from None
    raise UsageProblem(
        f"{clean(str(directory)[:200])} holds {TRIES_MAX} reports of one second.",
        remedy="name another directory with --output-dir.",
    )


def _claimed(paths: list[Path]) -> bool:
    """Whether all of the names were free; they are taken now, or none is."""
    taken: list[Path] = []
    for path in paths:
        try:
            with path.open("xb"):
                taken.append(path)
        except FileExistsError:
            for mine in taken:
                mine.unlink()
            return False
    return True


def _filled(contents: Mapping[Path, bytes]) -> list[Path]:
    try:
        for path, data in contents.items():
            path.write_bytes(data)
    except OSError as error:
        for path in contents:
            with suppress(OSError):
                path.unlink()
        raise StorageFailed(
            f"the report could not be written: {clean(error.strerror or str(error))}.",
            remedy="make room, or name another directory with --output-dir.",
        ) from None
    return list(contents)
