"""What a command prints may go nowhere; its work goes on, and nothing is printed into its files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, strategies as st

from engine.cli.streams import PATIENCE_S, Forgiving, forgiving, has_room
from engine.losses import Losses
from tests.program import runoff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and /proc")
RUNOFF = f"{sys.executable} -m engine"
CHILD = "-- sh -c 'sleep 0.2; ls -l /proc/self/fd >&2'"


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell with the database in ``folder``, and all streams into pipes."""
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "DATABASE_URL": f"sqlite:///{folder}/b.db"},
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("seeded")
    assert runoff(folder, "seed").returncode == 0
    return folder


@pytest.fixture
def backlog(seeded: Path, tmp_path: Path) -> Path:
    return shutil.copytree(seeded, tmp_path, dirs_exist_ok=True)


def endings(folder: Path) -> list[str]:
    listed = runoff(folder, "attempt", "list", "--json").stdout
    return [attempt["ending"] for attempt in json.loads(listed)]


@pytest.mark.parametrize("where", ["2>&-", "0<&- 1>&- 2>&-"])
def test_a_closed_stream_ends_no_drain(backlog: Path, where: str) -> None:
    drained = shell(backlog, f"{RUNOFF} drain --batch-size 2 {CHILD} {where}")
    assert drained.returncode == 4, drained.stderr
    assert endings(backlog) == ["succeeded"] * 2


@pytest.mark.parametrize(
    ("where", "form"), [("2>/dev/full", "json"), ("2> >(head -n 3 >/dev/null)", "words")]
)
def test_lines_that_nobody_takes_end_no_drain(backlog: Path, where: str, form: str) -> None:
    drained = shell(backlog, f"{RUNOFF} drain --log-format {form} --batch-size 3 {CHILD} {where}")
    assert drained.returncode == 4, drained.stderr
    assert "3 succeeded" in drained.stdout


@pytest.mark.parametrize(("ack", "reader"), [("", "true"), ("--ack-lines", "head -n 1")])
def test_a_reader_that_goes_away_costs_no_work(backlog: Path, ack: str, reader: str) -> None:
    line = f"set -o pipefail; {RUNOFF} drain {ack} --batch-size 3 {CHILD} | {reader}"
    drained = shell(backlog, line)
    assert drained.returncode == 4, drained.stderr
    assert "Traceback" not in drained.stderr
    assert "Exception ignored" not in drained.stderr
    assert ("ACK lines end here" in drained.stderr) == bool(ack)
    assert endings(backlog) == ["succeeded"] * 3


@contextmanager
def full_pipe() -> Generator[tuple[int, int]]:
    """A pipe, its ends to read from and to write to, that is full."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with suppress(BlockingIOError):
        while True:
            os.write(theirs, b"x" * 4096)
    os.set_blocking(theirs, True)
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


def emptied(reader: int) -> None:
    """Read what fills the pipe."""
    os.set_blocking(reader, False)
    with suppress(BlockingIOError):
        while os.read(reader, 65_536):
            pass
    os.set_blocking(reader, True)


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_a_reader_that_stops_reading_holds_up_no_drain(backlog: Path, stream: str) -> None:
    with full_pipe() as (_, full):
        line = f"{RUNOFF} drain --ack-lines --batch-size 3 -- true"
        drained = subprocess.run(
            line.split(),
            stdout=full if stream == "stdout" else subprocess.DEVNULL,
            stderr=full if stream == "stderr" else subprocess.DEVNULL,
            cwd=backlog,
            env={**os.environ, "DATABASE_URL": f"sqlite:///{backlog}/b.db"},
            timeout=60,
            check=False,
        )
    assert drained.returncode == 4
    assert endings(backlog) == ["succeeded"] * 3


def test_lines_that_a_full_pipe_did_not_take_are_counted_and_waited_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []

    def looked(descriptor: int, patience_s: float) -> bool:
        waited.append(patience_s)
        return has_room(descriptor, 0)

    monkeypatch.setattr("engine.cli.streams.has_room", looked)
    with full_pipe() as (reader, full):
        raw = Forgiving(full)
        assert raw.write(b"one\ntwo\n") == 8
        assert raw.write(b"three\n") == 6
        emptied(reader)
        assert raw.write(b"four\n") == 5
        assert raw.write(b"five\n") == 5
        assert os.read(reader, 100) == b"four\nfive\n"
    assert raw.lost == 3
    assert waited == [PATIENCE_S, 0, 0, PATIENCE_S]


def test_a_summary_that_finds_no_room_is_told_by_the_exit_code(backlog: Path) -> None:
    drained = shell(backlog, f"{RUNOFF} drain --json --batch-size 2 {CHILD} >/dev/full")
    assert drained.returncode == 74
    assert "the summary to standard output could not be written" in drained.stderr


def test_a_machine_that_starts_no_more_threads_is_told_of_in_one_line(backlog: Path) -> None:
    program = (
        "import threading\n"
        "from engine.cli.main import main\n"
        "from engine.errors import NO_THREAD\n"
        "def refuse(*_, **__): raise RuntimeError(NO_THREAD)\n"
        "threading._start_new_thread = threading._start_joinable_thread = refuse\n"
        "main()"
    )
    told = shell(backlog, f'{sys.executable} -c "{program}" run list')
    assert told.returncode == 74, told.stderr
    assert "limits of this user or machine are reached: can't start new thread" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_machine_that_gives_no_more_memory_is_told_of_in_one_line(backlog: Path) -> None:
    program = (
        "import engine.store.boards as boards\n"
        "from engine.cli.main import main\n"
        "def refuse(*_, **__): raise MemoryError\n"
        "boards.Board = refuse\n"
        "main()"
    )
    told = shell(backlog, f'{sys.executable} -c "{program}" run list')
    assert told.returncode == 74, told.stderr
    assert "limits of this user or machine are reached: out of memory" in told.stderr
    assert "Traceback" not in told.stderr


def test_a_reading_command_ends_quietly_when_its_reader_does(backlog: Path) -> None:
    listed = shell(backlog, f"{RUNOFF} log --json | true")
    assert "Traceback" not in listed.stderr
    assert "Exception ignored" not in listed.stderr


@pytest.mark.parametrize(
    "line", ["log --json", "verify --json", "why", "--help", "policy show default"]
)
def test_what_finds_no_room_to_be_printed_is_one_clear_error(backlog: Path, line: str) -> None:
    printed = shell(backlog, f"{RUNOFF} {line} >/dev/full")
    assert printed.returncode == 74
    assert "runoff: the disk is full: standard output could not be written." in printed.stderr
    assert "Traceback" not in printed.stderr
    assert "Exception ignored" not in printed.stderr


def test_what_a_terminal_has_no_letters_for_is_escaped(tmp_path: Path) -> None:
    assert runoff(tmp_path, "seed", "--run-id", "日本").returncode == 0
    listed = shell(tmp_path, f"PYTHONIOENCODING=latin-1 {RUNOFF} run list")
    assert listed.returncode == 0, listed.stderr
    assert r"\u65e5\u672c" in listed.stdout


def test_an_error_keeps_its_exit_code_when_its_words_find_no_room(backlog: Path) -> None:
    assert shell(backlog, f"{RUNOFF} drain --label '' 2>/dev/full").returncode == 2


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 2), (0, 1, 2)])
def test_no_file_of_ours_gets_the_number_of_a_standard_stream(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        f"import os\nfor number in {closed}: os.close(number)\n"
        "from engine.cli.streams import prepare\nprepare()\n"
        "own = open('own', 'w')\nos.system('exit 3')\n"
        "own.write(f'{own.fileno()} {[os.get_inheritable(n) for n in range(3)]}')\n"
    )
    subprocess.run([sys.executable, program], cwd=tmp_path, capture_output=True, check=True)
    number, inheritable = (tmp_path / "own").read_text().split(" ", 1)
    assert int(number) > 2
    assert inheritable == "[True, True, True]"


def test_lines_are_counted_that_a_full_file_did_not_take(tmp_path: Path) -> None:
    full, target = os.open("/dev/full", os.O_WRONLY), (tmp_path / "lines").open("wb")
    descriptor = os.dup(target.fileno())
    stream = forgiving(descriptor)
    raw = getattr(stream.buffer, "raw", None)
    assert isinstance(raw, Forgiving)
    stream.write("one\n")
    os.dup2(full, descriptor)
    stream.write("two\nthree\n")
    print("four", file=stream, flush=True)
    assert raw.lost == 3
    os.dup2(target.fileno(), descriptor)
    stream.write("five\n")
    assert (tmp_path / "lines").read_bytes() == b"one\nfive\n"
    close(full, target, descriptor)


def test_a_torn_line_is_lost_and_the_next_begins_on_its_own(tmp_path: Path) -> None:
    full, target = os.open("/dev/full", os.O_WRONLY), (tmp_path / "lines").open("wb")
    descriptor = os.dup(target.fileno())
    raw = Forgiving(descriptor)
    assert raw.write(b"one, and ") == 9
    os.dup2(full, descriptor)
    assert raw.write(b"more of it") == 10
    os.dup2(target.fileno(), descriptor)
    assert raw.write(b" and its end\ntwo\n") == 17
    assert raw.write(b"three\n") == 6
    assert raw.lost == 1
    assert (tmp_path / "lines").read_bytes() == b"one, and \ntwo\nthree\n"
    close(full, target, descriptor)


def close(full: int, target: BinaryIO, descriptor: int) -> None:
    os.close(full)
    os.close(descriptor)
    target.close()


@given(
    pieces=st.lists(
        st.tuples(st.sampled_from([b"a", b"bc", b"\n", b"d\n", b"e\nf"]), st.booleans())
    )
)
def test_every_line_is_whole_or_counted(pieces: list[tuple[bytes, bool]]) -> None:
    ours, theirs = os.pipe()
    full = os.open("/dev/full", os.O_WRONLY)
    descriptor = os.dup(theirs)
    raw = Forgiving(descriptor)
    for piece, fits in pieces:
        os.dup2(theirs if fits else full, descriptor)
        assert raw.write(piece) == len(piece)
    sent = b"".join(piece for piece, _ in pieces)
    for number in (full, descriptor, theirs):
        os.close(number)
    with os.fdopen(ours, "rb") as reader:
        arrived = reader.read()
    whole = sent.split(b"\n")[:-1]
    kept = arrived.split(b"\n")[:-1]
    assert len(whole) - raw.lost <= len(kept) <= len(whole)
    assert raw.lost <= len(whole)
    if all(fits for _, fits in pieces):
        assert arrived == sent
        assert raw.lost == 0


def test_losses_are_told_once_behind_the_first_line_that_is_taken() -> None:
    lost, told = 0, list[str]()

    def write(line: str, *, fits: bool) -> None:
        nonlocal lost
        told.append(line) if fits else None
        lost += not fits

    losses = Losses(lambda: lost)
    for line, fits in (("a", True), ("b", False), ("c", False), ("d", True), ("e", True)):
        losses.around(
            lambda line=line, fits=fits: write(line, fits=fits),  # type: ignore[misc]
            lambda lines: write(f"{lines} lost", fits=True),
        )
    assert told == ["a", "d", "2 lost", "e"]
    assert losses.lines == 2


def test_a_loss_whose_telling_is_lost_is_told_later() -> None:
    lost, told = 1, list[int]()

    def tell(lines: int) -> None:
        nonlocal lost
        told.append(lines)
        lost += len(told) == 1

    losses = Losses(lambda: lost)
    for _ in range(3):
        losses.around(lambda: None, tell)
    assert told == [1, 2]
