"""A limit counts in whatever frame a program prints it, and for no reason but its words."""

from __future__ import annotations

import json
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from engine.detect import Outcome, detectors

plain = detectors("standard-1")
WORDINGS = tomllib.loads(Path(__file__).with_name("limit_wordings.toml").read_text("utf-8"))
TEXTS: list[str] = [
    *WORDINGS["sample"].values(),
    *(text for texts in WORDINGS["met"].values() for text in texts),
]
NOISE = [
    "[2026-06-20 14:47:55] DEBUG: prompt=87137 completion=1481 max_tokens=4096",
    "tests/test_mod34.py::test_case_9 PASSED [ 91%]",
    "  context: 42% used, 9 turns left",
    "[2026-05-17 22:37:28] INFO: wrote src/mod85.py (+26 -35)",
    "",
    "[2026-03-24 11:57:47] WARNING: retrying step 7 after 19 s",
]
FRAMES: dict[str, Callable[[str], str]] = {
    "a log": lambda text: f"2026-01-02 10:11:12,123 - agent - ERROR - run failed: {text}",
    "a log of key=value": lambda text: f'time=2026-01-01T00:00:00Z level=ERROR msg="{text}"',
    "a log of a container": lambda text: f"backend-1   | 2025-04-27 - WARNING - {text}",
    "a workflow's annotation": lambda text: f"##[error]{text}",
    "a terminal's bullet": lambda text: f"  ⎿  {text}",
    "a terminal's box": lambda text: f"│ {text:<100} │",
    "noise": lambda text: "\n".join([*NOISE, *NOISE, text, *NOISE]),
    "a narrow terminal": lambda text: "\n".join(
        textwrap.wrap(text, 60, subsequent_indent="    ", break_long_words=False)
    ),
    "an exception of Node": lambda text: (
        f"Error: {text}\n    at h6.generate (file:///usr/lib/node_modules/@x/cli.js:1329:12782)"
    ),
    "a traceback": lambda text: (
        'Traceback (most recent call last):\n  File "/app/a.py", line 12, in run\n'
        f"    raise ProviderError(msg)\nProviderError: {text}"
    ),
    "a record": lambda text: json.dumps({"type": "error", "error": {"message": text}}),
    "a record, pretty": lambda text: json.dumps({"error": {"message": text, "n": 1}}, indent=2),
    "a record of events": lambda text: f"data: {json.dumps({'error': text})}",
    "a dict": lambda text: f"Error code: 400 - { ({'error': {'message': text, 'type': 'x'}})!r}",
    "an exception's repr": lambda text: f"caught RuntimeError({text!r})",
}
KINDS_MAY_DIFFER = 2
"""Of some two hundred texts so many may be told otherwise in a frame: quotes in quotes."""


def kind_in(text: str) -> str | None:
    hits = plain.boundary(
        Outcome(ended="exited", succeeded=False, final_state="FAILED", exit_code=1, stderr=text)
    )
    return hits[0].kind if hits and hits[0].disposition == "stopped_by" else None


@pytest.mark.parametrize("frame", FRAMES)
def test_a_limit_counts_in_every_frame(frame: str) -> None:
    different = [text for text in TEXTS[::3] if kind_in(FRAMES[frame](text)) != kind_in(text)]
    assert len(different) <= KINDS_MAY_DIFFER, different


@given(
    text=st.sampled_from(TEXTS),
    ids=st.tuples(*[st.text(max_size=12)] * 3),
    code=st.sampled_from([None, 1, 2, 137]),
)
def test_ids_and_exit_codes_change_no_verdict(
    text: str, ids: tuple[str, str, str], code: int | None
) -> None:
    plainly = Outcome(ended="exited", succeeded=False, final_state="FAILED", stdout=text)
    named = msgspec.structs.replace(
        plainly, run_id=ids[0], phase_id=ids[1], attempt_id=ids[2], exit_code=code
    )
    assert plain.boundary(plainly) == plain.boundary(named)


@given(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), data=st.data())
def test_every_hit_points_at_the_words_that_were_found(
    texts: list[str], data: st.DataObject
) -> None:
    breaks = st.sampled_from(["\n", "\r\n", "\n\x1b[31m", "\n\ud800 \x00\n", "\u2028\n"])
    stdout = "".join(text + data.draw(breaks) for text in texts)
    for hit in plain.boundary(
        Outcome(ended="exited", succeeded=False, final_state="FAILED", stdout=stdout)
    ):
        words = stdout[hit.start : hit.end]
        assert words.strip() == words
        assert words
        assert len(words) < 400
