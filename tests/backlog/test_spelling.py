"""One word per category and complexity."""

from __future__ import annotations

import pytest

from engine.backlog.spelling import (
    CATEGORIES,
    CATEGORY_FOLDS,
    COMPLEXITIES,
    COMPLEXITY_FOLDS,
    fold_category,
    fold_complexity,
)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("tests", "tests"),
        ("testing", "tests"),
        ("test", "tests"),
        ("docs", "docs"),
        ("Documentation", "docs"),
        ("doc_write", "docs"),
        ("bug_fix", "bugfix"),
        ("bug-fix", "bugfix"),
        ("BUGFIX", "bugfix"),
        ("IMPLEMENT_FEATURE", "implementation"),
        (" implementation ", "implementation"),
        ("backend", "backend"),
    ],
)
def test_spellings_of_a_category_are_one_word(raw: str, word: str) -> None:
    assert fold_category(raw) == (word, True)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        ("SIMPLE", "low"),
        ("low", "low"),
        ("MEDIUM", "medium"),
        ("MEDIUM-HIGH", "high"),
        ("medium_high", "high"),
        ("HIGH", "high"),
        ("maintenance", "maintenance"),
    ],
)
def test_spellings_of_a_complexity_are_one_word(raw: str, word: str) -> None:
    assert fold_complexity(raw) == (word, True)


def test_an_unknown_spelling_stays_in_lower_case_and_is_reported_as_unfamiliar() -> None:
    assert fold_category("Data Science") == ("data science", False)
    assert fold_complexity("XXL") == ("xxl", False)


def test_folding_twice_changes_nothing() -> None:
    for raw in (*CATEGORY_FOLDS, *CATEGORIES, "Odd One"):
        assert fold_category(fold_category(raw).word).word == fold_category(raw).word
    for raw in (*COMPLEXITY_FOLDS, *COMPLEXITIES, "Odd-One"):
        assert fold_complexity(fold_complexity(raw).word).word == fold_complexity(raw).word
