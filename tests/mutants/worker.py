"""``python -m tests.mutants.worker``: tries mutants in the folder it stands in, one a line.

What takes long to import and is never changed is imported once; every mutant is tried in a fork.
Reads and writes JSON lines; whatever the tests print goes to a file.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import hypothesis
import msgspec
import pytest

import engine.events

CPU_S_MAX = 20
"""A mutant that goes round for ever is seen by that, too."""
MEMORY_BYTES_MAX = 4 << 30
EXAMPLES = 40
OUTPUT = "mutant-output.txt"
_WARM = """
import asyncio
from hypothesis import given, strategies as st
@given(st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.booleans())))
def test_it(them):
    assert len(them) >= 0
"""
OPTIONS = (
    *("-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),
)


class Task(msgspec.Struct):
    """``source`` stands in ``path`` while ``tests`` run; ``path`` None runs them as it is."""

    tests: tuple[str, ...]
    path: str | None = None
    source: str = ""


class Answer(msgspec.Struct):
    """``code``: of pytest, or minus the signal that ended it.  ``said``: the failure's own line."""

    code: int
    said: str
    took_s: float


def main() -> None:
    """Answer every line until there is none."""
    assert Path(engine.events.__file__).is_relative_to(Path.cwd()), "not the copy's own rules"
    _warm_up()
    for line in sys.stdin:
        answer = tried(msgspec.json.decode(line, type=Task))
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
        sys.stdout.flush()


def _warm_up() -> None:
    """Everything that pytest and its plugins import is imported before the first fork."""
    path = Path("test_warm_up.py")
    path.write_text(_WARM, encoding="utf-8")
    before = os.dup(1)
    _speak_into(os.devnull)
    pytest.main([*OPTIONS, str(path)])
    sys.stdout.flush()  # or what it printed would go ahead of our first answer
    os.dup2(before, 1)
    os.close(before)


def _speak_into(path: str) -> None:
    sys.stdout.flush()
    output = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.close(output)


def tried(task: Task) -> Answer:
    """What the tests say of the source as it should not be."""
    began_s = time.monotonic()
    path = None if task.path is None else Path(task.path)
    before = b"" if path is None else path.read_bytes()
    try:
        if path is not None:
            path.write_text(task.source, encoding="utf-8")
        code = _forked(task.tests, fresh=path is None)
    finally:
        if path is not None:
            path.write_bytes(before)
    return Answer(code, _failure(), time.monotonic() - began_s)


def _forked(tests: tuple[str, ...], *, fresh: bool) -> int:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = _run(tests, fresh=fresh)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run(tests: tuple[str, ...], *, fresh: bool) -> int:
    _speak_into(OUTPUT)
    os.dup2(1, 2)
    for what, most in ((resource.RLIMIT_CPU, CPU_S_MAX), (resource.RLIMIT_AS, MEMORY_BYTES_MAX)):
        with suppress(ValueError, OSError):  # not every system lets itself be bounded
            resource.setrlimit(what, (most, most))
    # Only a run of the unchanged rules leaves bytecode behind, so that none can be of a mutant.
    sys.dont_write_bytecode = not fresh
    hypothesis.settings.register_profile(
        "mutants",
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutants")
    return int(pytest.main([*OPTIONS, "--tb=line", "-rfE", *tests]))


def _failure() -> str:
    lines = Path(OUTPUT).read_text(encoding="utf-8", errors="replace").splitlines()
    wanted = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return wanted[0] if wanted else (lines[-1] if lines else "")


if __name__ == "__main__":
    main()
