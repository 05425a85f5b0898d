"""Scores of detectors against labels: what is compared, and how ties of meaning are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

Row = Mapping[str, Any]
Pair = tuple[Row, Row]
"""A labelled row and what was answered to it."""

STOPS = frozenset({"context_window", "max_output_tokens", "max_turns", "message_limit"})


def f1(hits: int, false: int, missed: int) -> float:
    return 2 * hits / (2 * hits + false + missed) if hits + false + missed else 1.0


def share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def accepted(row: Row) -> set[str]:
    return {row["label"]["kind"], *row["label"]["alt"]}


def boundary_scores(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Boolean and per-kind F1; alternatives count as the label where vendors blur the line."""
    scored = [pair for pair in pairs if len({kind in STOPS for kind in accepted(pair[0])}) == 1]
    truth = [(row["label"]["kind"] in STOPS, told["kind"] in STOPS) for row, told in scored]
    counts = Counter(truth)
    hits, false, missed = counts[True, True], counts[False, True], counts[True, False]
    any_true = [row for row, _ in pairs if row["label"]["kind"] != "none"]
    found = [1 for row, told in pairs if row["label"]["kind"] != "none" and told["kind"] != "none"]
    noticed = [1 for row, told in pairs if row["label"]["kind"] != "none" and told["disposition"]]
    alarms = [1 for row, told in pairs if row["label"]["kind"] == "none" != told["kind"]]
    recovered = [told for row, told in pairs if row["label"]["trap"] == "recovered"]
    return {
        "rows": len(pairs),
        "boolean": {
            "f1": round(f1(hits, false, missed), 4),
            "precision": share(hits, hits + false),
            "recall": share(hits, hits + missed),
        },
        "kinds": kind_scores(pairs),
        "any_recall": share(len(found), len(any_true)),
        "any_precision": share(len(found), len(found) + len(alarms)),
        "recall_with_suspected": share(len(noticed), len(any_true)),
        "suspected_without_cause": sum(
            row["label"]["kind"] == "none" and told["disposition"] == "suspected"
            for row, told in pairs
        ),
        "recovered_called_a_stop": [
            sum(told["kind"] != "none" for told in recovered),
            len(recovered),
        ],
        "spans_valid": share(sum(span_is_valid(*pair) for pair in pairs), len(pairs)),
    }


def span_is_valid(row: Row, told: Row) -> bool:
    evidence = told.get("evidence")
    if evidence is None:
        return bool(told["kind"] == "none")
    text = row[evidence["stream"]] or ""
    return bool(text[evidence["start"] : evidence["end"]] == evidence["text"] != "")


def kind_scores(pairs: Iterable[Pair]) -> dict[str, Any]:
    """Macro F1 over all kinds but none, an accepted alternative counting as the label."""
    hits, false, missed = Counter[str](), Counter[str](), Counter[str]()
    for row, told in pairs:
        said, meant = told["kind"], row["label"]["kind"]
        if said in accepted(row):
            hits[said] += 1
        else:
            false[said] += 1
            missed[meant] += 1
    names = sorted({*hits, *false, *missed} - {"none"})
    each = {name: round(f1(hits[name], false[name], missed[name]), 4) for name in names}
    return {"macro_f1": round(sum(each.values()) / max(1, len(each)), 4), "each": each}


def zero_yield_scores(pairs: Iterable[Pair]) -> dict[str, Any]:
    hits, false, missed = Counter[str](), Counter[str](), Counter[str]()
    for row, told in pairs:
        said, meant = str(told["reason"]), str(row["label"]["reason"])
        if said == meant or said in row["label"]["alt"]:
            hits[said] += 1
        else:
            false[said] += 1
            missed[meant] += 1
    names = sorted({*hits, *false, *missed} - {"None"})
    each = {name: round(f1(hits[name], false[name], missed[name]), 4) for name in names}
    return {"macro_f1": round(sum(each.values()) / max(1, len(each)), 4), "each": each}


def fingerprint_scores(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Over all pairs of rows: those of one group should share a fingerprint, others should not."""
    same = joined = both = near = apart = 0
    for (a, told_a), (b, told_b) in combinations(pairs, 2):
        alike = a["label"]["group"] == b["label"]["group"]
        equal = told_a["fingerprint"] == told_b["fingerprint"]
        same += alike
        joined += equal
        both += alike and equal
        if not alike and a["label"]["family"] == b["label"]["family"]:
            near += 1
            apart += not equal
    return {
        "pair_f1": round(f1(both, joined - both, same - both), 4),
        "precision": share(both, joined),
        "recall": share(both, same),
        "near_misses_apart": share(apart, near),
    }
