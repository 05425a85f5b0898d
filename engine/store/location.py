"""Where a database is: its URL, and the files that stand beside it.

For ``backlog.db`` there are ``backlog.db-wal`` and ``-shm`` (SQLite's own), ``backlog.db-lock``
(who writes), ``backlog.db-anchors`` (positions and hashes, so that a cut tail shows) and the
folder ``backlog.db-files`` (stored output, attempt directories, workspaces).

A database on a server has no file to stand beside; its anchors and its folder are in the folder
that ``RUNOFF_FILES`` names, under the server's name (docs/adr/0033).
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit, urlunsplit

from engine.errors import UsageProblem, WrongDatabase

FILES_VARIABLE = "RUNOFF_FILES"
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://(.*)$", re.DOTALL)
# To the last @, because people write passwords with @ and / in them, and those must not show.
# A user may have a / as well, as those of Windows domains do.
_PASSWORD = re.compile(r"(?<=://)([^:@]*):(.*)@", re.DOTALL)
_PASSWORD_OPTION = re.compile(r"([?&\s](?:ssl)?password=)[^&]*", re.IGNORECASE)
_CANNOT_HOLD_A_PASSWORD = re.compile(r"[^:@=]*")
_EXAMPLE = (
    "give a URL such as sqlite:///backlog.db (four slashes for an absolute path)"
    " or postgresql://user@host:5432/name."
)
_POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg")
_POSTGRES_PORT = 5432
_NETLOC = re.compile(r"[^/?#]*")
_PORT = re.compile(
    r"postgresql://(?:[^/?#]*@)?(?:[^/?#@]*\])?[^/?#@\[\]]*:([-+]?[0-9]+)(?:[/?#][^@]*)?"
)
"""No @ behind it, or it might be the beginning of a password with a /."""
_SETTING = re.compile(r"[^=]+=.*", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9._-]{1,200}")


class Address:
    """How to reach a server, password and all; shows itself without."""

    __slots__ = ("_dsn",)

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def reveal(self) -> str:
        """The whole of it, for the driver alone."""
        return self._dsn

    def each(self) -> list[Address]:
        """The same with one server in each, in their order, where several are named.

        They stay together where one is preferred to another, or gets its port from the environment.
        """
        parts = taken_apart(self._dsn)
        user, at, hosts = parts.netloc.rpartition("@")
        if "prefer-standby" in parts.query or "," in os.environ.get("PGPORT", ""):
            return [self]
        netlocs = (f"{user}{at}{host}" for host in hosts.split(","))
        return [Address(urlunsplit(parts._replace(netloc=netloc))) for netloc in netlocs]

    def __repr__(self) -> str:
        return masked(self._dsn)


class Location(NamedTuple):
    """A parsed database URL.  ``url`` is fit to be shown: its password is masked.

    ``path``: the database file, or for a server the name that files beside it begin with.
    ``address``: the server's, None for a file.  ``link``: the symbolic link that was named instead
    of the file, None for none; whoever comes by it has to find the same lock and the same anchors.
    """

    url: str
    path: Path
    address: Address | None = None
    link: Path | None = None

    @property
    def name(self) -> str:
        """What to call it in a sentence."""
        return self.path.name

    @property
    def shown(self) -> str:
        """The file, for an error; as `ls` shows it where it was named by a link."""
        return str(self.path) if self.link is None else f"{self.link} -> {self.path}"

    @property
    def is_shared(self) -> bool:
        """Whether several engines may write it: it is a server's, or a copy of a server's log."""
        return not self.url.startswith("sqlite")

    def beside(self, what: str) -> Path:
        """The file or folder ``what`` that belongs to this database."""
        return self.path.with_name(f"{self.path.name}-{what}")


def taken_apart(dsn: str) -> SplitResult:
    """The parts of a server's URL, which may name several hosts.

    Newer versions of ``urlsplit`` refuse an address in brackets behind a comma; each host is looked
    at by itself.
    """
    begin, separator, rest = dsn.partition("://")
    netloc = _NETLOC.match(rest)
    assert netloc is not None, "it matches nothing, too"
    parts = urlsplit(f"{begin}{separator}{rest[netloc.end() :]}")
    return parts._replace(netloc=netloc[0])


def masked(url: str) -> str:
    """``url`` without its password or control characters, for showing."""
    return _shown(_PASSWORD.sub(r"\1:***@", url))


def _shown(url: str) -> str:
    shown = _PASSWORD_OPTION.sub(r"\1***", url)
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
        # Nobody knows where the password is in what is no URL.
        shown = f"{url!r}" if _CANNOT_HOLD_A_PASSWORD.fullmatch(url) else "what was named"
        raise UsageProblem(f"{shown} is not a database URL.", remedy=_EXAMPLE)
    scheme, rest = match.groups()
    if scheme.lower() in _POSTGRES:
        return _server(f"postgresql://{rest}")
    if scheme.lower() not in ("sqlite", "sqlite+aiosqlite"):
        raise WrongDatabase(
            f"{masked(url)} is of the kind {scheme!r}; only sqlite and postgresql are supported.",
            remedy=_EXAMPLE,
        )
    named = _path(rest.partition("?")[0], url)
    is_link = os.path.islink(named)  # noqa: PTH114  the method raises where none may be looked for
    path = _absolute(Path(os.path.realpath(named))) if is_link else named
    # A file has no user, and may have : and @ in its name.
    return Location(_shown(url), path, link=named if path != named else None)


def _path(rest: str, url: str) -> Path:
    if not rest.startswith("/") or rest.endswith("/") or rest == "/:memory:":
        raise UsageProblem(f"{masked(url)} names no file.", remedy=_EXAMPLE)
    text = unquote(rest[1:], errors="surrogateescape")
    if "\0" in text:
        raise UsageProblem(f"{masked(url)} has a NUL in its path.", remedy=_EXAMPLE)
    path = _absolute(Path(text))
    if path.name in ("", ".", ".."):
        raise UsageProblem(f"{masked(url)} names no file.", remedy=_EXAMPLE)
    return path


def _absolute(path: Path) -> Path:
    """Where ``path`` is from here.  Raises UsageProblem where that cannot be written down."""
    try:
        absolute = path.absolute()
    except FileNotFoundError:
        raise UsageProblem(
            "the current folder is gone, so no database can be found from here.",
            remedy="change into a folder that is there.",
        ) from None
    try:
        str(absolute).encode()
    except UnicodeEncodeError:
        raise UsageProblem(
            f"the path {_shown(str(absolute))} is not UTF-8.",
            remedy="rename the file or its folder: a log records where its attempts are, as text.",
        ) from None
    return absolute


def _server(dsn: str) -> Location:
    try:
        parts = taken_apart(dsn)
        host, port = _where(parts)
    except ValueError:
        raise _no_url(dsn) from None
    if "\0" in unquote(dsn):
        raise UsageProblem(f"{masked(dsn)} has a NUL in it.", remedy=_EXAMPLE)
    if parts.query and not all(map(_SETTING.fullmatch, parts.query.split("&"))):
        # Without naming it: it may be what stands behind an & in a password.
        raise UsageProblem(
            "a setting behind the ? of the database URL is not NAME=VALUE.",
            remedy="correct it; write & in a value as %26.",
        )
    name = unquote(parts.path[1:])
    if not name or "/" in name or not dsn.isprintable():
        raise UsageProblem(f"{masked(dsn)} names no database.", remedy=_EXAMPLE)
    stem = _stem(host, port, name)
    return Location(masked(dsn), _files_root().absolute() / stem, Address(dsn))


def _files_root() -> Path:
    """The folder for files of logs on servers."""
    folder = os.environ.get(FILES_VARIABLE)
    if folder:
        return Path(folder)
    try:
        return Path.home() / ".local" / "share" / "runoff"
    except RuntimeError:
        raise UsageProblem(
            "this user has no home directory for the files of a log on a server.",
            remedy=f"name a folder in {FILES_VARIABLE}, or set HOME.",
        ) from None


def _no_url(dsn: str) -> UsageProblem:
    """What is wrong with a server's URL that cannot be taken apart, or has the port 0."""
    port = _PORT.fullmatch(dsn)
    if port is not None:
        return UsageProblem(
            f"{masked(dsn)} names the port {port[1]}, which is none.",
            remedy="give one from 1 to 65535, or leave it out for 5432.",
        )
    return UsageProblem(
        f"{masked(dsn)} is not a database URL.",
        remedy="write @, / and : in a password as %40, %2F and %3A; " + _EXAMPLE,
    )


def _where(parts: SplitResult) -> tuple[str, str]:
    """Host and port, or several of them with commas; raises ValueError where one is none."""
    each = [urlsplit(f"//{one}") for one in parts.netloc.rpartition("@")[2].split(",")]
    ports = [_POSTGRES_PORT if one.port is None else one.port for one in each]
    if 0 in ports or (len(each) > 1 and not all(one.hostname for one in each)):
        raise ValueError
    asked = parse_qs(parts.query).get("host", [""])[0]
    hosts = ",".join(one.hostname or asked or "localhost" for one in each)
    # Said once when they are alike.
    return hosts, ",".join(map(str, ports if len(set(ports)) > 1 else ports[:1]))


def _stem(*parts: str) -> str:
    """A file name for a server's database; what cannot stand in one is told apart by a digest."""
    if all(map(_PLAIN.fullmatch, parts)):
        return "-".join(parts)
    plain = "-".join(re.sub(r"[^A-Za-z0-9._-]", "_", part)[:60] for part in parts)
    return f"{plain}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
