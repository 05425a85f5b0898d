"""Copies of the rules and the tests, and workers that try mutants in them side by side."""

from __future__ import annotations

import compileall
import os
import py_compile
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tests.mutants.catalogue import HOME, Mutant
from tests.mutants.worker import Answer, Task

COPIED = ("engine", "projections", "tests")
TESTS_FAILED, NOT_COLLECTED = 1, 2


class Broken(Exception):
    """Tests that fail although nothing was changed prove nothing."""


class Result(NamedTuple):
    """What became of a mutant."""

    mutant: Mutant
    answer: Answer

    @property
    def killed(self) -> bool:
        """A test failed, or what was changed could not even be imported, or it went on for ever."""
        return self.answer.code in (TESTS_FAILED, NOT_COLLECTED) or self.answer.code < 0


class Worker:
    """One process in one copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sound: set[str] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.worker"],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "0"},
        )

    def try_out(self, mutant: Mutant) -> Result:
        """Whether its tests see ``mutant``; they must hold without it.  Raises Broken."""
        unknown = tuple(test for test in mutant.tests if test not in self._sound)
        if unknown:
            answer = self._ask(Task(unknown))
            if answer.code != 0:
                raise Broken(f"{', '.join(unknown)} without a mutant: {answer.said}")
            self._sound.update(unknown)
        source = (self._folder / mutant.path).read_text(encoding="utf-8")
        return Result(mutant, self._ask(Task(mutant.tests, mutant.path, mutant.made(source))))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, task: Task) -> Answer:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(task).decode() + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Broken("a worker ended on its own")
        return msgspec.json.decode(line, type=Answer)


@contextmanager
def workers(count: int) -> Generator[list[Worker]]:
    """That many workers, each in a copy of its own, which is gone afterwards."""
    with ExitStack() as stack:
        made: list[Worker] = []
        for _ in range(count):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
            _copy(folder)
            worker = Worker(folder)
            stack.callback(worker.close)
            made.append(worker)
        yield made


def results(mutants: Sequence[Mutant], jobs: int) -> Iterator[Result]:
    """Every mutant's result, as they come.  Raises Broken."""
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    done: queue.SimpleQueue[Result | Exception] = queue.SimpleQueue()
    for mutant in mutants:
        waiting.put(mutant)
    with workers(min(jobs, len(mutants))) as team:
        threads = [threading.Thread(target=_work, args=(each, waiting, done)) for each in team]
        for thread in threads:
            thread.start()
        try:
            for _ in mutants:
                found = done.get()
                if isinstance(found, Exception):
                    raise found
                yield found
        finally:
            _empty(waiting)
            for thread in threads:
                thread.join()


def _work(
    worker: Worker,
    waiting: queue.SimpleQueue[Mutant],
    done: queue.SimpleQueue[Result | Exception],
) -> None:
    while True:
        try:
            mutant = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            done.put(worker.try_out(mutant))
        except Exception as error:  # noqa: BLE001  it is raised again where the results are read
            done.put(error)
            return


def _empty(waiting: queue.SimpleQueue[Mutant]) -> None:
    while not waiting.empty():
        waiting.get_nowait()


def _copy(folder: Path) -> None:
    for name in COPIED:
        shutil.copytree(HOME / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOME / "pyproject.toml", folder)
    # Bytecode that is checked by its source's hash can never be that of a mutant.
    checked = py_compile.PycInvalidationMode.CHECKED_HASH
    for name in ("engine", "projections"):
        compileall.compile_dir(folder / name, quiet=2, invalidation_mode=checked)
