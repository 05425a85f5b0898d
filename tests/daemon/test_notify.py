"""What the service manager is told, on its own socket; and that nothing is, where there is none."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from engine.daemon.notify import Notifier


def heard(manager: socket.socket) -> list[str]:
    manager.setblocking(False)
    found: list[str] = []
    try:
        while True:
            found.append(manager.recv(4096).decode())
    except BlockingIOError:
        return found


@pytest.mark.parametrize("address", ["{folder}/notify", "@runoff-test-{pid}"])
def test_each_state_is_one_datagram(tmp_path: Path, address: str) -> None:
    name = address.format(folder=tmp_path, pid=os.getpid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name[1:] if name.startswith("@") else name)
        notifier = Notifier({"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "5000000"})
        notifier.getting_ready("slowly")
        notifier.ready()
        notifier.status("two\nlines")
        notifier.status("two\nlines")
        notifier.alive()
        notifier.reloading()
        notifier.stopping()
        notifier.close()
        notifier.ready()
        states = heard(manager)
    assert states[:2] == ["STATUS=slowly", "EXTEND_TIMEOUT_USEC=60000000"]
    assert states[2:5] == ["READY=1", "STATUS=two lines", "WATCHDOG=1"]
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", states[5])
    assert states[6:] == ["STOPPING=1"]
    assert notifier.watchdog_s == 5.0


def test_a_manager_that_is_behind_hears_the_rest_later_and_of_a_status_the_newest(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "9"})
        for number in range(5000):  # more than any queue of datagrams holds
            notifier.status(f"{number} running")
        notifier.reloading()
        notifier.ready()
        notifier.alive()
        notifier.alive()
        first = heard(manager)
        assert first[:2] == ["STATUS=0 running", "STATUS=1 running"]
        assert len(first) < 5000
        notifier.catch_up()
        rest = [state.partition("\n")[0] for state in heard(manager)]
        assert rest == ["STATUS=4999 running", "RELOADING=1", "READY=1", "WATCHDOG=1"]
        notifier.catch_up()
        assert heard(manager) == []
        notifier.close()


def test_a_manager_that_is_gone_or_never_was_is_no_trouble(tmp_path: Path) -> None:
    for address in ("", "relative", f"{tmp_path}/gone", "@\udcff", "/" + "x" * 200):
        notifier = Notifier({"NOTIFY_SOCKET": address})
        notifier.ready()
        notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [
        ("1000000", "", 1.0),
        ("1000000", "ours", 1.0),
        ("1000000", "1", None),
        ("0", "", None),
        ("", "", None),
        ("x", "", None),
        ("9" * 5000, "", None),
        ("1", "", 0.02),
    ],
)
def test_a_watchdog_is_ours_or_it_is_none(usec: str, pid: str, expected: float | None) -> None:
    whose = str(os.getpid()) if pid == "ours" else pid
    environment = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": usec, "WATCHDOG_PID": whose}
    notifier = Notifier(environment)
    notifier.close()
    assert notifier.watchdog_s == expected
