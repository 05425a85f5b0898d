"""Which names a power cut would leave."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="names of descriptors are in /proc"
)


def names_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Grows with each file that is synced, and by what stands in each folder that is."""
    names, sync = set[Path](), os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        names.update(path.iterdir() if is_folder else [path.with_name(f"{path.name} itself")])

    monkeypatch.setattr(os, "fsync", noted)
    return names
