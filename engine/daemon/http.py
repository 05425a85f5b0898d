"""Health and metrics over HTTP: three pages, read only, on the loopback interface, off by default.

A page of another site must not read them through a browser on this machine, so only requests that
name this very address as their host are answered (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple

from engine.daemon.wire import BACKLOG, TooLong, Wire, serve
from engine.errors import StorageFailed, UsageProblem

HEAD_BYTES_MAX = 8 * 1024
SECONDS_MAX = 5.0
TEXT = "text/plain; charset=utf-8"
METRICS = "text/plain; version=0.0.4; charset=utf-8"
PATHS = ("/healthz", "/readyz", "/metrics")
_PORT = re.compile(r"[0-9]{1,5}")
_PORT_MAX = 65_535


class Page(NamedTuple):
    """What is answered."""

    status: HTTPStatus
    text: str
    kind: str = TEXT


Pages = Mapping[str, Callable[[], Awaitable[Page]]]


class Address(NamedTuple):
    """Where to listen; port 0 for any that is free."""

    host: str
    port: int


def address_from(text: str) -> Address:
    """An address such as ``127.0.0.1:9464`` or ``[::1]:9464``.

    Raises UsageProblem for anything that is not on the loopback interface.
    """
    host, _, port = text.rpartition(":")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not _PORT.fullmatch(port) or int(port) > _PORT_MAX:
        raise UsageProblem(
            f"--http {text[:80]!a} is no address on the loopback interface.",
            remedy="give one such as 127.0.0.1:9464; a proxy in front can let others in.",
        )
    return Address(host, int(port))


def tcp_listener(address: Address) -> socket.socket:
    """Listen there.  Raises StorageFailed when that cannot be, such as for a port in use."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise StorageFailed(
            f"cannot listen on {address.host} port {address.port}: {error.strerror}.",
            remedy="name another port with --http, or leave it out.",
        ) from error
    return listener


class Http:
    """Answers requests for ``pages`` that name ``port`` of the loopback interface as their host."""

    def __init__(self, pages: Pages, port: int) -> None:
        self._pages = pages
        self._hosts = {f"{host}:{port}" for host in ("127.0.0.1", "localhost", "[::1]")}

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects, for ever."""
        await serve(listener, self._attend, seconds_max=SECONDS_MAX)

    async def _attend(self, wire: Wire) -> None:
        try:
            head = await wire.until(b"\r\n\r\n", HEAD_BYTES_MAX)
        except TooLong:
            page = Page(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request is too long\n")
            await wire.send(_response(page, with_body=True))
            return
        if head:
            await wire.send(await self.answer(head))

    async def answer(self, head: bytes) -> bytes:
        """The response to a request, whose ``head`` ends with its empty line."""
        method = head.partition(b" ")[0]
        return _response(await self._page(head), with_body=method != b"HEAD")

    async def _page(self, head: bytes) -> Page:
        lines = head.decode("latin-1").split("\r\n")
        parts = lines[0].split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):  # noqa: PLR2004  method, path, version
            return Page(HTTPStatus.BAD_REQUEST, "this is not HTTP/1.1\n")
        hosts, has_body = _fields(lines[1:])
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return Page(HTTPStatus.MISDIRECTED_REQUEST, "this host is not served here\n")
        if parts[0] not in ("GET", "HEAD"):
            return Page(HTTPStatus.METHOD_NOT_ALLOWED, "these pages can only be read\n")
        if has_body:
            return Page(HTTPStatus.BAD_REQUEST, "a request has no body here\n")
        page = self._pages.get(parts[1].partition("?")[0])
        if page is None:
            return Page(HTTPStatus.NOT_FOUND, f"there are only {', '.join(PATHS)}\n")
        return await page()


def _fields(lines: list[str]) -> tuple[list[str], bool]:
    """The hosts that header lines name, and whether a body follows them."""
    hosts, has_body = list[str](), False
    for line in lines:
        name, _, value = line.partition(":")
        match name.lower():
            case "host":
                hosts.append(value.strip())
            case "transfer-encoding":
                has_body = True
            case "content-length":
                has_body = has_body or value.strip() != "0"
            case _:
                pass
    return hosts, has_body


def _response(page: Page, *, with_body: bool) -> bytes:
    body = page.text.encode()
    fields = {
        "Content-Type": page.kind,
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    if page.status == HTTPStatus.METHOD_NOT_ALLOWED:
        fields["Allow"] = "GET, HEAD"
    head = f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    return head.encode() + (body if with_body else b"")
