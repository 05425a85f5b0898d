"""Kill rounds: an engine is ended in every way there is, and the next one must make it good."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.harness import shim
from tests.harness.engine_process import ENGINE, EngineProcess
from tests.harness.place import Place
from tests.harness.processes import guardian_servers, kill_tree, strike
from tests.harness.tally import Tally

WORK_S = 1.0
"""At most so long an engine works before something happens to it."""

RECOVERIES_MAX = 3
PAUSE_S = 0.5
WRITES_MAX = 400


@dataclass
class Rounds:
    """Rounds in one folder after the other, each with a fresh log, until ``rounds`` are made."""

    folder: Path
    rounds: int
    seed: int
    template: str = ENGINE
    phases: int = 200
    workers: int = 4
    audited: bool = True
    kinds: tuple[str, ...] = ()
    tell: Callable[[str], None] = lambda _line: None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._ways: dict[str, Callable[[Place, EngineProcess], None]] = {
            "leader": lambda _place, engine: engine.kill(),
            "group": lambda _place, engine: engine.kill_group(),
            "tree": _tree,
            "recovery": self._recovery,
            "second": self._second,
            "pause": lambda _place, engine: self._pause(engine),
            "term": self._term,
            "server": self._server,
            "write": lambda _place, _engine: None,
            "end": lambda _place, engine: engine.kill(),
        }
        missing = shim.why_not()
        if missing:
            del self._ways["write"]
            self.tally.skipped["write"] = missing
        self._order = list(self.kinds or self._ways)
        self._next: list[str] = []

    def run(self) -> Tally:
        """Make all the rounds."""
        number = 0
        while sum(self.tally.rounds.values()) < self.rounds:
            place = Place(
                self.folder / f"place-{number}", self.phases, self.workers, template=self.template
            )
            try:
                self._in_place(place)
            finally:
                kill_all(place)
            if self.tally.ok:
                shutil.rmtree(place.folder)
            number += 1
        return self.tally

    def _in_place(self, place: Place) -> None:
        """Rounds until the backlog is drained, then the last word on this place."""
        while sum(self.tally.rounds.values()) < self.rounds:
            if not self._round(place):
                break
        self._conclude(place)

    def _kind(self) -> str:
        if not self._next:
            self._next = self._random.sample(self._order, len(self._order))
        return self._next.pop()

    def _round(self, place: Place) -> bool:
        """One engine from its start to its violent end; false when the backlog is drained."""
        kind = self._kind()
        engine = place.start(
            *(["--on-restart", "end"] if kind == "end" else []), environment=self._faults(kind)
        )
        where = f"seed {self.seed} round {sum(self.tally.rounds.values())} {kind}"
        ready_s = engine.ready_s()
        if ready_s is not None:
            self.tally.ready_s.append(ready_s)
            self.tally.found("left_open", place.not_recovered(), where)
            self.tally.found("left_behind", place.left_behind(), where)
        elif kind != "write":
            self.tally.found("misbehaved", [f"never ready: {engine.complaint()}"], where)
            engine.kill()
            return False
        code = engine.wait(10 if kind == "write" else self._random.uniform(0.02, WORK_S))
        if code is None:
            self._ways[kind](place, engine)
            if engine.is_running:
                engine.kill()
        elif code not in (0, -signal.SIGKILL):
            self.tally.found("misbehaved", [f"exit {code}: {engine.complaint()}"], where)
        self.tally.rounds[kind] += 1
        self._check(place, where)
        self.tell(where)
        return code != 0

    def _faults(self, kind: str) -> Mapping[str, str]:
        if kind != "write":
            return {}
        at = self._random.randrange(1, WRITES_MAX)
        return shim.environment(shim.built(self.folder), Path("/b.db"), "kill", at)

    def _check(self, place: Place, where: str) -> None:
        tally = self.tally
        tally.found("acknowledged_lost", place.lost_acknowledged(), where)
        tally.found("overlapping", place.overlapping(), where)
        tally.found("executed_unrecorded", place.unrecorded(), where)
        tally.found("violations", place.violations(audited=self.audited), where)

    def _recovery(self, place: Place, engine: EngineProcess) -> None:
        """Everything goes, and then the engines that should make it good go, too."""
        kill_tree(engine.pid, place.folder) if self._random.random() < 0.5 else engine.kill()
        engine.process.wait()
        for _ in range(self._random.randint(1, RECOVERIES_MAX)):
            again = place.start()
            again.wait(self._random.uniform(0.2, 1.2))
            again.kill()

    def _second(self, place: Place, engine: EngineProcess) -> None:
        """Another engine is refused and harms nothing."""
        other = place.start()
        code = other.wait()
        # The first may have drained the backlog in the meantime and be about to end, well and by
        # itself; then this one finds none.  Of two at once the older one would be overtaken.
        if code != 75 and engine.wait() != 0:
            self.tally.found("misbehaved", [f"second engine: {code} {other.complaint()}"], "second")
        engine.kill()

    def _pause(self, engine: EngineProcess) -> None:
        strike(engine.pid, signal.SIGSTOP)
        engine.wait(self._random.uniform(0.05, PAUSE_S))
        strike(engine.pid, signal.SIGCONT)
        engine.wait(self._random.uniform(0.02, WORK_S))

    def _server(self, place: Place, engine: EngineProcess) -> None:
        """What guardians are forked from goes, again and again; the engine works on, ends well."""
        for _ in range(self._random.randint(1, RECOVERIES_MAX)):
            for pid in guardian_servers(engine.pid):
                strike(pid, signal.SIGKILL)
            engine.wait(self._random.uniform(0.02, 0.3))
        if engine.is_running:
            self._term(place, engine)

    def _term(self, place: Place, engine: EngineProcess) -> None:
        """A polite end: running attempts finish, and nothing is left open."""
        self.tally.term_s.append(terminated_s(engine))
        code = engine.process.returncode
        if code != 0:
            self.tally.found("misbehaved", [f"after TERM: {code} {engine.complaint()}"], "term")
        self.tally.found("left_open", place.open_attempts(), "term")
        self.tally.found("left_behind", place.running(), "term")

    def _conclude(self, place: Place) -> None:
        """One more engine, ended politely: nothing may be open or running after it."""
        engine = place.start()
        if engine.ready_s() is None:
            self.tally.found("misbehaved", [f"at the end: {engine.complaint()}"], "end")
        terminated_s(engine)
        self.tally.found("left_open", place.open_attempts(), "end")
        self.tally.found("left_behind", place.running(), "end")
        self._check(place, "end")
        self.tally.endings.update(place.endings())
        self.tally.acknowledged += len(place.acknowledged)


def terminated_s(engine: EngineProcess) -> float:
    """Ask an engine to end; how long it took."""

    began_s = monotonic()
    strike(engine.pid, signal.SIGTERM)
    if engine.wait() is None:
        engine.kill()
    return monotonic() - began_s


def kill_all(place: Place) -> None:
    """Leave nothing of a place, however it ended."""
    for engine in place.engines:
        kill_tree(engine.pid, place.folder) if engine.is_running else None
        engine.process.wait()
    for pid in place.running():
        strike(pid, signal.SIGKILL)


def _tree(place: Place, engine: EngineProcess) -> None:
    kill_tree(engine.pid, place.folder)
    engine.process.wait()
