"""One attempt of a program under its guardian, and the proof that nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

from engine.executors.command import CommandExecutor, attempt_directory, workspace_directory
from engine.executors.port import Assignment, Executor, PhaseSheet, Report, Spawned, Watch

ROOT = Path(__file__).parents[2]
LIMIT_S = 30


def assigned(
    attempt_id: str, timeout_s: float = 20, grace_s: float = 0.3, **more: Any
) -> Assignment:
    sheet: dict[str, Any] = {"run_id": "run/../a", "phase_id": "p <1>", "tier_id": "T1"} | more
    return Assignment(
        session_id="s",
        attempt_id=attempt_id,
        sheet=PhaseSheet(phase_index=0, name="n", state="QUEUED", attempt=1, **sheet),
        timeout_s=timeout_s,
        grace_s=grace_s,
        deadline_us=1_767_225_600_900_000,
    )


class Attempt:
    """One attempt under test: runs it, and proves that nothing of it is left."""

    def __init__(self, root: Path, argv: tuple[str, ...], **options: Any) -> None:
        self.root = root
        self.attempt_id = f"att_{root.name}_{root.stat().st_ino}"
        self.executor = CommandExecutor(argv, files_root=root, **options)
        self.abandon = anyio.Event()
        self.spawned: list[Spawned] = []
        self.when_spawned: Callable[[], Awaitable[None]] | None = None

    @property
    def directory(self) -> Path:
        return attempt_directory(self.root, self.attempt_id)

    @property
    def workspace(self) -> Path:
        return workspace_directory(self.root, "run/../a")

    async def note(self, spawned: Spawned) -> None:
        self.spawned.append(spawned)
        if self.when_spawned is not None:
            await self.when_spawned()

    async def run(self, **changes: Any) -> Report:
        executor: Executor = self.executor
        watch = Watch(spawned=self.note, abandon=self.abandon)
        try:
            with anyio.fail_after(LIMIT_S):
                return await executor.run(assigned(self.attempt_id, **changes), watch)
        finally:
            assert self.left() == []

    def left(self) -> list[int]:
        """Living processes with the attempt's id in their environment or on their command line.

        Processes that shed the environment are known by their command line: the tests put the
        attempt's directory there.
        """
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    told = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if self.attempt_id.encode() in told or str(self.directory).encode() in told:
                    found.append(int(entry.name))
        return found

    def output(self) -> str:
        return (self.directory / "stdout").read_text()


async def run(root: Path, source: str, **changes: Any) -> tuple[Report, Attempt]:
    attempt = Attempt(root, ("sh", "-c", source))
    return await attempt.run(**changes), attempt
