"""Where a database is: its URL, and the files that stand beside it.

For ``backlog.db`` there are ``backlog.db-wal`` and ``-shm`` (SQLite's own), ``backlog.db-lock``
(who writes), ``backlog.db-anchors`` (positions and hashes, so that a cut tail shows) and the
folder ``backlog.db-files`` (stored output, attempt directories, workspaces).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from engine.errors import UsageProblem, WrongDatabase

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)$", re.DOTALL)
_PASSWORD = re.compile(r"(?<=://)([^:@/]*):([^@/]*)@")
_EXAMPLE = "give a URL such as sqlite:///backlog.db (four slashes for an absolute path)."


class Location(NamedTuple):
    """A parsed database URL.  ``url`` is fit to be shown: its password is masked."""

    url: str
    path: Path

    def beside(self, what: str) -> Path:
        """The file or folder ``what`` that belongs to this database."""
        return self.path.with_name(f"{self.path.name}-{what}")


def masked(url: str) -> str:
    """``url`` without its password or control characters, for showing."""
    shown = _PASSWORD.sub(r"\1:***@", url)
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)


def locate(url: str | None) -> Location:
    """Parse a database URL.

    Raises UsageProblem when there is none or it cannot be one; WrongDatabase for a kind of
    database that this installation has no driver for.
    """
    if not url:
        raise UsageProblem(
            "no database was named, and there is no default.",
            remedy="set DATABASE_URL or pass --database; " + _EXAMPLE,
        )
    match = _SCHEME.match(url)
    if not match:
        raise UsageProblem(f"{masked(url)!r} is not a database URL.", remedy=_EXAMPLE)
    scheme, rest = match.groups()
    if scheme.lower() not in ("sqlite", "sqlite+aiosqlite"):
        raise WrongDatabase(
            f"{masked(url)} is of the kind {scheme!r}; only sqlite is supported.", remedy=_EXAMPLE
        )
    return Location(masked(url), _path(rest.partition("?")[0], url))


def _path(rest: str, url: str) -> Path:
    if not rest.startswith("/") or rest.endswith("/") or rest == "/:memory:":
        raise UsageProblem(f"{masked(url)} names no file.", remedy=_EXAMPLE)
    text = unquote(rest[1:])
    if "\0" in text:
        raise UsageProblem(f"{masked(url)} has a NUL in its path.", remedy=_EXAMPLE)
    path = Path(text).absolute()
    if path.name in ("", ".", ".."):
        raise UsageProblem(f"{masked(url)} names no file.", remedy=_EXAMPLE)
    return path
