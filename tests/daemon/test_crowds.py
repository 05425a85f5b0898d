"""A crowd at a daemon's doors: who comes in earnest gets in, whoever else stands there."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from engine.daemon.client import Client, NobodyListens
from engine.daemon.control import Control
from engine.daemon.http import Http, address_from, tcp_listener
from engine.daemon.messages import Answer, AskStatus, answer_from, line_of
from engine.daemon.wire import CONNECTIONS_MAX, unix_listener
from engine.errors import LogHeld
from tests.daemon.test_http import PAGES
from tests.living import Living

LIMIT_S = 20
"""Far less than a connection to the control socket may last."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # sockets are real, and so is time


def comes(path: Path, said: bytes = b"") -> socket.socket | None:
    """Who connects to ``path`` and says so much; None when nobody more can stand there."""
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.setblocking(False)
    try:
        caller.connect(str(path))
        caller.send(said)
    except BlockingIOError:
        caller.close()
        return None
    return caller


@contextmanager
def crowded(path: Path) -> Generator[socket.socket]:
    """A listener at whose door nobody more can stand."""
    listener, crowd = unix_listener(path), list[socket.socket]()
    listener.listen(0)
    while (caller := comes(path)) is not None:
        crowd.append(caller)
    yield listener
    for one in (listener, *crowd):
        one.close()


def test_who_comes_to_a_crowded_door_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with crowded(tmp_path / "s") as listener:

        def one_is_let_in(_pause_s: float) -> None:
            listener.accept()[0].close()

        monkeypatch.setattr("engine.daemon.client.sleep", one_is_let_in)
        Client(tmp_path / "s", LIMIT_S).close()


def test_at_a_door_that_stays_crowded_nobody_waits_for_ever(tmp_path: Path) -> None:
    with crowded(tmp_path / "s"), pytest.raises(NobodyListens):
        Client(tmp_path / "s", 0.05)


@pytest.mark.parametrize(
    ("hangs_up", "problem"), [(False, "gave no answer within 0.05 s"), (True, "went away")]
)
def test_a_daemon_that_stands_still_is_not_said_to_be_gone(
    tmp_path: Path, hangs_up: bool, problem: str
) -> None:
    listener = unix_listener(tmp_path / "s")
    client = Client(tmp_path / "s", 0.05)
    if hangs_up:
        listener.accept()[0].close()
    with pytest.raises(LogHeld, match=problem):
        client.ask(AskStatus())
    client.close()
    listener.close()


def test_a_hundred_may_stand_at_the_door(tmp_path: Path) -> None:
    listener = unix_listener(tmp_path / "s")
    crowd = [comes(tmp_path / "s") for _ in range(100)]
    for one in (listener, *crowd):
        assert one is not None
        one.close()


async def test_who_says_nothing_whole_makes_room_for_who_does(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener, crowd, answers = unix_listener(path), list[socket.socket | None](), list[Answer]()
    async with Living().life() as service, anyio.create_task_group() as tasks:
        tasks.start_soon(Control(service).serve, listener)
        crowd += [comes(path, b'{"do":"sta') for _ in range(3 * CONNECTIONS_MAX)]
        with anyio.fail_after(LIMIT_S):
            answers += [await _asked(path) for _ in range(2)]
        tasks.cancel_scope.cancel()
    assert [answer.ok for answer in answers] == [True, True]
    for one in (listener, *crowd):
        assert one is not None
        one.close()


async def _asked(path: Path) -> Answer:
    async with await anyio.connect_unix(str(path)) as stream:
        await stream.send(line_of(AskStatus()))
        return answer_from(await stream.receive())


async def test_a_page_is_served_past_those_who_dawdle() -> None:
    listener = tcp_listener(address_from("127.0.0.1:0"))
    port = listener.getsockname()[1]
    dawdlers = [
        socket.create_connection(("127.0.0.1", port), LIMIT_S) for _ in range(2 * CONNECTIONS_MAX)
    ]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Http(PAGES, port).serve, listener)
        with anyio.fail_after(2.5):  # half of what a connection lasts
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                head = f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"
                await stream.send(head.encode())
                assert (await stream.receive()).startswith(b"HTTP/1.1 200")
        tasks.cancel_scope.cancel()
    for one in (listener, *dawdlers):
        one.close()
