"""The disk: what a power cut must not take away has to be synced, the names of files as well."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
"""Some file systems sync no folders, and a folder may be closed to readers."""


def sync_folder(folder: Path) -> None:
    """Wait until the disk has the names that stand in ``folder``."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCED:
            raise
