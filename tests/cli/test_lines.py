"""JSON lines of any length: what is cut off is counted, what is kept is the end."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given, strategies as st

from engine.cli import lines as reading
from engine.cli.lines import code_points, lines, whole_until


@pytest.fixture(autouse=True, scope="module")
def _short() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "WHOLE_BYTES_MAX", 64)
        patch.setattr(reading, "_KEPT_BYTES", 120)
        patch.setattr(reading, "LINE_BYTES_MAX", 20_000)
        yield


def read(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(cast("io.RawIOBase", io.BytesIO(data)), 17)


pieces = st.sampled_from(
    ["a", '"', "\\", "\n", "é", "🎉", "\ud800", "\udc00", "x" * 9, "/", "{", ":", "\x00", "u0041"]
)
texts = st.lists(pieces, max_size=400).map("".join)
objects = st.dictionaries(
    st.sampled_from(["id", "stdout", "stderr", "n"]),
    texts | st.sampled_from([1, None, [1, 'a"b'], {"stdout": "z" * 300}]),
    min_size=1,
    max_size=3,  # what is kept of four long texts is more than may stand in a line of this size
)


@given(told=objects, escaped=st.booleans())
def test_what_is_left_is_the_end_and_what_is_cut_is_counted(
    told: dict[str, Any], *, escaped: bool
) -> None:
    try:
        data = json.dumps(told, ensure_ascii=escaped).encode()
    except UnicodeEncodeError:
        data = json.dumps(told).encode()
    told = json.loads(data)
    (line,) = lines(read(data + b"\n"))
    assert line.problem is None
    kept = json.loads(line.data)
    assert list(kept) == list(told)
    for key, value in told.items():
        if isinstance(value, str):
            assert value[line.dropped.get(key, 0) :] == kept[key]
            assert key not in line.dropped or len(kept[key]) >= 10


@given(text=texts, cut=st.integers(0, 3000))
def test_no_character_is_cut_in_two(text: str, cut: int) -> None:
    data = json.dumps(text).encode()[1:-1]
    first = data[: cut % (len(data) + 1)]
    end = whole_until(first)
    assert code_points(data[:end]) + code_points(data[end:]) == code_points(data)
    assert json.loads(b'"' + data[:end] + b'"') is not None


def test_blank_lines_are_skipped_and_numbers_go_on() -> None:
    found = lines(read(b'{"a":1}\n\n  \n{"b":2}'))
    assert [(line.number, line.data.strip()) for line in found] == [
        (1, b'{"a":1}'),
        (4, b'{"b":2}'),
    ]


def test_a_line_that_is_too_long_is_skipped_to_its_end() -> None:
    data = b'{"a":"' + b"x" * 30_000 + b'"}\n{"b":2}\n'
    first, second = lines(read(data))
    assert (first.data, second.data) == (b"", b'{"b":2}\n')
    assert "longer than" in (first.problem or "")


def test_too_much_beside_texts_is_a_problem_too() -> None:
    (line,) = lines(read(b'{"a":[' + b"1," * 2000 + b"1]}\n"))
    assert "beside its texts" in (line.problem or "")
