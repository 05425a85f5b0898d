"""The house rules that a machine can hold: lengths, names, and files in their rooms."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

HOME = Path(__file__).parent.parent
SHIPPED = sorted([*HOME.glob("engine/**/*.py"), *HOME.glob("projections/**/*.py")])
TESTS = sorted(HOME.glob("tests/**/*.py"))
LINES_MAX = 500
TEST_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
FUNCTION_LINES_MEDIAN = 10
BANNED = {"utils", "util", "helpers", "common", "manager", "base_classes", "misc"}


def lengths(path: Path) -> dict[str, int]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        f"{path.relative_to(HOME)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_no_file_outgrows_its_room() -> None:
    caps = [(path, LINES_MAX) for path in SHIPPED] + [(path, TEST_LINES_MAX) for path in TESTS]
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path, _ in caps}
    assert {str(path): lines[path] for path, cap in caps if lines[path] > cap} == {}


def test_functions_are_short() -> None:
    found = {name: n for path in SHIPPED for name, n in lengths(path).items()}
    assert {name: n for name, n in found.items() if n > FUNCTION_LINES_MAX} == {}
    assert median(found.values()) <= FUNCTION_LINES_MEDIAN


def test_no_room_has_a_name_that_says_nothing() -> None:
    assert [path for path in SHIPPED if BANNED & {path.stem, path.parent.name}] == []


def test_the_top_level_is_the_one_that_was_agreed() -> None:
    agreed = {"engine", "projections", "tests", "docs", "pyproject.toml", "README.md"}
    allowed = agreed | {"CHANGELOG.md", "LICENSE", "run"}
    tracked = HOME / ".git"
    made = {"dist", "build", "runoff-demo"}
    found = {p.name for p in HOME.iterdir() if not p.name.startswith(".")} - made
    assert tracked.exists() or found
    assert found <= allowed
    assert agreed <= found
