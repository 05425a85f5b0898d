"""The guardian by itself: real processes, nasty ones, and the proof that none is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.executors.guardian_process import GUARDIAN, Guardians
from engine.executors.guarding import files, tree
from engine.executors.processes import is_alive, process_start_ticks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")

MARK = "GUARDIAN_TEST_MARK"
LIMIT_S = 30


class Guarded:
    """A guardian under test; the test plays the engine."""

    def __init__(self, directory: Path, argv: list[str], **changes: Any) -> None:
        self.directory = directory / "attempt"
        self.directory.mkdir()
        self.mark = str(self.directory)
        spec = {
            "argv": argv,
            "environment": {"PATH": os.environ["PATH"], MARK: self.mark},
            "cwd": str(directory),
            "timeout_s": 20,
            "grace_s": 0.3,
            "kill_budget_s": 2.0,
            "head_max": 1 << 20,
            "tail_max": 1 << 20,
            "on_engine_death": "adopt",
        } | changes
        (self.directory / "spec.json").write_text(json.dumps(spec))
        self.process = anyio.run(Guardians().start, self.directory, anyio.Event())

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def await_end(self) -> None:
        deadline_s = time.monotonic() + LIMIT_S
        while is_alive(self.process.pid, self.process.start_ticks):
            assert time.monotonic() < deadline_s, "the guardian goes on"
            os.sched_yield()
        self.process.leave()

    def finished(self) -> dict[str, Any]:
        """The outcome; by then no process with the attempt's mark may be left."""
        self.await_end()
        assert carriers_of(self.mark) == []
        outcome: dict[str, Any] = json.loads((self.directory / "outcome.json").read_text())
        return outcome

    def kept(self, stream: str = "stdout") -> bytes:
        """What is kept of a stream; there is no file of one that said nothing."""
        path = self.directory / stream
        return path.read_bytes() if path.exists() else b""


def run(directory: Path, argv: list[str], **changes: Any) -> tuple[dict[str, Any], Guarded]:
    guarded = Guarded(directory, argv, **changes)
    guarded.process.go()
    return guarded.finished(), guarded


def python(source: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", source]


def shell(source: str) -> list[str]:
    return ["sh", "-c", source]


def carriers_of(mark: str) -> list[int]:
    """Living processes with the mark in their environment or on their command line."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in told:
                found.append(int(entry.name))
    return found


def until(path: Path) -> None:
    """Wait for a child to say by a file that it is there."""
    deadline_s = time.monotonic() + LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline_s, f"{path} never came"
        os.sched_yield()


def test_a_child_that_ends_by_itself_is_reported_with_code_and_output(tmp_path: Path) -> None:
    outcome, guarded = run(tmp_path, shell("echo out; echo error >&2; exit 7"))
    assert (outcome["ended"], outcome["exit_code"], outcome["signal"]) == ("exited", 7, None)
    assert (guarded.kept("stdout"), guarded.kept("stderr")) == (b"out\n", b"error\n")
    assert outcome["stdout"] == {"total": 4, "head": 4, "tail": 0}
    assert (outcome["killed"], outcome["survivors"], outcome["spawn_error"]) == (0, 0, None)


def test_a_child_that_a_signal_ends_is_reported_with_it(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, shell("kill -SEGV $$"))
    assert (outcome["ended"], outcome["exit_code"]) == ("exited", None)
    assert outcome["signal"] == signal.SIGSEGV


@pytest.mark.parametrize(
    ("argv", "changes", "code", "words"),
    [
        (["no-such-program"], {}, 127, "cannot start no-such-program: No such file"),
        (["/etc/passwd"], {}, 126, "cannot start /etc/passwd: Permission denied"),
        (["/etc"], {}, 126, "cannot start /etc: "),
        (["true"], {"cwd": "/no/such"}, 127, "cannot enter the workspace /no/such: No such"),
        (["true", "a\0b"], {}, 126, "cannot start true: embedded null byte"),
        (['no\t\u2028\U0001f600"such\\'], {}, 127, "cannot start no"),
    ],
)
def test_a_program_that_cannot_be_started_is_named(
    tmp_path: Path, argv: list[str], changes: dict[str, Any], code: int, words: str
) -> None:
    outcome, _ = run(tmp_path, argv, **changes)
    assert (outcome["ended"], outcome["exit_code"]) == ("exited", code)
    assert outcome["spawn_error"].startswith(words)


def test_a_child_that_ignores_the_polite_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, shell("trap '' TERM; sleep 60"), timeout_s=0.7)
    assert (outcome["ended"], outcome["signal"]) == ("timed_out", signal.SIGKILL)
    assert 1000 <= outcome["duration_ms"] <= 700 + 300 + 2000
    assert outcome["killed"] == 2


def test_a_child_that_heeds_the_polite_signal_may_say_its_last_words(tmp_path: Path) -> None:
    source = "trap 'echo bye; exit 0' TERM; echo hello; while :; do sleep 0.01; done"
    outcome, guarded = run(tmp_path, shell(source), timeout_s=1, grace_s=10)
    assert (outcome["ended"], outcome["exit_code"]) == ("timed_out", 0)
    assert guarded.kept() == b"hello\nbye\n"
    assert outcome["duration_ms"] >= 1000


def test_the_polite_signal_comes_once(tmp_path: Path) -> None:
    """The child goes on behind it, until it has heard all that comes and is let go."""
    source = """
import os, signal, time
signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"T"), open("heard", "w")))
open("started", "w")
while not os.path.exists("finish"):
    time.sleep(0.01)
for _ in range(20):
    time.sleep(0.01)
"""
    guarded = Guarded(tmp_path, python(source), grace_s=LIMIT_S)
    guarded.process.go()
    until(tmp_path / "started")
    guarded.process.end()
    until(tmp_path / "heard")
    guarded.process.end()
    (tmp_path / "finish").touch()
    assert guarded.finished()["ended"] == "abandoned"
    assert guarded.kept() == b"T"


def test_a_child_that_stops_itself_is_ended_at_the_deadline(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, shell("kill -STOP $$; sleep 60"), timeout_s=0.3)
    assert (outcome["ended"], outcome["signal"]) == ("timed_out", signal.SIGTERM)
    assert outcome["duration_ms"] >= 300


DAEMONS = """
import os, sys, time
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.close(0); os.close(1); os.close(2)
            os.execve("/bin/sh", ["sh", "-c", "trap '' TERM HUP; while :; do sleep 1; done", sys.argv[1]], {})
        os._exit(0)
    os.wait()
"""  # noqa: E501


def test_daemons_with_a_bare_environment_do_not_outlive_their_child(tmp_path: Path) -> None:
    mark = str(tmp_path / "attempt")
    outcome, _ = run(tmp_path, [*python(DAEMONS), mark])
    assert (outcome["ended"], outcome["exit_code"], outcome["survivors"]) == ("exited", 0, 0)
    assert outcome["killed"] >= 3


def test_daemons_end_with_the_deadline_too(tmp_path: Path) -> None:
    source = DAEMONS + "time.sleep(60)"
    outcome, _ = run(tmp_path, [*python(source), str(tmp_path / "attempt")], timeout_s=0.5)
    assert (outcome["ended"], outcome["survivors"]) == ("timed_out", 0)
    assert outcome["killed"] >= 4


def test_a_child_that_closes_its_streams_is_still_waited_for(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, shell("exec >&- 2>&-; sleep 0.3; exit 5"))
    assert outcome["exit_code"] == 5
    assert outcome["duration_ms"] >= 300


def test_grandchildren_that_hold_the_pipe_do_not_hold_up_the_end(tmp_path: Path) -> None:
    began_s = time.monotonic()
    outcome, guarded = run(tmp_path, shell("sleep 50 & sleep 50 & echo done"))
    assert time.monotonic() - began_s < 10
    assert guarded.kept() == b"done\n"
    assert (outcome["ended"], outcome["exit_code"], outcome["killed"]) == ("exited", 0, 2)


def test_orphans_that_ended_by_themselves_were_not_killed(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, shell("(setsid sleep 0.05 &) ; sleep 0.4"))
    assert outcome["killed"] == 0


def test_a_crowd_that_keeps_forking_is_ended(tmp_path: Path) -> None:
    source = """
import os, time
def count():
    return sum(name.isdigit() for name in os.listdir("/proc"))
limit = count() + 120
while True:
    if count() < limit:
        os.fork()
    else:
        time.sleep(0.001)
"""
    outcome, _ = run(tmp_path, python(source), timeout_s=1, grace_s=0.05, kill_budget_s=10)
    assert (outcome["ended"], outcome["survivors"]) == ("timed_out", 0)
    assert outcome["killed"] > 20


@pytest.mark.parametrize("session", ["", "os.setsid()"])
def test_a_process_that_flees_from_pid_to_pid_is_caught(tmp_path: Path, session: str) -> None:
    source = f"""
import os
while True:
    if os.fork():
        os._exit(0)
    {session}
"""
    outcome, _ = run(tmp_path, python(source), kill_budget_s=10)
    assert (outcome["ended"], outcome["survivors"]) == ("exited", 0)
    assert outcome["killed"] >= 1


@pytest.mark.parametrize("size", [0, 5, 10, 11, 17, 18, 23, 24, 25, 1000, 100_000])
@pytest.mark.parametrize("piece", [1, 7, 100_000])
def test_head_and_tail_are_the_first_and_last_bytes(tmp_path: Path, size: int, piece: int) -> None:
    if size > 1000 and piece == 1:
        piece = 997
    source = f"""
import os
data = bytes(i % 251 for i in range({size}))
for at in range(0, {size}, {piece}):
    os.write(1, data[at : at + {piece}])
"""
    outcome, guarded = run(tmp_path, python(source), head_max=10, tail_max=7)
    data = bytes(i % 251 for i in range(size))
    tail = data[10:][-7:]
    assert outcome["stdout"] == {"total": size, "head": min(10, size), "tail": len(tail)}
    assert guarded.kept() == data[:10] + tail
    assert not (guarded.directory / "stdout.tail").exists()


def test_an_outcome_says_how_large_the_files_are_that_belong_to_it(tmp_path: Path) -> None:
    source = "cd attempt; echo out; echo 123 >events.ndjson; : >result.json; mkdir stderr"
    outcome, _ = run(tmp_path, shell(source))
    assert outcome["files"] == {"stdout": 4, "events.ndjson": 4}


def test_a_silent_attempt_leaves_no_files_of_its_output(tmp_path: Path) -> None:
    _, guarded = run(tmp_path, shell("exit 3"))
    left = {path.name for path in guarded.directory.iterdir()}
    assert left == {"spec.json", "guardian.lock", "events.ndjson", "outcome.json"}


@pytest.mark.parametrize(
    "make", ["mkfifo stdout", "mkdir stdout", "ln -s /dev/full stdout", ">stdout"]
)
def test_what_a_child_puts_in_the_place_of_its_output_is_not_written_to(
    tmp_path: Path, make: str
) -> None:
    said = "x" * 100_000
    source = f"cd {tmp_path}/attempt; {make}; printf {said[:50]}; head -c 100000 /dev/zero; exit 3"
    outcome, guarded = run(tmp_path, shell(source), cwd="/")
    assert (outcome["ended"], outcome["exit_code"]) == ("exited", 3)
    assert outcome["stdout"] == {"total": 100_050, "head": 0, "tail": 0}
    there = guarded.directory / "stdout"
    assert not there.is_file() or there.read_bytes() == b"", "the child's own, and left to it"


@pytest.mark.parametrize("name", ["outcome.json", "outcome.json.part"])
@pytest.mark.parametrize(
    "make", ["mkfifo {}", "mkdir {0} && touch {0}/x", "ln -s /dev/full {}", "touch {}"]
)
def test_what_a_child_puts_in_the_place_of_its_outcome_keeps_no_outcome_out(
    tmp_path: Path, make: str, name: str
) -> None:
    source = f"cd {tmp_path}/attempt; rm -f {name}; {make.format(name)}; exit 3"
    outcome, guarded = run(tmp_path, shell(source), cwd="/")
    assert (outcome["ended"], outcome["exit_code"]) == ("exited", 3)
    assert not (guarded.directory / "outcome.json").is_symlink()


def test_without_room_for_a_tail_only_the_head_is_kept(tmp_path: Path) -> None:
    outcome, guarded = run(tmp_path, shell("echo 0123456789"), head_max=4, tail_max=0)
    assert outcome["stdout"] == {"total": 11, "head": 4, "tail": 0}
    assert guarded.kept() == b"0123"


def test_a_flood_is_counted_whole_and_kept_in_part_with_little_memory(tmp_path: Path) -> None:
    source = "head -c 300000000 /dev/zero; printf end; printf '\\377\\376' >&2; touch flooded"
    guarded = Guarded(tmp_path, shell(source + "; while [ ! -e finish ]; do sleep 0.01; done"))
    guarded.process.go()
    until(tmp_path / "flooded")
    status = Path(f"/proc/{guarded.process.pid}/status").read_text()
    (tmp_path / "finish").touch()
    outcome = guarded.finished()
    assert outcome["stdout"] == {"total": 300_000_003, "head": 1 << 20, "tail": 1 << 20}
    assert guarded.kept().endswith(b"\0\0end")
    assert guarded.kept("stderr") == b"\xff\xfe"
    assert outcome["duration_ms"] < 15_000
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kib < 20_000


def test_a_full_disk_stops_the_keeping_and_not_the_counting(tmp_path: Path) -> None:
    directory = tmp_path / "attempt"
    guarded = Guarded(tmp_path, shell("head -c 5000000 /dev/zero; exit 3"))
    limit = 64 * 1024
    subprocess.run(["prlimit", f"--fsize={limit}", f"--pid={guarded.process.pid}"], check=True)
    guarded.process.go()
    outcome = guarded.finished()
    assert (outcome["exit_code"], outcome["stdout"]["total"]) == (3, 5_000_000)
    assert outcome["stdout"]["head"] == (directory / "stdout").stat().st_size == limit


def test_the_child_gets_a_clean_start(tmp_path: Path) -> None:
    source = """
import os
IGNORED = 1 << 12 | 1 << 24 | 1 << 31 | 1 << 32
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status") if ":\\t" in line)
print(sorted(os.listdir("/proc/self/fd"))[:4], os.read(0, 1), os.getsid(0) == os.getpid())
print(int(status["SigBlk"], 16), int(status["SigIgn"], 16) & ~IGNORED)
print(sorted(open("/proc/self/environ", "rb").read().split(b"\\0")))
"""
    environment = {"PATH": "/bin", "WITH": "a\udcffb"}
    _, guarded = run(tmp_path, python(source), environment=environment)
    # Descriptor 3 is the listing's own; Python itself ignores SIGPIPE and SIGXFSZ, and the C
    # library now and then the two signals that it keeps to itself.
    assert guarded.kept().decode().splitlines() == [
        "['0', '1', '2', '3'] b'' True",
        "0 0",
        r"[b'', b'PATH=/bin', b'WITH=a\xffb']",
    ]


def test_nothing_starts_before_the_engine_says_so(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell("touch started"))
    guarded.process.leave()
    assert guarded.finished()["ended"] == "never_spawned"
    assert not (tmp_path / "started").exists()


def test_a_signal_before_the_start_prevents_it(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell("touch started"))
    guarded.send_signal(signal.SIGTERM)
    assert guarded.finished()["ended"] == "never_spawned"
    assert not (tmp_path / "started").exists()


SLOW = "touch started; trap 'exit 9' TERM; while [ ! -e finish ]; do sleep 0.01; done; echo did"


def test_the_engine_can_end_an_attempt_at_once(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell(SLOW))
    guarded.process.go()
    until(tmp_path / "started")
    guarded.process.end()
    outcome = guarded.finished()
    assert outcome["ended"] == "abandoned"


def test_an_attempt_whose_engine_died_goes_on_when_it_may(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell(SLOW), on_engine_death="adopt")
    guarded.process.go()
    until(tmp_path / "started")
    guarded.process.leave()
    (tmp_path / "finish").touch()
    outcome = guarded.finished()
    assert (outcome["ended"], outcome["exit_code"]) == ("exited", 0)
    assert guarded.kept() == b"did\n"


def test_an_attempt_whose_engine_died_ends_when_it_must(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell(SLOW), on_engine_death="end")
    guarded.process.go()
    until(tmp_path / "started")
    guarded.process.leave()
    assert guarded.finished()["ended"] == "abandoned"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_guardian_that_is_asked_to_end_ends_its_attempt_first(
    tmp_path: Path, number: signal.Signals
) -> None:
    guarded = Guarded(tmp_path, shell(SLOW))
    guarded.process.go()
    until(tmp_path / "started")
    guarded.send_signal(number)
    assert guarded.finished()["ended"] == "abandoned"


def test_the_direct_child_dies_with_its_guardian(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, shell("touch started; exec sleep 60"))
    guarded.process.go()
    until(tmp_path / "started")
    guarded.process.kill()
    guarded.await_end()
    deadline_s = time.monotonic() + LIMIT_S
    while carriers_of(f"{MARK}={guarded.mark}"):
        assert time.monotonic() < deadline_s


def test_a_guardian_says_which_process_it_is(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, ["true"])
    assert Path(f"/proc/{guarded.process.pid}/cwd").readlink() == guarded.directory
    assert guarded.process.start_ticks == process_start_ticks(guarded.process.pid) is not None
    guarded.process.leave()
    guarded.finished()


def test_the_guardian_imports_next_to_nothing() -> None:
    heavy = "{'json', 're', 'enum', 'typing', 'subprocess', 'pathlib', 'ctypes', 'msgspec'}"
    root = GUARDIAN.parents[2]
    source = (
        f"import sys; sys.path.append({str(root)!r}); import engine.executors.guarding.attempt;"
        f" print(sorted({heavy} & set(sys.modules)))"
    )
    told = subprocess.run(python(source), capture_output=True, check=True, text=True).stdout
    assert told == "[]\n"


def test_the_spec_is_read_without_the_quick_scanner_too(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"argv": ['a"b', "\udcff"], "timeout_s": 1.5, "none": None})
    quick = files.parsed(text)
    monkeypatch.setattr(files, "make_scanner", None)
    assert files.parsed(text) == quick == json.loads(text)


def test_processes_are_found_without_lists_of_children(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(shell("sleep 60 & echo; wait"), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        # Of this one alone: other tests of the same process may have some of their own.
        with_lists = set(tree.descendants(process.pid))
        real = os.path.exists

        def exists(path: str) -> bool:
            return not path.endswith("children") and real(path)

        monkeypatch.setattr(os.path, "exists", exists)
        without_lists = set(tree.descendants(process.pid))
        for pid in tree.descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
    assert len(with_lists) >= 1
    assert without_lists == with_lists


def test_a_listing_of_processes_shows_children_the_group_and_the_marked() -> None:
    listing = """
      1     0     1 Ss   /sbin/launchd
     50     1    50 Ss   guardian
     60    50    60 S    sh RUNOFF_ATTEMPT_ID=att_1
     61    60    60 S    sleep
     62     1    60 S    left its parent
     63     1    63 S    daemon A=1 RUNOFF_ATTEMPT_ID=att_1 B=2
     64     1    64 S    other RUNOFF_ATTEMPT_ID=att_10
     65    60    60 Z    dead
     66     1    66 S
    """
    found = tree.tree_in_listing(listing, 50, 60, "RUNOFF_ATTEMPT_ID=att_1")
    assert found == [(60, 60), (61, 60), (62, 60), (63, 63)]
