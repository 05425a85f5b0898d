"""Errors: the tree as it is drawn, an exit code each, and always a remedy."""

from __future__ import annotations

import ast
import inspect
import os
import re
from errno import EACCES, EAGAIN, EMFILE, ENOMEM
from pathlib import Path

import pytest

from engine import errors
from engine.errors import RunoffError, WrongDatabase, failed_below

HOME = Path(__file__).parent.parent.parent
TREE: list[type[RunoffError]] = sorted(
    (
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, RunoffError)
    ),
    key=lambda kind: kind.__name__,
)
DRAWN = {
    name: int(code) for name, code in re.findall(r"(\w+) +exit (\d+)", inspect.getdoc(errors) or "")
}


def test_every_error_stands_in_the_drawn_tree_with_its_exit_code() -> None:
    assert {kind.__name__: kind.exit_code for kind in TREE} == DRAWN


def test_the_drawn_branches_are_the_classes_branches() -> None:
    drawn = dict(_depths())
    assert drawn["RunoffError"] == drawn["AppendRefused"] == 0
    for kind in TREE:
        parent = kind.__mro__[1]
        if parent is RunoffError:
            assert drawn[kind.__name__] <= 1
        elif kind is not RunoffError:
            assert drawn[kind.__name__] == drawn[parent.__name__] + 1


def _depths() -> list[tuple[str, int]]:
    lines = (inspect.getdoc(errors) or "").splitlines()
    found = [re.match(r"([│├└─ ]*)(\w+) +exit", line) for line in lines]
    return [(match[2], len(match[1]) // 4) for match in found if match]


def test_an_exit_code_means_one_kind_of_thing() -> None:
    """Branches of the tree have codes of their own; only refusals share the general 1."""
    branches = [kind for kind in TREE if kind.__mro__[1] is RunoffError]
    codes = [kind.exit_code for kind in branches if kind.__name__ != "AppendRefused"]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes
    assert 1 not in codes


@pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)
def test_an_error_says_the_problem_and_then_the_remedy(kind: type[RunoffError]) -> None:
    error = kind("it broke.", remedy="mend it.")
    assert str(error) == "it broke.\n  try: mend it."
    assert isinstance(error, RunoffError)
    with pytest.raises(TypeError, match="remedy"):
        kind("it broke.")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_an_empty_database_is_named_with_its_counts() -> None:
    error = WrongDatabase.empty("sqlite:///b.db", runs=0, phases=0)
    assert "sqlite:///b.db holds 0 runs and 0 phases" in error.problem
    assert "--allow-empty-db" in error.remedy
    assert error.exit_code == 3


@pytest.mark.parametrize("number", [EAGAIN, EMFILE, ENOMEM])
def test_a_limit_that_is_reached_is_not_blamed_on_a_stream(number: int) -> None:
    told = failed_below(OSError(number, os.strerror(number)))
    assert "limits of this user or machine are reached" in told.problem
    assert os.strerror(number) in told.problem


def test_a_file_that_fails_is_named() -> None:
    assert "'/x'" in failed_below(OSError(EACCES, "Permission denied", "/x")).problem


def test_no_raise_site_leaves_problem_or_remedy_empty() -> None:
    names = {kind.__name__ for kind in TREE}
    sites = 0
    for path in [*HOME.glob("engine/**/*.py"), *HOME.glob("projections/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", None) not in names:
                continue
            sites += 1
            where = f"{path.relative_to(HOME)}:{node.lineno}"
            remedies = [k.value for k in node.keywords if k.arg in ("remedy", None)]
            assert len(remedies) == 1, where
            for text in [*node.args, *remedies]:
                assert not (isinstance(text, ast.Constant) and not text.value), where
    assert sites > 30
