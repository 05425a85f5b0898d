"""Diagnoses that another process takes ahead are those that the walk itself would take."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import IO, ClassVar, NamedTuple

import pytest
from msgspec.structs import replace

from engine.audit.ahead import END, Handed, tell_ahead
from engine.audit.audit import audit
from engine.audit.connection import connect
from engine.audit.diagnoses import NOTHING_TO_SAY, Ahead, Diagnoses, TakeAhead
from engine.audit.lines import read_lines
from engine.errors import LogUnreadable
from engine.events import AttemptFinished, PolicyAdopted
from engine.store.blobs import Blobs
from engine.store.location import Location, locate
from engine.triage.policy import Policy, policy_from_json
from tests.program import runoff

SCRIPT = """[
  {"run": "*-r2", "rc": 1, "state": "FAILED", "stderr": "KeyError: 'x' of {n}", "stdout": "a lot"},
  {"run": "*-r3", "rc": 1, "stderr": "prompt is too long: 9 tokens > 8 maximum"},
  {"state": "COMPLETE", "rc": 0, "events": 1}
]"""


class Log(NamedTuple):
    location: Location
    policy: Policy
    ends: list[tuple[int, AttemptFinished]]

    def diagnoses(self, ahead: TakeAhead | None = None) -> Diagnoses:
        return Diagnoses(Blobs(self.location.beside("files") / "blobs").get, ahead)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    folder: Path = tmp_path_factory.mktemp("ahead")
    (folder / "script.json").write_text(SCRIPT)
    assert runoff(folder, "seed", "--repeat", "6").returncode == 0
    runoff(folder, "drain", "--script", "script.json", "--virtual-time", "--workers", "3")
    location = locate(f"sqlite:///{folder}/b.db")
    connection = connect(location.path)
    lines = list(read_lines(connection))
    connection.close()
    adopted = next(line.event for line in lines if isinstance(line.event, PolicyAdopted))
    ends = [(line.pos, line.event) for line in lines if isinstance(line.event, AttemptFinished)]
    return Log(location, policy_from_json(adopted.policy_json), ends)


def told(log: Log) -> bytes:
    out = io.BytesIO()
    tell_ahead(log.location, out)
    return out.getvalue()


def test_what_is_told_ahead_is_what_the_walk_finds_itself(log: Log) -> None:
    alone, handed = log.diagnoses(), Handed(io.BytesIO(told(log) + END))
    with_help, given = log.diagnoses(handed.take), 0
    for pos, finished in log.ends:
        expected = alone.of(pos, finished, log.policy)
        assert not isinstance(expected, str)
        assert with_help.of(pos, finished, log.policy) == expected
        given += expected is not NOTHING_TO_SAY
    assert given > 1


def test_nothing_that_is_told_ahead_is_asked_for_again(log: Log) -> None:
    def read(digest: str) -> bytes | None:
        raise AssertionError(digest)

    with_help = Diagnoses(read, Handed(io.BytesIO(told(log) + END)).take)
    for pos, finished in log.ends:
        assert not isinstance(with_help.of(pos, finished, log.policy), str)


def always(known: Ahead) -> TakeAhead:
    return lambda _pos: known


def test_what_rests_on_other_settings_is_found_anew(log: Log) -> None:
    pos, finished = next(each for each in log.ends if each[1].ending == "failed")
    wrong = Ahead(pos=pos, detectors="standard-1", timeouts="session", found=NOTHING_TO_SAY)
    expected = log.diagnoses().of(pos, finished, log.policy)
    assert expected != NOTHING_TO_SAY
    for other in (wrong, replace(wrong, detectors="x", timeouts=log.policy.timeout_fingerprints)):
        assert log.diagnoses(always(other)).of(pos, finished, log.policy) == expected


def test_a_process_that_dies_leaves_the_rest_to_the_walk(log: Log) -> None:
    lines = told(log).splitlines(keepends=True)
    handed = Handed(io.BytesIO(lines[0]))
    alone, with_help = log.diagnoses(), log.diagnoses(handed.take)
    for pos, finished in log.ends:
        assert with_help.of(pos, finished, log.policy) == alone.of(pos, finished, log.policy)
    assert handed.rest() == b""


def test_what_stands_behind_the_diagnoses_is_kept_apart(log: Log) -> None:
    handed = Handed(io.BytesIO(told(log) + END + b"{}"))
    assert handed.take(2**62) is None
    assert handed.rest() == b"{}"


class Slow(Handed):
    """Reads nothing before somebody waits for it, or ``awaited`` is set."""

    made: ClassVar[list[Slow]] = []

    def __init__(self, pipe: IO[bytes]) -> None:
        self.awaited = threading.Event()
        self.made.append(self)
        super().__init__(pipe)

    def _empty(self, pipe: IO[bytes]) -> None:
        self.awaited.wait()
        super()._empty(pipe)

    def rest(self) -> bytes:
        self.awaited.set()
        return super().rest()


def test_an_audit_that_ends_early_closes_no_pipe_under_its_reader(
    log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broke: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", broke.append)
    monkeypatch.setattr("engine.audit.audit.Handed", Slow)
    copied = tmp_path / "b.db"
    whole = log.location.path.read_bytes()
    copied.write_bytes(whole.replace(b'{"type":"attempt.', b'{"\xff\xfepe":"attempt.'))
    with pytest.raises(LogUnreadable):
        audit(locate(f"sqlite:///{copied}"))
    (reader,) = Slow.made
    reader.rest()
    assert broke == []
