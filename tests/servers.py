"""A PostgreSQL server of the tests' own: on loopback, in a temporary folder, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

REQUIRED = os.environ.get("RUNOFF_TEST_POSTGRES") == "required"
USER, PASSWORD = "runoff", "pass/w@rd"
PASSWORD_IN_URL = "pass%2Fw%40rd"
_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql*/bin",
)


class Server:
    """A running server; ``fresh`` makes a database that no one has used."""

    def __init__(self, port: int, programs: Path, data: Path, identity: dict[str, Any]) -> None:
        self.port = port
        self._programs = programs
        self._data = data
        self._identity = identity
        self._numbers = count(1)

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str) -> Any:
        import asyncpg  # noqa: PLC0415  an extra

        return await asyncpg.connect(self.url(database))

    async def fresh(self) -> str:
        """The URL of a new, empty database."""
        name = f"log_{next(self._numbers)}"
        connection = await self.connect("postgres")
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        finally:
            await connection.close()
        return self.url(name)

    async def emptied(self, name: str) -> str:
        """The URL of the database ``name``, without a log, whatever it held."""
        connection = await self.connect("postgres")
        try:
            found = await connection.fetch("SELECT 1 FROM pg_database WHERE datname = $1", name)
            if not found:
                await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        finally:
            await connection.close()
        connection = await self.connect(name)
        try:
            await connection.execute("DROP SCHEMA IF EXISTS runoff CASCADE")
        finally:
            await connection.close()
        return self.url(name)

    async def end_all_others(self, name: str) -> None:
        """End every connection to the database ``name``, as an operator or a crash does."""
        connection = await self.connect(name)
        try:
            await connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        finally:
            await connection.close()

    async def set_read_only(self, *, on: bool) -> None:
        """Have all connections take no writes, those that there are, too, or take them again."""
        connection = await self.connect("postgres")
        try:
            value = "on" if on else "off"
            await connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
            await connection.execute("SELECT pg_reload_conf()")
        finally:
            await connection.close()

    def start(self) -> None:
        settings = (
            f"-c port={self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
            " -c fsync=off -c max_connections=60 -c max_wal_size=256MB"
        )
        self._control("start", "-l", str(self._data.parent / "log"), "-o", settings)

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, *arguments: str) -> None:
        argv = [str(self._programs / "pg_ctl"), "-w", "-D", str(self._data), *arguments]
        run = cast("Callable[..., subprocess.CompletedProcess[bytes]]", subprocess.run)
        done = run(
            argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, **self._identity
        )
        assert done.returncode == 0, done.stderr


def programs() -> Path | None:
    """Where the server's programs are, the newest first; None when there are none."""
    for pattern in _FOLDERS:
        for folder in sorted(Path("/").glob(pattern[1:]), reverse=True):
            if (folder / "initdb").exists() and (folder / "pg_ctl").exists():
                return folder
    found = shutil.which("pg_ctl")
    return Path(found).resolve().parent if found else None


@contextmanager
def running() -> Generator[Server, None, None]:
    """A server for as long as the block runs; skips by name where there are no programs."""
    found = programs()
    if found is None:
        reason = "no PostgreSQL server programs (initdb, pg_ctl) on this machine"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="runoff-postgres-"))
    server = _made(found, folder)
    try:
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _made(found: Path, folder: Path) -> Server:
    identity = _identity()
    secret, data = folder / "secret", folder / "data"
    secret.write_text(PASSWORD)
    if identity:
        for path in (folder, secret):
            os.chown(path, identity["user"], identity["group"])
    argv = [
        *(str(found / "initdb"), "--no-sync", "-D", str(data), "-E", "UTF8", "--locale=C"),
        *("-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret)),
    ]
    subprocess.run(argv, check=True, capture_output=True, cwd=folder, **identity)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return Server(port, found, data, identity | {"cwd": folder})


def _identity() -> dict[str, Any]:
    """Who runs it: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise AssertionError("there is no user to run a server as")
