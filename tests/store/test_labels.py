"""Labels: what may be one, and what is said of what may not."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from engine.errors import UsageProblem
from engine.labels import LABELS_MAX, checked_labels

LABEL = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)


@given(st.lists(LABEL, max_size=LABELS_MAX))
def test_labels_come_once_each_in_order_however_often_they_are_checked(texts: list[str]) -> None:
    found = checked_labels(texts, "it")
    assert found == tuple(sorted({*texts}))
    assert checked_labels(found, "it") == found


@pytest.mark.parametrize(
    "text", ["", "GPU", "-gpu", ".gpu", "a b", "gpu\n", "gpü", "a" * 65, "gpu,big", "\x1b[2J"]
)
def test_what_cannot_be_a_label_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageProblem, match="--label has a label that cannot be one") as caught:
        checked_labels(["gpu", text], "--label")
    assert caught.value.problem.isprintable()
    assert "a-z" in caught.value.remedy


def test_thirty_two_labels_are_enough() -> None:
    labels = [f"l{number}" for number in range(LABELS_MAX)]
    assert len(checked_labels(labels, "it")) == LABELS_MAX
    with pytest.raises(UsageProblem, match="it has 33 labels"):
        checked_labels([*labels, "more"], "it")
