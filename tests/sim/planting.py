"""Planting: a few words in the source of a function are replaced, and it is compiled again.

A bug whose words do not stand in the source exactly once is refused: then the engine has moved on,
and the bug must follow it.
"""

from __future__ import annotations
import __future__

import importlib
import inspect
import textwrap
import types
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any


class Misplanted(Exception):
    """The words that a bug replaces are not there, or more than once."""


@dataclass(frozen=True)
class Change:
    """In ``place`` (``module:function`` or ``module:class.function``), ``old`` becomes ``new``."""

    place: str
    old: str
    new: str

    @contextmanager
    def made(self) -> Generator[None]:
        """While it lasts, the function is the changed one, wherever it is known already."""
        function = self._function()
        before, function.__code__ = function.__code__, self._changed(function)
        try:
            yield
        finally:
            function.__code__ = before

    def _function(self) -> types.FunctionType:
        module, _, path = self.place.partition(":")
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = inspect.getattr_static(found, name)
        found = inspect.unwrap(found) if callable(found) else found
        if isinstance(found, property):
            found = found.fget
        if not isinstance(found, types.FunctionType):
            raise Misplanted(f"{self.place} is no function")
        return found

    def _changed(self, function: types.FunctionType) -> types.CodeType:
        source = textwrap.dedent(inspect.getsource(function))
        if source.count(self.old) != 1:
            times = source.count(self.old)
            raise Misplanted(f"{self.old!r} stands {times} times in {self.place}")
        source = source.replace(self.old, self.new)
        start = inspect.getsourcelines(function)[1]
        flags = __future__.annotations.compiler_flag
        tree = compile(
            "\n" * (start - 1) + source,
            function.__code__.co_filename,
            "exec",
            flags=flags,
            dont_inherit=True,
        )
        return _code_of(tree, function.__name__)


def _code_of(tree: types.CodeType, name: str) -> types.CodeType:
    return next(
        const
        for const in tree.co_consts
        if isinstance(const, types.CodeType) and const.co_name == name
    )


@dataclass(frozen=True)
class Bug:
    """Something that somebody could get wrong.

    ``near``: where the search starts in the short run under pytest, for bugs that take long.
    """

    name: str
    changes: tuple[Change, ...]
    near: int = 0

    @contextmanager
    def planted(self) -> Generator[None]:
        """While it lasts, the engine has this bug."""
        with ExitStack() as stack:
            for change in self.changes:
                stack.enter_context(change.made())
            yield


def bug(name: str, place: str, old: str, new: str, near: int = 0) -> Bug:
    return Bug(name, (Change(place, old, new),), near)
