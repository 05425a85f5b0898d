"""Directories of attempts that are over: kept for a while for whoever wants to look, then removed.

All that they told is in the log and in its kept output by then; what is left are the environment
that the child was given, and its output as it was, secrets and all.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from engine.executors.command import attempt_directory


def names_of(files_root: Path, attempts: Iterable[str]) -> frozenset[str]:
    """What the directories of ``attempts`` are called."""
    return frozenset(attempt_directory(files_root, attempt).name for attempt in attempts)


def untouched_since(files_root: Path, since_s: float) -> list[str]:
    """Directories of attempts in which nothing was made since then, in seconds of the epoch.

    Whoever is at work there is not asked: a child may write for days into what it has made.
    """
    found = list[str]()
    try:
        entries = os.scandir(attempt_directory(files_root, "").parent)
    except OSError:
        return found  # there was no attempt yet
    with entries:
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    at_s = entry.stat(follow_symlinks=False).st_mtime
                    found += [entry.name] if at_s < since_s else []
            except OSError:
                continue  # somebody else has removed it
    return found


def remove(files_root: Path, names: Iterable[str]) -> None:
    """Remove these directories; what cannot be removed stays, and is tried again the next time."""
    above = attempt_directory(files_root, "").parent
    for name in names:
        shutil.rmtree(above / name, ignore_errors=True)
