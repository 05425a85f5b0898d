"""Power cuts: what a disk held at a moment, mounted again, must hold all that was acknowledged.

The log stands on a file system in a file.  While the engine is stopped, that file is copied as the
device has it: writes that nobody had synced may be missing from it, as after a power cut.  The next
engine runs under another boot, as it would: what a folder does not show proves nothing then.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from tests.harness.engine_process import EngineProcess
from tests.harness.kill import kill_all
from tests.harness.place import Place
from tests.harness.processes import below, guardians, kill_tree, marked, strike, wait_until
from tests.harness.tally import Tally

MEBIBYTES = {"ext4": 96, "xfs": 320, "btrfs": 160}
"""The size of a disk, by its file system: little more than the least that each can do with."""

PHASES, WORKERS, LONGEST_S = 60, 6, 0.2
WORK_S = (0.05, 1.5)
GONE_S = 10
ENGINE_DIED = 0.3
"""The share of power cuts before which the engine had died already."""

_BOOTED = (
    "unshare --mount sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$@\"' sh "
)
"""In front of a command: a file that names the boot under which it runs."""


def why_not(folder: Path, file_system: str = "ext4") -> str | None:
    """Why there can be no power cuts here; None when there can."""
    missing = [
        name for name in (f"mkfs.{file_system}", "losetup", "unshare") if not shutil.which(name)
    ]
    if missing:
        return f"there is no {missing[0]}"
    folder.mkdir(parents=True, exist_ok=True)
    disk = Disk(folder / "trial", file_system)
    try:
        disk.make()
        disk.mount()
    except (subprocess.CalledProcessError, OSError):
        return "mounting a file as a disk needs root and loop devices"
    finally:
        disk.remove()
    return None


class Disk:
    """A file system in the file ``<name>.img``, mounted at ``<name>``."""

    def __init__(self, name: Path, file_system: str) -> None:
        self.place = name
        self._file_system = file_system
        self._image = name.with_suffix(".img")

    def make(self) -> None:
        """A fresh one."""
        self.place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(MEBIBYTES[self._file_system] * 1024 * 1024)
        _run(f"mkfs.{self._file_system}", "-q", str(self._image))

    def mount(self) -> None:
        """Attach it."""
        _run("mount", "-o", "loop", str(self._image), str(self.place))

    def cut(self) -> Path:
        """What the device has of it now."""
        copy = self._image.with_suffix(".cut")
        shutil.copyfile(self._image, copy)
        return copy

    def come_back(self, copy: Path) -> None:
        """Power again: only what was copied is left."""
        _run("umount", str(self.place))
        copy.replace(self._image)
        self.mount()

    def remove(self) -> None:
        """Leave nothing of it."""
        if self.place.is_mount():
            _run("umount", "-l", str(self.place))
        self._image.unlink(missing_ok=True)
        if self.place.is_dir():
            self.place.rmdir()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def powercut(
    folder: Path,
    rounds: int,
    seed: int,
    template: str,
    tell: Callable[[str], None] = lambda _line: None,
    *,
    file_system: str = "ext4",
) -> Tally:
    """``rounds`` power cuts under running engines, each followed by a recovery."""
    tally, chance = Tally(), random.Random(seed)
    missing = why_not(folder / "why", file_system)
    if missing:
        tally.skipped["powercut"] = missing
        return tally
    number = 0
    while sum(tally.rounds.values()) < rounds:
        disk = Disk(folder / f"disk-{number}", file_system)
        number += 1
        try:
            disk.make()
            disk.mount()
            _on_disk(disk, rounds, chance, tally, template)
        finally:
            disk.remove()
        tell(f"seed {seed}: {sum(tally.rounds.values())} power cuts")
    return tally


def _on_disk(disk: Disk, rounds: int, chance: random.Random, tally: Tally, template: str) -> None:
    """Cuts until the backlog is drained or there were enough, then the last word."""
    notes = disk.place.with_name(f"{disk.place.name}-notes").resolve()
    boot = disk.place.with_name(f"{disk.place.name}-boot").resolve()
    template = _BOOTED.format(shlex.quote(str(boot))) + template
    place = Place(disk.place / "place", PHASES, WORKERS, LONGEST_S, 5, template, notes=notes)
    try:
        while sum(tally.rounds.values()) < rounds:
            _boot_anew(boot, chance)
            where = f"power cut {sum(tally.rounds.values())}"
            engine = place.start()
            ready_s = engine.ready_s()
            if ready_s is None:
                tally.found("misbehaved", [engine.complaint()], where)
                return
            tally.ready_s.append(ready_s)
            tally.found("left_open", place.not_recovered(), where)
            if engine.wait(chance.uniform(*WORK_S)) is not None:
                break
            alone = chance.random() < ENGINE_DIED
            if alone:
                _let_guardians_end(place, engine)
            _cut(disk, place, engine)
            tally.rounds["engine dead" if alone else "powercut"] += 1
            tally.found("acknowledged_lost", place.lost_acknowledged(), where)
            tally.found("violations", place.violations(), where)
            tally.found("violations", place.believed_in_silence(), where)
        _boot_anew(boot, chance)
        engine = place.start()
        if engine.wait() != 0:
            tally.found("misbehaved", [engine.complaint()], "end")
        tally.found("left_open", place.open_attempts(), "end")
        tally.found("overlapping", place.overlapping(), "end")
        tally.found("executed_unrecorded", place.unrecorded(), "end")
        tally.found("violations", place.violations(), "end")
        tally.found("violations", place.believed_in_silence(), "end")
        tally.acknowledged += len(place.acknowledged)
        tally.endings.update(place.endings())
    finally:
        kill_all(place)


def _boot_anew(boot: Path, chance: random.Random) -> None:
    """Whatever starts from here on runs under a boot of its own."""
    boot.write_text(f"{UUID(int=chance.getrandbits(128))}\n")


def _let_guardians_end(place: Place, engine: EngineProcess) -> None:
    """The engine is killed before: its guardians leave outcomes that no engine has read yet.

    What was written by then is synced, as it is after a while: the outcomes and what they rest on
    reach the disk, or do not, on their own.
    """
    place.acknowledged |= engine.acknowledged()
    strike(engine.pid, signal.SIGKILL)
    engine.process.wait()
    os.sync()
    wait_until(lambda: not place.running(), GONE_S)


def _cut(disk: Disk, place: Place, engine: EngineProcess) -> None:
    """The power fails: what was told stays told, what was not on the disk is gone."""
    everybody = {engine.pid, *below(engine.pid), *guardians(place.folder), *marked(place.folder)}
    for pid in everybody:
        strike(pid, signal.SIGSTOP)
    place.acknowledged |= engine.acknowledged()
    copy = disk.cut()
    kill_tree(engine.pid, place.folder)
    engine.process.wait()
    wait_until(lambda: not place.running(), GONE_S)
    disk.come_back(copy)
