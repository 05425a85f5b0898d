"""The control socket's language: garbage is answered, whatever it is, and work is bounded."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import example, given, strategies as st
from msgspec.structs import replace

from engine.daemon import control as control_module, wire as wire_module
from engine.daemon.client import Client, NobodyListens
from engine.daemon.control import Control
from engine.daemon.messages import (
    LINE_BYTES_MAX,
    Answer,
    AskStatus,
    Operate,
    Pause,
    Reclassify,
    Requested,
    Stop,
    answer_from,
    error_of,
    event_in,
    line_of,
    reclassify_of,
    refusal,
    register_of,
    request_from,
    status_in,
)
from engine.daemon.sockets import control_path, control_paths, is_stale, pid_of
from engine.daemon.wire import listening, unix_listener
from engine.errors import LogHeld, RunoffError, StorageFailed, UsageProblem
from engine.events import RunReinstated
from engine.store.location import locate
from engine.triage.operating import ReinstateRun
from tests.living import Living, changed, group

SAID = {"by": "ann", "why": "x"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # sockets are real, and so is time


@given(st.binary(max_size=200))
@example(b"")
@example(b"null\n")
@example(b"[" * 100_000)
@example(b'{"do":"status","do":"stop","x":1}')
@example(b'{"do":"pause","by":"","why":""}')
@example(b'{"do":"register","key":"k","stream":"s","events":[]}')
@example(b'{"do":"operate","operation":{"operation":"drop_table"}}')
@example(
    b'{"do":"operate","operation":{"operation":"reinstate_run","run_id":"r","by":"","why":"x"}}'
)
@example(
    b'{"do":"operate","operation":{"operation":"reinstate_run","run_id":"r","by":"ann","why":"'
    + b"x" * 2001
    + b'"}}'
)
def test_a_line_is_a_request_or_refused(line: bytes) -> None:
    with pytest.raises(UsageProblem) as refused:
        request_from(line)
    answer = answer_from(line_of(refusal(refused.value)))
    assert error_of(answer).problem == refused.value.problem


@pytest.mark.parametrize(
    "message",
    [
        AskStatus(),
        Pause(**SAID),
        Stop(now=True),
        register_of(group("r", 3)),
        Operate(operation=ReinstateRun(run_id="r", **SAID)),
        Reclassify(changes=(changed("att_1", 2, 3),)),
    ],
)
def test_a_request_survives_the_wire(message: Requested) -> None:
    line = line_of(message)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert request_from(line) == message


def test_only_a_backlog_can_be_registered() -> None:
    word = RunReinstated(run_id="r", generation=2, **SAID)
    with pytest.raises(UsageProblem):
        register_of(replace(group("r", 1), events=(word,)))
    event = {"type": "operator.run_reinstated", "run_id": "r", "generation": 2, **SAID}
    refused(key="run/r", stream="run/r", events=[event])


def test_nothing_is_registered_where_decisions_stand() -> None:
    event = {"type": "backlog.run_registered", "run_id": "r", "origin": "x", "state": "NEW"}
    for key, stream in (("run/r", "engine"), ("run/r", "drain/s"), ("cmd", "run/r")):
        refused(key=key, stream=stream, events=[event])


@pytest.mark.parametrize(("count", "chars", "requests"), [(1, 1, 1), (1025, 1, 3), (9, 200_000, 2)])
def test_changes_are_handed_over_in_order_in_lines_that_are_heard(
    count: int, chars: int, requests: int
) -> None:
    changes = [changed("att_1", 2, pos, text="x" * chars) for pos in range(2, 2 + count)]
    found = [*reclassify_of(changes)]
    assert [each for request in found for each in request.changes] == changes
    assert all(len(line_of(request)) < LINE_BYTES_MAX for request in found)
    assert [request_from(line_of(request)) for request in found] == found
    assert len(found) == requests


def refused(**fields: object) -> None:
    with pytest.raises(UsageProblem):
        request_from(json.dumps({"do": "register", **fields}).encode())


@pytest.mark.parametrize("error", [UsageProblem, StorageFailed, LogHeld])
def test_a_refusal_keeps_its_exit_code(error: type[RunoffError]) -> None:
    found = error_of(refusal(error("no.", remedy="yes.")))
    assert (type(found), str(found)) == (error, "no.\n  try: yes.")


@pytest.mark.parametrize(
    ("line", "is_newer"),
    [
        (b'{"do":"of_tomorrow"}\n', True),
        (b'{"do":"operate","operation":{"operation":"of_tomorrow"}}\n', True),
        (b'{"do":"pause","why":7}\n', False),
        (b"hello\n", False),
    ],
)
def test_who_asks_an_earlier_daemon_for_more_than_it_knows_is_told_to_start_it_again(
    line: bytes, *, is_newer: bool
) -> None:
    with pytest.raises(UsageProblem) as heard:
        request_from(line)
    told = error_of(refusal(heard.value))
    assert told.problem == heard.value.problem
    assert told.exit_code == UsageProblem.exit_code
    assert ("start it again" in told.remedy) == is_newer


async def _answers(path: Path, data: bytes) -> list[dict[str, Any]]:
    """The answers to ``data``, after which we have nothing more to say."""
    async with await anyio.connect_unix(str(path)) as stream:
        await stream.send(data)
        await stream.send_eof()
        answered = b""
        try:
            while True:
                answered += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return [json.loads(line) for line in answered.splitlines()]


async def talk(folder: Path, *lines: bytes) -> list[list[dict[str, Any]]]:
    """What a daemon at a real socket answers, a connection a line."""
    answers: list[list[dict[str, Any]]] = []
    path = folder / "b.db-control"
    listener = unix_listener(path)
    async with Living().life() as service, anyio.create_task_group() as tasks:
        tasks.start_soon(Control(service).serve, listener)
        answers += [await _answers(path, line) for line in lines]
        tasks.cancel_scope.cancel()
    listener.close()
    return answers


async def test_garbage_is_answered_and_the_next_line_is_heard(tmp_path: Path) -> None:
    status = line_of(AskStatus())
    found = await talk(tmp_path, b"\xff\xfe{\n\n" + status, status[:-1])
    assert [answer["ok"] for answer in found[0]] == [False, False, True]
    assert found[0][0]["exit_code"] == 2
    assert found[1] == [], "a line without its end was never sent"


@pytest.mark.parametrize("is_late", [False, True])
async def test_who_tells_it_to_stop_is_answered_before_it_goes_and_waited_for_a_moment(
    is_late: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, settled = tmp_path / "s", anyio.Event()
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(control_module, "ANSWER_S", 0.01 if is_late else 60)

    async def ask() -> None:
        found.extend(await _answers(path, line_of(Stop(now=False))))

    with listening(path) as listener:
        async with anyio.create_task_group() as asking, anyio.create_task_group() as tasks:
            async with Living().life() as service:
                monkeypatch.setattr(service, "settle", settled.wait)
                control = Control(service)
                tasks.start_soon(control.serve, listener)
                asking.start_soon(ask)
                await service.stopping.asked.wait()

            async def leave() -> None:
                await control.finish()
                tasks.cancel_scope.cancel()

            asking.start_soon(leave)
            await anyio.wait_all_tasks_blocked()
            if not is_late:
                settled.set()
    assert [answer["status"]["state"] for answer in found] == ([] if is_late else ["stopping"])


async def test_a_line_without_end_is_cut_off(tmp_path: Path) -> None:
    ((answer,),) = await talk(tmp_path, b"x" * (LINE_BYTES_MAX + 1))
    assert "bytes" in answer["problem"]


def test_only_its_owner_may_talk_to_it(tmp_path: Path) -> None:
    listener = unix_listener(tmp_path / "s")
    assert (tmp_path / "s").stat().st_mode & 0o777 == 0o600
    listener.close()


def test_a_dead_daemons_socket_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    path = tmp_path / "s"
    unix_listener(path).close()
    with pytest.raises(NobodyListens):
        Client(path)
    unix_listener(path).close()
    path.unlink()
    path.write_text("mine")
    with pytest.raises(StorageFailed):
        unix_listener(path)
    assert path.read_text() == "mine"


def test_a_database_deep_in_folders_has_a_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    for name in ("backlog.db", "n" * 75):
        path = control_path(locate(f"sqlite:///{deep}/{name}"))
        listener = unix_listener(path)
        Client(path).close()
        listener.close()
        assert path.is_socket()


def test_a_name_that_no_socket_can_bear_is_told_as_that(tmp_path: Path) -> None:
    path = control_path(locate(f"sqlite:///{tmp_path}/{'n' * 100}"))
    with pytest.raises(StorageFailed) as refused:
        unix_listener(path)
    assert "a shorter name" in refused.value.remedy


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_sockets_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(wire_module, "with_address", refuse)
    with pytest.raises(StorageFailed) as refused:
        unix_listener(tmp_path / "s")
    assert "a file system that has sockets" in refused.value.remedy


def test_a_socket_goes_with_who_listens_unless_another_has_replaced_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with listening(path):
        assert path.is_socket()
    assert not path.exists()
    with listening(path), listening(path) as other:
        pass
    assert not path.exists()
    with listening(path):
        path.unlink()
        other = unix_listener(path)
    assert path.is_socket(), "it is another's now"
    assert not is_stale(path)
    other.close()
    assert is_stale(path)


def test_daemons_that_share_a_log_have_a_socket_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNOFF_FILES", str(tmp_path))
    place = locate("postgresql://u@db.example/log")
    assert control_paths(place) == []
    paths = [control_path(place, pid) for pid in (7, 12)]
    assert control_path(place) == control_path(place, os.getpid())
    for path in paths:
        unix_listener(path).close()
    (tmp_path / f"{paths[0].name}-elsewhere").touch()
    assert sorted(map(pid_of, control_paths(place))) == [7, 12]


@pytest.mark.parametrize(
    "line",
    [
        b"hello\n",
        b'{"ok":true,"problem":"\xff\xfe"}\n',
        b'{"ok":true,"event":' + b"[" * 100_000 + b"\n",
        b'{"a":' * 100_000 + b"\n",
    ],
)
def test_an_answer_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(UsageProblem):
        answer_from(line)


@pytest.mark.parametrize("event", [b"null", b"1", b'{"type":"none"}', b"[" * 100_000, b'"\xff"'])
def test_an_answer_without_an_event_is_refused_where_one_is_due(event: bytes) -> None:
    with pytest.raises(UsageProblem):
        event_in(Answer(ok=True, event=msgspec.Raw(event)))


def test_an_answer_without_a_status_is_refused_where_one_is_due() -> None:
    with pytest.raises(UsageProblem, match="it has no status"):
        status_in(answer_from(b'{"ok":true}\n'))


def test_an_answer_may_hold_nothing() -> None:
    assert answer_from(line_of(Answer(ok=True))) == Answer(ok=True)
