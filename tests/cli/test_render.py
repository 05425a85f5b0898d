"""Tables in plain text: every column begins in the same cell of a terminal."""

from __future__ import annotations

import json
import sys

import click
import msgspec
import pytest

from engine.cli.render import (
    LINE_CHARS_MAX,
    aligned,
    as_json,
    broken,
    cells_of,
    clean_lines,
    fields,
    in_short,
    padded,
    table,
)


def test_wide_letters_and_marks_do_not_shift_the_columns_behind_them() -> None:
    names = ["plain", "日本語", "e\u0301te\u0301", "ﬀ😀"]
    lines = aligned([[name, "|"] for name in names]).split("\n")
    assert {cells_of(line.partition("|")[0]) for line in lines} == {8}
    assert lines[1] == "日本語  |"
    assert lines[2] == "e\u0301te\u0301     |"


IDS = ("nightly-import-customers", "att_01M8F2TDFS6ZDRAFDRJ53A7JAC")
TOLD = "The run is deprioritized because its sample failed without any usage. " * 2


@pytest.mark.parametrize(
    ("columns", "row", "is_drawn"),
    [
        (["run", "tokens"], [IDS[0], 7], True),
        (["run", "tokens", "why"], [IDS[0], 7, TOLD], True),
        (["run", "attempt", "exit_code", "yield_events"], [*IDS, 1, 0], False),
        (["run", "attempt", "exit_code", "why"], [*IDS, 1, TOLD], False),
    ],
)
def test_ids_are_whole_in_eighty_columns_texts_are_folded_and_what_does_not_fit_is_not_drawn(
    columns: list[str],
    row: list[object],
    is_drawn: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table("Runs", columns, [row])
    shown = click.unstyle(capsys.readouterr().out)
    assert ("┃" in shown) == is_drawn
    assert all(str(cell) in shown for cell in row if cell is not TOLD)
    assert all(name in shown for name in columns)
    assert not is_drawn or max(map(cells_of, shown.splitlines())) <= 80


def test_a_row_that_does_not_fit_is_broken_between_columns_everywhere_alike() -> None:
    lines = [["a", "b" * 7, "c"], ["x" * 9, "y", "z" * 30], ["1", "2", ""]]
    assert broken(lines, 18) == "\n".join(
        [
            *("a          bbbbbbb", "    c"),
            *(f"{'x' * 9}  y", f"    {'z' * 30}"),
            "1          2",
        ]
    )
    assert broken(lines, 80) == aligned(lines)


def test_what_is_too_long_is_not_cut() -> None:
    assert padded("日本", 3) == "日本"


def test_what_drives_a_terminal_is_escaped_and_lines_stay_lines() -> None:
    assert clean_lines("file /a\u202eb\n  try: \x1b[31m") == "file /a\\u202eb\n  try: \\x1b[31m"


def test_what_drives_a_terminal_is_escaped_in_json_and_says_the_same() -> None:
    found = {"a\x7f": "\x9b31m \u202e \U000e0001 \x1b[1m", "b": ["日本 é", 1.5, None]}
    text = as_json(found)
    assert text.isprintable()
    assert "日本 é" in text
    assert json.loads(text) == found


def test_json_that_was_stored_on_several_lines_is_shown_on_one() -> None:
    text = as_json({"data": msgspec.Raw(b'{\n\t"a": "\xc2\x9b",\r\n "b": 1}')})
    assert text.isprintable()
    assert json.loads(text) == {"data": {"a": "\x9b", "b": 1}}


@pytest.mark.parametrize("more", [0, 1, 100_000])
def test_of_a_line_that_is_too_long_both_ends_are_told(more: int) -> None:
    line = "a" + "x" * (LINE_CHARS_MAX - 2 + more) + "z"
    short = in_short(f"first\n{line}\nlast").split("\n")
    assert (short[0], short[2]) == ("first", "last")
    assert (short[1] == line) == (more == 0)
    assert short[1].startswith("ax")
    assert short[1].endswith("xz")
    assert len(short[1]) < LINE_CHARS_MAX + 50
    assert more == 0 or f"[… {more} characters …]" in short[1]


class Shown(msgspec.Struct):
    started_us: int = 1_767_225_600_000_000
    ended_us: int = 0
    limits: tuple[dict[str, object], ...] = ({"scope": "run\x1b", "limit": 6},)
    seen_in: tuple[str, ...] = ("r1", "r\x1b2")
    others: tuple[str, ...] = ()
    counts: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    host: str = ""
    attempts: int = 0
    stopped: str | None = None
    inner: dict[str, int] = msgspec.field(default_factory=lambda: {"until_us": 2**62})


def test_one_thing_is_shown_in_words_with_times_for_a_person() -> None:
    assert fields(Shown()).split("\n") == [
        "started_at      2026-01-01 00:00:00Z",
        'limits          {"scope":"run\\u001b","limit":6}',
        "seen_in         r1, r\\x1b2",
        "attempts        0",
        f"inner.until_at  {2**62} us",
    ]
