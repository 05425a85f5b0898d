"""A folder with one log under test, its witnesses and its engines, and what is true of them."""

from __future__ import annotations

import os
import shlex
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from engine.audit.audit import audit
from engine.audit.verify import verify
from engine.errors import RunoffError
from engine.store.location import Location, locate
from tests.harness.engine_process import ENGINE, HOME, EngineProcess, engine_argv
from tests.harness.processes import guardians, marked, wait_until

WITNESS = Path(__file__).with_name("witness.py")
GONE_WITHIN_S = 1.0
"""How long after its last word a process of an attempt may still be seen (L7)."""


@dataclass
class Place:
    """A backlog of ``phases`` in ``folder``, and engines that drain it one after the other.

    ``notes``: where witnesses note what they did, for what happens to the log to leave it alone; by
    default beside the log.  ``longest_s``: of a child.  ``family``: in how many of a hundred it
    leaves a process behind.
    """

    folder: Path
    phases: int = 200
    workers: int = 4
    longest_s: float = 0.3
    family: int = 10
    template: str = ENGINE
    notes: Path | None = None
    acknowledged: set[str] = field(default_factory=set[str])
    engines: list[EngineProcess] = field(default_factory=list[EngineProcess])

    def __post_init__(self) -> None:
        self.folder = self.folder.resolve()
        self.seen = self.notes or self.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("locks", "ran", "twice", "overlaps", "done", "out"):
            (self.seen / name).mkdir(parents=True)
        self.runoff("seed", "--repeat", str(-(-self.phases // 10))).check_returncode()

    @property
    def location(self) -> Location:
        """Where the log is."""
        return locate(f"sqlite:///{self.folder}/b.db")

    def runoff(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one other command on the log."""
        return subprocess.run(
            [sys.executable, "-m", "engine", *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=HOME,
            env={**os.environ, "DATABASE_URL": self.location.url},
        )

    def start(
        self, *more: str, environment: Mapping[str, str] | None = None, resume: bool | None = None
    ) -> EngineProcess:
        """Start an engine; ``more`` goes before its ``--``."""
        child = [sys.executable, "-I", "-S", str(WITNESS), str(self.seen)]
        child += [str(self.longest_s), str(self.family)]
        again = self.has_session() if resume is None else resume
        values = {
            "database": self.location.url,
            "workers": str(self.workers),
            "resume": shlex.join(["--resume", *more] if again else more),
            "child": shlex.join(child),
        }
        output = self.seen / "out" / f"{len(self.engines)}.out"
        engine = EngineProcess(engine_argv(self.template, values), output, environment)
        self.engines.append(engine)
        return engine

    def has_session(self) -> bool:
        """Whether there is one that could be resumed: begun, and not out of work."""
        try:
            found = self.rows(
                "SELECT json_extract(data, '$.because') FROM events WHERE type IN"
                " ('session.started', 'session.resumed', 'session.ended') ORDER BY pos DESC LIMIT 1"
            )
        except sqlite3.DatabaseError:
            return True  # it is damaged on purpose
        return bool(found) and found[0][0] != "nothing_eligible"

    def rows(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        """Ask the log."""
        with closing(sqlite3.connect(f"file:{self.location.path}?mode=ro", uri=True)) as log:
            return log.execute(sql, parameters).fetchall()

    def open_attempts(self) -> set[str]:
        """Attempts without a last word."""
        found = self.rows("SELECT attempt FROM open_attempts WHERE closed_pos IS NULL")
        return {str(attempt) for (attempt,) in found}

    def not_recovered(self) -> set[str]:
        """Open attempts of dead engines that the newest engine has not adopted."""
        found = self.rows(
            "SELECT o.attempt FROM open_attempts o JOIN events e ON e.pos = o.started_pos"
            " WHERE o.closed_pos IS NULL AND e.epoch < (SELECT max(epoch) FROM events)"
            " AND NOT EXISTS (SELECT 1 FROM events a WHERE a.attempt = o.attempt AND"
            " a.type = 'attempt.adopted' AND a.epoch = (SELECT max(epoch) FROM events))"
        )
        return {str(attempt) for (attempt,) in found}

    def lost_acknowledged(self) -> set[str]:
        """Commands that some engine acknowledged and the log does not hold."""
        for engine in self.engines:
            self.acknowledged |= engine.acknowledged()
        held = {str(name) for (name,) in self.rows("SELECT DISTINCT command_id FROM events")}
        return self.acknowledged - held

    def overlapping(self) -> list[str]:
        """Attempts that a witness saw beside another of their phase, or twice."""
        return [p.name for kind in ("overlaps", "twice") for p in (self.seen / kind).iterdir()]

    def unrecorded(self) -> set[str]:
        """Attempts that executed and of which the log knows no start, or says they never did."""
        sql = "SELECT attempt FROM events WHERE type = 'attempt.started'"
        started = {str(attempt) for (attempt,) in self.rows(sql)}
        sql = "SELECT attempt, data FROM events WHERE type = 'attempt.finished'"
        never = {str(a) for a, data in self.rows(sql) if '"error":"never_spawned' in str(data)}
        return {path.name for path in (self.seen / "ran").iterdir()} - (started - never)

    def left_behind(self) -> list[int]:
        """Processes of attempts that are closed, or that the log does not know, after a moment."""

        def stray() -> list[int]:
            found, still_open = marked(self.folder), self.open_attempts()
            return [pid for pid, attempt in found.items() if attempt not in still_open]

        before = set(stray())
        wait_until(lambda: not before & set(stray()), GONE_WITHIN_S)
        return sorted(before & set(stray()))

    def running(self) -> list[int]:
        """Everything that is left of any attempt here."""
        return sorted({*marked(self.folder), *guardians(self.folder)})

    def violations(self, *, audited: bool = True) -> list[str]:
        """What verify and audit find."""
        try:
            found = [f"verify: {v.what} @{v.pos}" for v in verify(self.location).violations]
            if audited:
                told = audit(self.location)
                if not told.ok:
                    found.append(f"audit: {told.findings} {told.differences} {told.unverifiable}")
        except RunoffError as error:
            return [str(error)]
        return found

    def succeeded(self) -> dict[tuple[str, str], int]:
        """How often each phase succeeded, as the log says."""
        rows = self.rows(
            "SELECT run, phase, sum(json_extract(data, '$.ending') = 'succeeded') FROM events"
            " WHERE type = 'attempt.finished' GROUP BY run, phase"
        )
        return {(str(run), str(phase)): int(str(count)) for run, phase, count in rows}

    def believed_in_silence(self) -> set[str]:
        """Attempts that count as done without the usage that every witness tells."""
        told = "SELECT attempt FROM events WHERE type = 'usage.recorded'"
        done = (
            "SELECT attempt FROM events WHERE type = 'attempt.finished'"
            " AND json_extract(data, '$.ending') = 'succeeded'"
        )
        return {str(attempt) for (attempt,) in self.rows(f"{done} AND attempt NOT IN ({told})")}

    def endings(self) -> dict[str, int]:
        """How many attempts ended in each way, those of dead engines with their reason."""
        rows = self.rows(
            "SELECT json_extract(data, '$.ending'), json_extract(data, '$.told.reason')"
            " FROM events WHERE type = 'attempt.finished'"
        )
        found = Counter[str]()
        for ending, reason in rows:
            why = f": {str(reason).partition(':')[0]}" if ending == "orphaned" else ""
            found[f"{ending}{why}"] += 1
        return found
