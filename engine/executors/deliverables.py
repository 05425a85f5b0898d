"""Whether the files that a phase had to produce are there, and stay there if the power fails."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from engine.disk import sync_folder
from engine.events import Deliverable
from engine.executors.untrusted import opened, read_at_most

CONTENT_BYTES_MAX = 1024 * 1024


def missing_deliverables(workspace: Path, wanted: Iterable[Deliverable]) -> tuple[str, ...]:
    """What is not there: a path, or ``path: lacks name`` for the first name it does not contain.

    What is there is synced, since the event that will say so is durable.
    Only regular files inside the workspace count.  A path that leads out of it, by its own words
    or by links, is missing, whatever lies there.  Names are looked for in the first 1 MiB.
    """
    found = (_lacking(workspace, deliverable) for deliverable in wanted)
    return tuple(lack for lack in found if lack is not None)


def _lacking(workspace: Path, deliverable: Deliverable) -> str | None:
    try:
        path = _inside(workspace, deliverable.path)
        content = read_at_most(path, CONTENT_BYTES_MAX)
    except (OSError, ValueError, RuntimeError):
        return deliverable.path
    for name in deliverable.must_contain:
        if name.encode("utf-8", "surrogatepass") not in content:
            return f"{deliverable.path}: lacks {name}"
    try:
        _sync(workspace, path)
    except OSError:
        return f"{deliverable.path}: cannot be written to the disk"
    return None


def _sync(workspace: Path, path: Path) -> None:
    """Wait until the disk has a file and the names that lead to it."""
    with opened(path) as descriptor:
        os.fsync(descriptor)
    depth = len(path.relative_to(workspace.resolve()).parts)
    for folder in path.parents[:depth]:
        sync_folder(folder)


def _inside(workspace: Path, path: str) -> Path:
    """The real place of ``path``; raises ValueError when it is not below the workspace."""
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(path)
    real = (workspace / relative).resolve()
    real.relative_to(workspace.resolve())
    return real
