"""Health and metrics: three pages for this machine's own, and nothing for anybody else."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from http import HTTPStatus

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, strategies as st

from engine.daemon.control import Control
from engine.daemon.http import HEAD_BYTES_MAX, Http, Page, address_from, tcp_listener
from engine.daemon.pages import engine_of, pages_of
from engine.daemon.service import SETTLE_S
from engine.drain.intake import registering
from engine.errors import UsageProblem
from engine.executors.scripted import Rule
from engine.metrics import METRICS, Engine, exposition
from engine.store.memory import MemoryStore, MemoryTransaction
from engine.triage.policy import Policy
from projections.board import Board
from tests.living import HOUR_S, Living, group


async def fine() -> Page:
    return Page(HTTPStatus.OK, "ok\n")


PAGES = {"/healthz": fine}
HTTP = Http(PAGES, 9464)
OURS = "Host: 127.0.0.1:9464\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (f"GET /healthz HTTP/1.1\r\n{OURS}", 200),
        ("HEAD /healthz HTTP/1.1\r\nhOST:localhost:9464\r\n", 200),
        ("GET /healthz?x=1 HTTP/1.0\r\nHost: [::1]:9464\r\n", 200),
        (f"GET /other HTTP/1.1\r\n{OURS}", 404),
        (f"POST /healthz HTTP/1.1\r\n{OURS}", 405),
        ("GET /healthz HTTP/1.1\r\n", 421),
        ("GET /healthz HTTP/1.1\r\nHost: evil.example:9464\r\n", 421),
        ("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n", 421),
        (f"GET /healthz HTTP/1.1\r\n{OURS}Host: a\r\n", 421),
        (f"GET /healthz HTTP/1.1\r\n{OURS}Content-Length: 3\r\n", 400),
        (f"GET /healthz HTTP/1.1\r\n{OURS}Transfer-Encoding: chunked\r\n", 400),
        (f"GET /healthz\r\n{OURS}", 400),
        ("\r\n", 400),
    ],
)
async def test_what_is_answered(head: str, expected: int) -> None:
    assert int((await HTTP.answer(head.encode() + b"\r\n")).split()[1]) == expected


async def test_a_head_has_no_body() -> None:
    asked = b"%s /healthz HTTP/1.1\r\nHost: localhost:9464\r\n\r\n"
    assert (await HTTP.answer(asked % b"GET")).endswith(b"\r\n\r\nok\n")
    assert (await HTTP.answer(asked % b"HEAD")).endswith(b"Connection: close\r\n\r\n")


@given(st.binary(max_size=300))
async def test_whatever_comes_is_answered(head: bytes) -> None:
    assert (await HTTP.answer(head + b"\r\n\r\n")).startswith(b"HTTP/1.1 ")


@pytest.mark.parametrize(
    "text",
    [
        *("0.0.0.0:1", "example.org:1", "127.0.0.1", "127.0.0.1:x", ":1", "127.0.0.1:70000"),
        "127.0.0.1:" + "9" * 5000,
    ],
)
def test_it_listens_on_loopback_only(text: str) -> None:
    with pytest.raises(UsageProblem):
        address_from(text)


@pytest.mark.parametrize("text", ["127.0.0.1:0", "localhost:0", "[::1]:0"])
def test_loopback_may_be_written_in_its_ways(text: str) -> None:
    assert address_from(text).port == 0


def figures(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(figure) for name, _, figure in lines}


async def test_every_figure_equals_the_log() -> None:
    rules = [
        Rule(run="bad", state="FAILED", rc=1, reason="boom", sleep=1),
        Rule(state="COMPLETE", rc=0, events=2, sleep=1),
    ]
    living = Living(rules=rules, policy=Policy(name="t", order_phases=False))
    async with living.life(group("a", 7), group("bad", 3)) as service:
        await anyio.sleep(HOUR_S)
        found = figures(exposition(service.recorder.board, engine_of(service)))
        pages = pages_of(service)
        assert (await pages["/readyz"]()).status == HTTPStatus.OK
        assert (await pages["/healthz"]()).text == "ok\n"
        assert figures((await pages["/metrics"]()).text).keys() == found.keys()
        service.stop()
        assert (await pages["/readyz"]()).status == HTTPStatus.SERVICE_UNAVAILABLE
    finished = [record.data for record in await living.records("attempt.finished")]
    failed = sum('"ending":"failed"' in data for data in finished)
    zero = sum(value for name, value in found.items() if name.startswith("runoff_zero_yield"))
    assert found["runoff_attempts_started_total"] == len(await living.starts())
    assert found['runoff_attempts_ended_total{ending="succeeded"}'] == 7
    assert found['runoff_attempts_ended_total{ending="failed"}'] == failed
    assert found['runoff_phases{state="COMPLETE"}'] == 7
    assert found["runoff_usage_events_total"] == len(await living.records("usage.recorded"))
    assert found['runoff_state{state="running"}'] == 1
    assert zero == len(await living.records("diagnosis.zero_yield_explained"))


class Slow(MemoryStore):
    """A commit takes as long as it is told to."""

    commit_s = 0.0

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[MemoryTransaction, None]:
        async with super().transaction() as transaction:
            yield transaction
            await anyio.sleep(self.commit_s)


@pytest.mark.parametrize("late_s", [1.0, 5.0])
async def test_what_is_not_in_the_log_yet_is_not_shown(late_s: float) -> None:
    living = Living()
    living.store = slow = Slow()
    async with living.life() as service:
        control, pages = Control(service), pages_of(service)
        await anyio.sleep(1)
        slow.commit_s, before = late_s, service.recorder.head.pos
        pending = service.recorder.enqueue(registering(group("a", 1)))
        while service.recorder.head.pos == before:
            await anyio.lowlevel.checkpoint()
        asked_s = anyio.current_time()
        page = await pages["/metrics"]()
        waited_s = anyio.current_time() - asked_s
        if late_s < SETTLE_S:
            assert (page.status, waited_s) == (HTTPStatus.OK, late_s)
            assert figures(page.text)["runoff_log_position"] == (await slow.head()).pos
        else:
            assert (page.status, waited_s) == (HTTPStatus.SERVICE_UNAVAILABLE, SETTLE_S)
            answer = await control.answer(b'{"do":"status"}\n')
            assert answer.status is not None, "whoever asks how it stands is told in any case"
            assert anyio.current_time() - asked_s == 2 * SETTLE_S
        await pending.answer()
        answer = await control.answer(b'{"do":"status"}\n')
        assert answer.status is not None
        assert answer.status.position == (await slow.head()).pos


async def test_the_page_is_prometheus_text() -> None:
    living = Living(policy=Policy(name='q"\\\n'), max_day_tokens=10)
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(1)
        text = exposition(service.recorder.board, engine_of(service))
    assert 'policy="q\\"\\\\\\n@1"' in text
    for name in METRICS:
        declared = re.findall(rf"^# (HELP|TYPE) {name} ", text, re.MULTILINE)
        assert declared in (["HELP", "TYPE"], []), name
    label = r'[a-z_]+="(\\.|[^"\\])*"'
    sample = re.compile(rf"[a-z_]+(\{{{label}(,{label})*\}})? [\d.e+]+")
    for line in text.splitlines():
        assert line.startswith("# ") or sample.fullmatch(line), line


def test_an_empty_board_has_figures() -> None:
    engine = Engine(
        version="0",
        policy="p",
        state="running",
        epoch=1,
        now_us=0,
        day_tokens_limit=None,
        cpu_s=0.0,
        resident_bytes=0,
        started_us=0,
        lines_lost=7,
    )
    assert "runoff_log_lines_lost_total 7" in exposition(Board(), engine)
    assert "runoff_log_position 0" in exposition(Board(), engine)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_over_a_real_socket_a_long_request_is_cut_off(anyio_backend: str) -> None:
    listener = tcp_listener(address_from("127.0.0.1:0"))
    port = listener.getsockname()[1]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Http(PAGES, port).serve, listener)
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(b"GET /" + b"x" * HEAD_BYTES_MAX)
            assert (await stream.receive()).startswith(b"HTTP/1.1 431")
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert (await stream.receive()).endswith(b"ok\n")
        tasks.cancel_scope.cancel()
    listener.close()
