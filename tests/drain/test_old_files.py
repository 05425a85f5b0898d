"""Directories of attempts by their age: which are found, and what is removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

import pytest

from engine.executors.command import attempt_directory
from engine.executors.old_files import names_of, remove, untouched_since

SINCE_S = 1_000_000.0


def made(root: Path, attempt: str, at_s: float) -> Path:
    directory = attempt_directory(root, attempt)
    directory.mkdir(parents=True)
    (directory / "spec.json").write_text("{}")
    os.utime(directory, (at_s, at_s))
    return directory


def test_what_was_made_before_is_found_and_nothing_of_that_very_moment(tmp_path: Path) -> None:
    before = made(tmp_path, "before", SINCE_S - 1)
    made(tmp_path, "then", SINCE_S)
    made(tmp_path, "after", SINCE_S + 1)
    assert untouched_since(tmp_path, SINCE_S) == [before.name]


def test_files_and_links_are_no_directories_of_attempts(tmp_path: Path) -> None:
    own = made(tmp_path, "own", 0)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    file, link, broken = (own.with_name(name) for name in ("file", "link", "broken"))
    file.write_text("somebody's")
    link.symlink_to(elsewhere)
    broken.symlink_to(tmp_path / "nowhere")
    for each in (elsewhere, file):
        os.utime(each, (0, 0))
    assert untouched_since(tmp_path, SINCE_S) == [own.name]


def test_what_stands_above_the_attempts_is_not_looked_at(tmp_path: Path) -> None:
    own = made(tmp_path, "own", 0)
    (tmp_path / "blobs").mkdir()
    os.utime(tmp_path / "blobs", (0, 0))
    assert untouched_since(tmp_path, SINCE_S) == [own.name]
    assert untouched_since(tmp_path / "elsewhere", SINCE_S) == []


@pytest.mark.parametrize("gone", ["is_dir", "stat"])
def test_what_somebody_else_removes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    entries = [Entry(gone, "gone"), Entry("", "old")]
    made(tmp_path, "a", 0)

    def listed(path: Path) -> Listing:
        assert path == attempt_directory(tmp_path, "").parent
        return Listing(entries)

    monkeypatch.setattr(os, "scandir", listed)
    assert untouched_since(tmp_path, SINCE_S) == ["old"]


class Entry:
    """An entry of a folder that is gone when it is asked for ``fails``."""

    def __init__(self, fails: str, name: str) -> None:
        self._fails = fails
        self.name = name

    def is_dir(self, *, follow_symlinks: bool) -> bool:
        assert not follow_symlinks
        self._ask("is_dir")
        return True

    def stat(self, *, follow_symlinks: bool) -> os.stat_result:
        assert not follow_symlinks
        self._ask("stat")
        return os.stat_result((0,) * 10)

    def _ask(self, what: str) -> None:
        if what == self._fails:
            raise FileNotFoundError(self.name)


class Listing(list[Entry]):
    """What ``scandir`` gives."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def test_only_what_is_named_is_removed_whatever_is_missing(tmp_path: Path) -> None:
    first, second, third = (made(tmp_path, name, 0) for name in ("first", "second", "third"))
    assert names_of(tmp_path, ["first"]) == {first.name}
    remove(tmp_path, [first.name, "never there", third.name])
    assert [each.exists() for each in (first, second, third)] == [False, True, False]
