"""Telling the service manager: readiness, reloads, status and life signs (``sd_notify(3)``).

One datagram to the socket that ``NOTIFY_SOCKET`` names; without it nothing is done.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

import anyio

CATCH_UP_S = 1.0
ANOTHER_S = 60
"""Until the next such word, or until it is ready."""
_TEXT_MAX = 200
_DIGITS_MAX = 20  # of a number of 64 bits, which this is
_WATCHDOG_S_MIN = 0.02
"""Whoever wants a life sign more often would have us do nothing else."""


class Notifier:
    """Sends states to the service manager that ``environment`` names, if one does."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(environment) if self._address else None
        self._status = ""
        self._unsent: list[str] = []
        self._socket: socket.socket | None = None
        if self._address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @property
    def is_heard(self) -> bool:
        """Whether there is a service manager to tell."""
        return self._address is not None

    def ready(self) -> None:
        """Attempts of dead engines are seen to; work may begin."""
        self._send("READY=1")

    def getting_ready(self, text: str) -> None:
        """It takes its time, and gets on; a manager would end it after a minute and a half."""
        self.status(text)
        self._send(f"EXTEND_TIMEOUT_USEC={ANOTHER_S * 1_000_000}")

    def reloading(self) -> None:
        """Settings are being read again; ``ready`` says when that is done."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """No attempt is started any more."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The loop still turns."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; the same again is not told twice."""
        if text != self._status:
            self._status = text
            self._send("STATUS=" + text.replace("\n", " ")[:_TEXT_MAX])

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def keep_up(self) -> None:
        """Show life as often as the manager wants, and say what it had no room for, for ever."""
        async with anyio.create_task_group() as group:
            if self.is_heard:
                group.start_soon(self._tell_the_rest)
            if self.watchdog_s is not None:
                group.start_soon(self._show_life, self.watchdog_s / 2)

    async def _show_life(self, every_s: float) -> None:
        while True:
            self.alive()
            await anyio.sleep(every_s)

    async def _tell_the_rest(self) -> None:
        """Nothing says when the manager has room again."""
        while True:
            await anyio.sleep(CATCH_UP_S)
            self.catch_up()

    def catch_up(self) -> None:
        """Say what the manager had no room for."""
        while self._unsent and self._socket is not None and self._address is not None:
            try:
                self._socket.sendto(self._unsent[0].encode(), self._address)
            except BlockingIOError:
                return  # it is behind, and hears it later
            except OSError:
                self._unsent.clear()  # one that does not listen is no reason to stop draining
                return
            del self._unsent[0]

    def _send(self, state: str) -> None:
        """Say it behind what was not heard yet; of its kind only the newest counts."""
        kind = state.partition("=")[0]
        self._unsent = [each for each in self._unsent if each.partition("=")[0] != kind]
        self._unsent.append(state)
        self.catch_up()


def _address(path: str) -> str | bytes | None:
    if path.startswith("@"):
        return b"\0" + os.fsencode(path[1:])
    return path if path.startswith("/") else None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """How often the manager wants a life sign at the latest, in seconds; None for never."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isascii() or not usec.isdigit() or len(usec) > _DIGITS_MAX or int(usec) == 0:
        return None
    wanted_s = max(int(usec) / 1e6, _WATCHDOG_S_MIN)
    return None if pid and pid != str(os.getpid()) else wanted_s
