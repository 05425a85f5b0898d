"""Tables in plain text: every column begins in the same cell of a terminal."""

from __future__ import annotations

from engine.cli.render import aligned, cells_of, clean_lines, padded


def test_wide_letters_and_marks_do_not_shift_the_columns_behind_them() -> None:
    names = ["plain", "日本語", "e\u0301te\u0301", "ﬀ😀"]
    lines = aligned([[name, "|"] for name in names]).split("\n")
    assert {cells_of(line.partition("|")[0]) for line in lines} == {8}
    assert lines[1] == "日本語  |"
    assert lines[2] == "e\u0301te\u0301     |"


def test_what_is_too_long_is_not_cut() -> None:
    assert padded("日本", 3) == "日本"


def test_what_drives_a_terminal_is_escaped_and_lines_stay_lines() -> None:
    assert clean_lines("file /a\u202eb\n  try: \x1b[31m") == "file /a\\u202eb\n  try: \\x1b[31m"
