"""The control socket: what ``runoff daemon status|pause|resume|stop`` and handed work talk to."""

from __future__ import annotations

import os
import socket

import anyio

from engine.daemon.messages import (
    LINE_BYTES_MAX,
    Answer,
    AskStatus,
    Operate,
    Pause,
    Reclassify,
    Register,
    Reload,
    Requested,
    Resume,
    Stop,
    event_answer,
    line_of,
    refusal,
    request_from,
)
from engine.daemon.service import Service
from engine.daemon.wire import TooLong, Wire, serve
from engine.errors import RunoffError, UsageProblem

SECONDS_MAX = 60.0
REQUESTS_MAX = 10_000
ANSWER_S = 2.0
"""How long the end waits for answers that are owed; by then no server is waited for."""


class Control:
    """Answers requests for a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._owed: set[anyio.Event] = set()

    async def serve(self, listener: socket.socket) -> None:
        """Answer whoever connects, for ever."""
        await serve(listener, self._attend, seconds_max=SECONDS_MAX)

    async def finish(self) -> None:
        """Before ``serve`` is cancelled: answer those that were heard, such as who said stop."""
        with anyio.move_on_after(ANSWER_S):
            for answered in tuple(self._owed):
                await answered.wait()

    async def _attend(self, wire: Wire) -> None:
        if wire.user not in (None, 0, os.geteuid()):
            return
        for _ in range(REQUESTS_MAX):
            try:
                line = await wire.until(b"\n", LINE_BYTES_MAX)
            except TooLong:
                await wire.send(line_of(refusal(_too_long())))
                return
            if not line:
                return
            await self._reply(wire, line)

    async def _reply(self, wire: Wire, line: bytes) -> None:
        answered = anyio.Event()
        self._owed.add(answered)
        try:
            await wire.send(line_of(await self.answer(line)))
        finally:
            self._owed.discard(answered)
            answered.set()

    async def answer(self, line: bytes) -> Answer:
        """The answer to a line, whatever is in it."""
        try:
            return await self._do(request_from(line))
        except RunoffError as error:
            return refusal(error)

    async def _do(self, request: Requested) -> Answer:
        service = self._service
        match request:
            case AskStatus():
                pass
            case Pause():
                await service.pause(request.by, request.why)
            case Resume():
                await service.resume(request.by, request.why)
            case Stop(now=now):
                service.abandon() if now else service.stop()
            case Reload():
                await service.reload()
            case Register():
                return Answer(ok=True, position=await service.intake.register(request.group))
            case Reclassify():
                return Answer(ok=True, position=await service.intake.reclassify(request.changes))
            case Operate():
                event = await service.intake.operate(request.operation)
                await service.settle()
                return event_answer(event, service.recorder.head.pos)
        await service.settle()
        return Answer(ok=True, status=service.status())


def _too_long() -> UsageProblem:
    return UsageProblem(
        f"a request has more than {LINE_BYTES_MAX} bytes.", remedy="send one object a line."
    )
