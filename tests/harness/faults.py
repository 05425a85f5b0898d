"""Storage faults: an engine whose disk fails stops with a word, and the next one loses nothing."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from engine.store.anchors import last_anchor
from tests.harness import shim
from tests.harness.engine_process import ENGINE, EngineProcess
from tests.harness.kill import kill_all
from tests.harness.place import Place
from tests.harness.processes import wait_until
from tests.harness.tally import Tally

PHASES = 20
CALLS_MAX = 250
"""How far into an engine's life a fault may lie, in calls on the database's files."""

LOCK_WAIT = {"RUNOFF_LOCK_WAIT_SECONDS": "0.3"}
ACKS = 10
DISK = "size=6m"
ON_A_SMALL_DISK = ("really_full_then_freed", "read_only_disk")


class Misbehaved(Exception):
    """An engine did not do what it must."""


@dataclass
class Faults:
    """One fault a round, each on a fresh log."""

    folder: Path
    seed: int
    template: str = ENGINE
    tell: Callable[[str], None] = lambda _line: None
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._number = 0
        self.kinds: dict[str, Callable[[Place], None]] = {
            "write_fails_once": lambda place: self._disk(place, "once", "write"),
            "write_fails_from_then_on": lambda place: self._disk(place, "on", "write"),
            "sync_fails_once": lambda place: self._disk(place, "once", "sync"),
            "full_then_freed": self._full,
            "really_full_then_freed": self._really_full,
            "read_only_disk": self._read_only,
            "locked": self._locked,
            "replaced_while_running": self._replaced,
            "removed_while_running": self._removed,
            "anchors_missing": self._anchors_missing,
            "older_copy": self._older_copy,
            "wal_cut": self._wal_cut,
            "database_cut": self._database_cut,
            "page_overwritten": self._page_overwritten,
        }

    def run(self, rounds: int) -> Tally:
        """``rounds`` faults, every kind in turn."""
        names = list(self.kinds)
        for number in range(rounds):
            self.round(names[number % len(names)])
        return self.tally

    def round(self, kind: str) -> None:
        """One fault on a fresh log, and its cure."""
        missing = self.why_not(kind)
        if missing:
            self.tally.skipped[kind] = missing
            return
        where = f"seed {self.seed} round {self._number} {kind}"
        self._number += 1
        began_s = monotonic()
        with self._folder(kind) as folder:
            place = Place(folder / "place", PHASES, 4, 0.1, 0, self.template)
            try:
                self.kinds[kind](place)
            except Misbehaved as error:
                self.tally.found("misbehaved", [error], where)
            finally:
                kill_all(place)
            self.tally.rounds[kind] += 1
            self.tally.acknowledged += len(place.acknowledged)
            self.tell(f"{where}: {monotonic() - began_s:.1f} s")
            for name, found in (
                ("overlapping", place.overlapping()),
                ("left_behind", place.running()),
            ):
                self.tally.found(name, found, where)

    def why_not(self, kind: str) -> str | None:
        """Why a fault cannot be made here; None when it can."""
        if kind in ON_A_SMALL_DISK:
            return None if _can_mount(self.folder) else "mounting a small disk needs root"
        if kind.endswith(("once", "then_on")) or kind == "full_then_freed":
            return shim.why_not()
        return None

    @contextmanager
    def _folder(self, kind: str) -> Generator[Path, None, None]:
        folder = self.folder / f"fault-{self._number}"
        folder.mkdir(parents=True)
        small = kind in ON_A_SMALL_DISK
        if small:
            mount = ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(folder)]
            subprocess.run(mount, check=True)
        try:
            yield folder
        finally:
            if small:
                subprocess.run(["umount", "-l", str(folder)], check=True)
            if self.tally.ok:
                shutil.rmtree(folder)

    def _disk(self, place: Place, fault: shim.Fault, call: shim.Call) -> None:
        at = self._random.randrange(1, CALLS_MAX if call == "write" else CALLS_MAX // 4)
        library = shim.built(self.folder)
        engine = place.start(
            environment=shim.environment(library, _db(place), fault, at, call=call)
        )
        self._expect(engine, 74, 0)
        self._cured(place)

    def _full(self, place: Place) -> None:
        at = self._random.randrange(1, CALLS_MAX)
        freed = place.folder / "freed"
        library = shim.built(self.folder)
        engine = place.start(
            environment=shim.environment(library, _db(place), "full", at, call="write", freed=freed)
        )
        self._expect(engine, 74, 0, says="the disk is full")
        freed.touch()
        self._cured(place)

    def _really_full(self, place: Place) -> None:
        """A file grows until there is no room; children and guardians feel it, too."""
        engine = place.start()
        _working(place, engine)
        with (place.folder / "hog").open("wb") as hog:
            _fill(hog.fileno())
            self._expect(engine, 74, 0, says="the disk is full")
            again = place.start()
            self._expect(again, 74, says="the disk is full")
        (place.folder / "hog").unlink()
        # Children that failed alike for want of room may have stopped their run for the session.
        self._expect(place.start(), 0)
        self._cured(place)

    def _read_only(self, place: Place) -> None:
        """Nothing can be recorded, and everything can still be read."""
        self._killed(place)
        disk = str(place.folder.parent)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        try:
            if place.violations():
                raise Misbehaved(f"on a read-only disk: {place.violations()}")
            refused = place.runoff("drain", "--resume", "--", "true")
            if refused.returncode != 74 or "  try: " not in refused.stderr:
                raise Misbehaved(f"{refused.returncode} {refused.stderr}")
            self.tally.exits["74"] += 1
        finally:
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        self._cured(place)

    def _locked(self, place: Place) -> None:
        self.locked(place, LOCK_WAIT)

    def locked(self, place: Place, environment: Mapping[str, str]) -> None:
        """Another program begins to write and does not end before the engine does."""
        engine = place.start(environment=environment)
        _working(place, engine)
        with closing(sqlite3.connect(place.location.path, isolation_level=None)) as rival:
            rival.execute("PRAGMA busy_timeout = 20000")
            rival.execute("BEGIN IMMEDIATE")
            self._expect(engine, 75, 0, says="locked")
            rival.execute("ROLLBACK")
        self._cured(place)

    def _replaced(self, place: Place) -> None:
        """An older copy is moved over the database of a running engine, and then back."""
        newest, older = place.location.path, place.folder / "older.db"
        shutil.copyfile(newest, older)
        engine = place.start()
        _working(place, engine)
        kept = newest.with_name("kept.db")
        newest.rename(kept)
        older.rename(newest)
        self._expect(engine, 74, says="replaced or removed")
        kept.replace(newest)
        self._cured(place)

    def _removed(self, place: Place) -> None:
        engine = place.start()
        _working(place, engine)
        kept = place.folder / "kept.db"
        place.location.path.rename(kept)
        self._expect(engine, 74, says="replaced or removed")
        kept.rename(place.location.path)
        self._cured(place)

    def _anchors_missing(self, place: Place) -> None:
        self._killed(place)
        place.location.beside("anchors").unlink()
        found = verdict(place)
        if found.returncode or "anchors missing" not in found.stdout:
            raise Misbehaved(f"verify without anchors: {found.stdout}")
        told = place.runoff("run", "reinstate", "nobody", "--why", "x").stderr
        if "is missing" not in told:
            raise Misbehaved(f"nobody says that the anchors are missing: {told}")
        self._cured(place)

    def _older_copy(self, place: Place) -> None:
        older = place.folder / "older.db"
        self._killed(place)
        _checkpointed(place)
        shutil.copyfile(place.location.path, older)
        # An anchor may lag behind by a moment, and nothing else tells that a copy is older.
        self._killed(place, lambda: _anchored(place) > _head(older))
        _checkpointed(place)
        newest = place.folder / "newest.db"
        place.location.path.rename(newest)
        shutil.copyfile(older, place.location.path)
        self._refused(place, "cut short")
        newest.replace(place.location.path)
        self._cured(place)

    def _wal_cut(self, place: Place) -> None:
        """What a file system that lost its last writes leaves: fewer commits, or torn ones."""
        self._killed(place)
        wal = place.location.path.with_name("b.db-wal")
        whole = wal.read_bytes()
        wal.write_bytes(whole[: self._random.randrange(len(whole) // 2)])
        self._refused(place, "cut short")
        wal.write_bytes(whole)
        self._cured(place)

    def _database_cut(self, place: Place) -> None:
        self._killed(place)
        _checkpointed(place)
        whole = place.location.path.read_bytes()
        place.location.path.write_bytes(whole[: len(whole) // 2])
        self._refused(place, "cannot be read")
        place.location.path.write_bytes(whole)
        self._cured(place)

    def _page_overwritten(self, place: Place) -> None:
        """A page of the events holds something else, as after a stray write."""
        self._killed(place)
        _checkpointed(place)
        whole = place.location.path.read_bytes()
        at = whole.rindex(b'{"type":"attempt.started"') // 4096 * 4096
        broken = whole[:at] + self._random.randbytes(4096) + whole[at + 4096 :]
        place.location.path.write_bytes(broken)
        found = verdict(place)
        if found.returncode not in (5, 6):
            raise Misbehaved(f"verify took a broken page: {found.stdout}")
        place.location.path.write_bytes(whole)
        self._cured(place)

    def _killed(self, place: Place, when: Callable[[], bool] = lambda: True) -> None:
        engine = place.start()
        _working(place, engine)
        wait_until(when, 20, engine.pid)
        engine.kill()
        wait_until(lambda: not place.running(), 20)

    def _refused(self, place: Place, why: str) -> None:
        """Nobody goes on with what lacks something acknowledged, and verify names it."""
        with suppress(sqlite3.DatabaseError):
            if not place.lost_acknowledged():
                return  # the cut took only what nobody had been told of
            if _head(place.location.path) >= _anchored(place):
                return  # or what no anchor covers yet: one may lag behind by a moment
        self._expect(place.start(), 5)
        found = verdict(place)
        if found.returncode not in (5, 6) or why not in found.stdout + found.stderr:
            raise Misbehaved(f"verify: {found.returncode} {found.stdout}{found.stderr}")

    def _expect(self, engine: EngineProcess, *codes: int, says: str = "") -> None:
        """Raise Misbehaved unless it ends with one of ``codes``, and says why with a remedy."""
        code, said = engine.wait(), engine.complaint()
        self.tally.exits[str(code)] += 1
        if code not in codes:
            raise Misbehaved(f"exit {code} instead of {codes}: {said}")
        if code and not ("runoff: " in said and "  try: " in said and says in said):
            raise Misbehaved(f"exit {code} without a clear word: {said}")
        if "Traceback" in said:
            raise Misbehaved(said)

    def _cured(self, place: Place) -> None:
        """After its cure a log is whole, and its backlog is drained to the end."""
        where = f"seed {self.seed} round {self._number - 1}"
        self.tally.found("acknowledged_lost", place.lost_acknowledged(), where)
        self.tally.found("violations", place.violations(), where)
        engine = place.start()
        ready_s = engine.ready_s()
        if ready_s is not None:
            self.tally.ready_s.append(ready_s)
        self._expect(engine, 0)
        self.tally.found("left_open", place.open_attempts(), where)
        self.tally.found("acknowledged_lost", place.lost_acknowledged(), where)
        self.tally.found("violations", place.violations(), where)
        self.tally.endings.update(place.endings())
        missing = [phase for phase, times in place.succeeded().items() if times != 1]
        self.tally.found("misbehaved", missing, where)


def verdict(place: Place) -> subprocess.CompletedProcess[str]:
    """``runoff verify``, as a person runs it."""
    return place.runoff("verify")


def _working(place: Place, engine: EngineProcess) -> None:
    """Until the engine has acknowledged some of its work."""
    wait_until(lambda: len(engine.acknowledged()) >= ACKS, 30, engine.pid)
    if not engine.is_running and engine.process.returncode != 0:
        raise Misbehaved(engine.complaint())


def _checkpointed(place: Place) -> None:
    """Everything in the database file itself, as after a clean end."""
    with closing(sqlite3.connect(place.location.path)) as log:
        log.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _anchored(place: Place) -> int:
    """The last position that an anchor holds."""
    last = last_anchor(place.location.beside("anchors"))
    return 0 if last is None else last.pos


def _head(database: Path) -> int:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as log:
        return int(log.execute("SELECT coalesce(max(pos), 0) FROM events").fetchone()[0])


def _db(place: Place) -> Path:
    return place.location.path


def _fill(descriptor: int) -> None:
    for size in (65536, 4096, 1):
        while True:
            try:
                if os.write(descriptor, bytes(size)) < size:
                    break
            except OSError:
                break


def _can_mount(folder: Path) -> bool:
    there = folder / "mountable"
    there.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", DISK, "tmpfs", str(there)], check=False, capture_output=True
    )
    if mounted.returncode == 0:
        subprocess.run(["umount", str(there)], check=True)
    return mounted.returncode == 0
