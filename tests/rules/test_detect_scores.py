"""How right the detectors are on labelled development data, where that is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.detect import detectors
from engine.detect.contract import REQUESTS, Kind, answer
from tests.detectors.scores import Pair, boundary_scores, fingerprint_scores, zero_yield_scores

DATA = Path(__file__).parents[3] / "shared" / "data" / "detectors"


def answered(kind: Kind, name: str) -> list[Pair]:
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()
    ]
    chosen = detectors("standard-1")
    return [(row, answer(msgspec.convert(row, REQUESTS[kind]), chosen, {})) for row in rows]


@pytest.mark.parametrize("name", ["dev_boundary.jsonl", "dev_boundary_composite.jsonl"])
def test_boundaries_are_right_on_what_they_were_made_with(name: str) -> None:
    scores = boundary_scores(answered("boundary", name))
    assert scores["boolean"]["f1"] >= 0.97
    assert scores["kinds"]["macro_f1"] >= 0.95
    assert scores["spans_valid"] == 1.0
    wrong, _ = scores["recovered_called_a_stop"]
    assert wrong == 0


def test_zero_yield_reasons_are_right_on_what_they_were_made_with() -> None:
    scores = zero_yield_scores(answered("zero-yield", "dev_zero_yield.jsonl"))
    assert scores["macro_f1"] >= 0.97


def test_fingerprints_are_right_on_what_they_were_made_with() -> None:
    scores = fingerprint_scores(answered("fingerprint", "dev_fingerprint.jsonl"))
    assert scores["pair_f1"] >= 0.93
    assert scores["precision"] >= 0.995
    assert scores["near_misses_apart"] >= 0.999


def row(kind: str, *, alt: tuple[str, ...] = (), trap: str | None = None) -> dict[str, Any]:
    return {"stdout": "abc", "label": {"kind": kind, "alt": list(alt), "trap": trap}}


def told(kind: str, disposition: str | None = "stopped_by", *, text: str = "b") -> dict[str, Any]:
    evidence = {"stream": "stdout", "start": 1, "end": 2, "text": text}
    return {"kind": kind, "disposition": disposition, "evidence": evidence}


def test_scores_count_alternatives_as_right_and_blurred_rows_not_at_all() -> None:
    scores = boundary_scores([
        (row("max_turns"), told("max_turns")),
        (row("quota", alt=("rate_limit",)), told("rate_limit")),
        (row("quota", alt=("message_limit",)), told("message_limit")),
        (row("none"), told("max_turns", text="c")),
        (row("none", trap="recovered"), told("none", "encountered")),
        (row("auth"), told("none", "suspected")),
    ])  # fmt: skip
    assert scores["boolean"] == {"f1": 0.6667, "precision": 0.5, "recall": 1.0}
    assert scores["kinds"]["each"]["rate_limit"] == 1.0
    assert scores["kinds"]["each"]["auth"] == 0.0
    assert (scores["any_recall"], scores["recall_with_suspected"]) == (0.75, 1.0)
    assert scores["recovered_called_a_stop"] == [0, 1]
    assert scores["spans_valid"] == round(5 / 6, 4)


def test_pairs_of_one_group_should_share_a_fingerprint() -> None:
    groups = [("a", "f", "1"), ("a", "f", "1"), ("b", "f", "1"), ("b", "f", "2")]
    scores = fingerprint_scores([
        ({"label": {"group": group, "family": family}}, {"fingerprint": identity})
        for group, family, identity in groups
    ])  # fmt: skip
    assert (scores["precision"], scores["recall"]) == (0.3333, 0.5)
    assert scores["near_misses_apart"] == 0.5
