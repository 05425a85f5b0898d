"""The file ``run`` of a checkout: what it hands on, and where from."""

from __future__ import annotations

import subprocess
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HOME = Path(__file__).parents[2]


class Uncached(SourceFileLoader):
    """Leaves no folder of bytecode beside the file, where nothing else is to stand."""

    def set_data(self, *_written: Any, **_how: Any) -> None:
        pass


def loaded() -> ModuleType:
    spec = spec_from_loader("run", Uncached("run", str(HOME / "run")))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("command", "is_here"), [("runoff", True), ("demo", True), ("test", False)]
)
def test_files_that_are_named_are_those_of_whoever_calls_and_tests_those_of_the_checkout(
    command: str, is_here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, begun = loaded(), list[Path]()

    def set_up(_extra: str) -> int:
        return 0

    def started(_argv: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        begun.append(Path(options.get("cwd") or Path.cwd()))
        return subprocess.CompletedProcess([], 7)

    monkeypatch.setattr(module, "_set_up", set_up)
    monkeypatch.setattr(subprocess, "run", started)
    monkeypatch.chdir("/")
    assert module.main([command, "seed"]) == 7
    assert begun == [Path("/") if is_here else HOME]
