"""The cheap looks at output pass by no line in which a thorough look covers something."""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings, strategies as st

from engine.redaction import stream
from engine.redaction.covering import cover
from engine.redaction.kinds import KINDS
from engine.redaction.stream import WORDS
from tests.secrets import SECRETS, printed

CASES = [(kind, *case) for kind, cases in SECRETS.items() for case in cases]
SECRETS_PRINTED = [printed(*case).encode() for case in CASES]


RUN = re.compile(rb"[A-Za-z0-9_-]{16,}")


def thorough(data: bytes) -> list[tuple[int, int]]:
    """The lines with a word, a URL or a run that may be a secret, whatever else stands there."""
    lines: list[tuple[int, int]] = []
    end = 0
    for line in lines_of(data):
        start, end = end, end + len(line)
        named = any(word in line.lower() for word in WORDS) or (b"@" in data and b"://" in line)
        if named or any(may_be_secret(data, start + m.start(), m[0]) for m in RUN.finditer(line)):
            lines.append((start, end))
    return lines


def lines_of(data: bytes) -> list[bytes]:
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + [part for part in parts[-1:] if part]


def may_be_secret(data: bytes, start: int, run: bytes) -> bool:
    if not re.search(rb"[0-9]", run):
        return run.isupper() and len(run) <= 64
    if not re.fullmatch(rb"[0-9A-Fa-f-]+", run):
        return True
    before = data[max(0, start - 24) : start].lower()
    return re.search(rb"key|token|secret|bearer|authorization", before) is not None


def streamed(data: bytes, cuts: list[int]) -> tuple[bytes, dict[str, int]]:
    redactor = stream.Redactor()
    places = [0, *sorted(cuts), len(data)]
    parts = [redactor.feed(data[start:end]) for start, end in pairwise(places)]
    return b"".join(parts) + redactor.close(), redactor.counts


def cut_off(secret: bytes, at: int) -> bytes:
    return secret[at:]


def written(anchor: bytes, case: Callable[[bytes], bytes]) -> bytes:
    return case(anchor)


anchors = st.sampled_from([anchor.encode() for kind in KINDS for anchor in kind.anchors])
cases = st.sampled_from([bytes.lower, bytes.upper, bytes.title, bytes])
runs = st.one_of(
    st.binary(min_size=8, max_size=40).map(bytes.hex).map(str.encode),
    st.integers(10**15, 10**16 - 1).map(lambda number: b"%d" % number),
    st.uuids().map(lambda number: str(number).encode()),
    st.text("abcXYZ0189_-/+=.", min_size=14, max_size=120).map(str.encode),
)
glue = st.sampled_from([b"\n", b"\n", b"\r\n", b"\r", b" ", b"", b"=", b": ", b'"', b"_", b"-"])
words = st.sampled_from([b"key", b"token ", b"secret", b"@", b"://", b"a:b@c", b"\xff", b"disk-"])
pieces = st.one_of(
    st.sampled_from(SECRETS_PRINTED),
    st.builds(cut_off, st.sampled_from(SECRETS_PRINTED), st.integers(1, 40)),
    st.builds(written, anchors, cases),
    runs,
    glue,
    words,
)
outputs = st.lists(pieces, max_size=24).map(b"".join)


@settings(max_examples=300)
@given(data=outputs, final=st.booleans())
def test_what_is_covered_is_what_a_thorough_look_covers(data: bytes, final: bool) -> None:
    counts, expected = dict[str, int](), dict[str, int]()
    made = stream.covered_bytes(data, counts, final=final)
    assert made == cover(data, thorough(data), expected, final=final)
    assert counts == expected


@given(data=outputs, draw=st.data())
def test_so_it_is_wherever_the_output_is_cut(data: bytes, draw: st.DataObject) -> None:
    cuts = draw.draw(st.lists(st.integers(0, len(data)), max_size=6))
    made = streamed(data, cuts)
    with patch.object(stream, "suspicious", thorough):
        assert streamed(data, cuts) == made


@pytest.mark.parametrize("secret", SECRETS_PRINTED)
@pytest.mark.parametrize("filler", [b"0123456789abcdef\n", b"{'id': '0123456789abcdef'}\n"])
def test_a_secret_among_many_lines_is_covered(secret: bytes, filler: bytes) -> None:
    data = filler * 300 + secret + filler * 300
    counts, expected = dict[str, int](), dict[str, int]()
    made = stream.covered_bytes(data, counts)
    assert made == cover(data, thorough(data), expected, final=True)
    assert counts == expected != {}


def test_every_anchor_is_looked_for_behind_its_gate() -> None:
    by_case = {anchor: gate for gate, those in stream.ANCHORS for anchor in those}
    by_name = {anchor: gate for gate, those in stream.NAMES for anchor in those}
    assert all(gate in anchor for gate, anchor in zip(by_case.values(), by_case, strict=True))
    assert all(gate in anchor for gate, anchor in zip(by_name.values(), by_name, strict=True))
    for kind in KINDS[1:]:
        if kind.name == "url_password":
            continue  # looked for with its sign
        found = by_name if kind.any_case else by_case
        for anchor in map(str.encode, kind.anchors):
            named = any(word in anchor.lower() for word in WORDS)
            assert named or any(part in anchor for part in found), (kind.name, anchor)


rng = random.Random(1)
ORDINARY: dict[str, Callable[[], bytes]] = {
    "hexadecimal": lambda: b"0123456789abcdef\n",
    "digits": lambda: b"%016d\n" % rng.randrange(10**16),
    "uuids": lambda: b"%s\n" % str(uuid.UUID(int=rng.getrandbits(128))).encode(),
    "json": lambda: b'{"trace": "%032x", "msg": "done"}\n' % rng.getrandbits(128),
    "names": lambda: b"run_0123456789abcdef step_%016d done\n" % rng.randrange(10**16),
    "paths": lambda: b"tests/test_alpha_beta_gamma_%d.py::test_of_it PASSED\n" % rng.randrange(99),
}  # fmt: skip


@pytest.mark.parametrize("line", ORDINARY.values(), ids=ORDINARY.keys())
def test_ids_in_ordinary_output_cost_little(line: Callable[[], bytes]) -> None:
    data = b"".join(line() for _ in range(10_000))
    best_s = float("inf")
    for _ in range(3):
        start = time.process_time()
        stream.Redactor().feed(data)
        best_s = min(best_s, time.process_time() - start)
    assert len(data) / best_s > 12_000_000, "bytes a second, a third of what was measured"
