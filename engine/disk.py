"""The disk: what a power cut must not take away has to be synced, the names of files as well."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engine.errors import StorageFailed

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


def open_own(path: Path, mode: int) -> int:
    """A descriptor to read and write the file at ``path``, which is made where there is none.

    Raises StorageFailed for a link: what is written over would be a file of somebody else's, to
    which whoever may write to the folder could have it lead.  OSError otherwise.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, mode)
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise _is_a_link(path) from None
        raise
    if os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise _is_a_link(path)
    return descriptor


def _is_a_link(path: Path) -> StorageFailed:
    return StorageFailed(
        f"{path} is a link to another file, which would be written over.",
        remedy="remove that link, then start again.",
    )
