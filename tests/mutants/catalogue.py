"""The mutants that are listed in ``catalogue/*.toml``, one file for each file of rules.

A mutant is a few words of a source and what stands there instead.  Words that are not found exactly
once are an error: the rules have moved on, and the mutant must follow them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import msgspec

HOME = Path(__file__).parent.parent.parent
LISTS = Path(__file__).parent / "catalogue"


class Stale(Exception):
    """The words that a mutant replaces do not stand in the source exactly once."""


@dataclass(frozen=True)
class Mutant:
    """In ``path``, ``old`` becomes ``new`` at ``offset`` (found when it is made, if None).

    ``tests`` are the modules of which one must fail.  ``name`` says what is wrong, and is unique.
    """

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    offset: int | None = None

    def made(self, source: str) -> str:
        """``source`` with the bug in it.  Raises Stale."""
        if self.offset is not None:
            start = self.offset
            assert source.startswith(self.old, start), f"{self.name}: the source has moved"
        else:
            times = source.count(self.old)
            if times != 1:
                raise Stale(f"{self.name}: {self.old!r} stands {times} times in {self.path}")
            start = source.index(self.old)
        return source[:start] + self.new + source[start + len(self.old) :]


class _Row(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    old: str
    new: str
    tests: tuple[str, ...] = ()


class _List(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    tests: tuple[str, ...]
    mutant: list[_Row]


def listed(folder: Path = LISTS) -> list[Mutant]:
    """All of them, in the order of the files."""
    return [mutant for path in sorted(folder.glob("*.toml")) for mutant in _of(path)]


def modules_for(path: str, folder: Path = LISTS) -> tuple[str, ...]:
    """The test modules that answer for a file of rules; none for one that has no list."""
    lists = [_read(each) for each in sorted(folder.glob("*.toml"))]
    return {each.path: each.tests for each in lists}.get(path, ())


def stale(mutants: Sequence[Mutant], home: Path = HOME) -> list[str]:
    """What is wrong with mutants before any is tried: words that are gone, names that clash."""
    sources: dict[str, str] = {}
    found: list[str] = []
    names: set[str] = set()
    for mutant in mutants:
        if mutant.path not in sources:
            sources[mutant.path] = (home / mutant.path).read_text(encoding="utf-8")
        found += _problems(mutant, sources, names, home)
        names.add(mutant.name)
    return found


def _problems(
    mutant: Mutant, sources: Mapping[str, str], names: set[str], home: Path
) -> Iterator[str]:
    if mutant.name in names:
        yield f"{mutant.name}: the name is taken"
    if mutant.old == mutant.new:
        yield f"{mutant.name}: changes nothing"
    for test in mutant.tests:
        if not (home / test).exists():
            yield f"{mutant.name}: there is no {test}"
    try:
        compile(mutant.made(sources[mutant.path]), mutant.path, "exec")
    except Stale as error:
        yield str(error)
    except SyntaxError as error:
        yield f"{mutant.name}: {error}"


def _of(path: Path) -> Iterator[Mutant]:
    found = _read(path)
    for row in found.mutant:
        name = f"{path.stem}: {row.name}"
        yield Mutant(name, found.path, row.old, row.new, row.tests or found.tests)


@cache
def _read(path: Path) -> _List:
    return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _List)
