"""Tables of samples: what is read, what is refused, and that they come back as they went."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from engine.calibration.samples import Sample, classify
from engine.calibration.samples_csv import csv_from_samples, samples_from_csv
from engine.errors import UsageProblem

HEADER = "run_id,phase_id,category,complexity,predicted,actual,success,truncated"
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
FINITE = st.none() | st.floats(allow_nan=False, allow_infinity=False)
SAMPLES = st.builds(
    Sample,
    pos=st.just(0),
    run_id=NAMES,
    phase_id=NAMES,
    category=NAMES.map(lambda name: name or None),
    complexity=NAMES.map(lambda name: name or None),
    estimated=FINITE,
    actual=FINITE,
    success=st.booleans(),
    truncated=st.booleans(),
    version=NAMES,
    at_us=st.none() | st.integers(0, 4_000_000_000_000_000),
    budget=FINITE,
    deliverables=st.none() | st.integers(0, 100),
)


def read(*rows: str, header: str = HEADER, version_column: str | None = None) -> list[Sample]:
    return samples_from_csv("\n".join([header, *rows]), "t.csv", version_column)


@given(st.lists(SAMPLES, max_size=10))
def test_what_is_written_is_read_again(drawn: list[Sample]) -> None:
    samples = [replace(each, pos=pos) for pos, each in enumerate(drawn, 1)]
    assert samples_from_csv("".join(csv_from_samples(samples)), "t.csv") == samples


def test_rows_come_in_order_with_their_numbers_and_unknown_columns_are_ignored() -> None:
    first, second = read(
        "x,r,p1,docs,low,100,120.5,True,False",
        "",
        "x,r,p2,Docs,LOW,,nan,0,1",
        header=f"colour,{HEADER}",
    )
    assert first == Sample(1, "r", "p1", "docs", "low", 100.0, 120.5, True, False)
    assert (second.pos, second.estimated, second.success, second.truncated) == (
        2,
        None,
        False,
        True,
    )
    assert [classify(each) for each in (first, second)] == ["clean", "missing"]


def test_a_mark_before_the_header_and_quoted_line_ends_are_no_trouble() -> None:
    (found,) = read('r,"p\n1",docs,low,1,2,true,false')
    assert found.phase_id == "p\n1"


def test_the_coefficients_are_read_from_the_column_that_is_named() -> None:
    header = f"{HEADER},estimator,coefficient_version"
    row = "r,p,docs,low,1,2,true,false,A,7"
    assert read(row, header=header)[0].version == "7"
    assert read(row, header=header, version_column="estimator")[0].version == "A"


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        ([], "", "has no column category, complexity"),
        ([], HEADER.replace("actual", "came"), "has no column actual"),
        ([], f"{HEADER},actual", "has the column actual twice"),
        (["r,p,docs,low,1,2,true,false", "r,p,docs"], HEADER, "line 3: it has 3 cells"),
        (["r,p,docs,low,many,2,true,false"], HEADER, "predicted is 'many'"),
        (["r,p,docs,low,1,2,maybe,false"], HEADER, "success is 'maybe'"),
        (['r,p,"' + "x" * 200_000 + '",low,1,2,true,false'], HEADER, "it is not CSV"),
    ],
)
def test_what_is_no_table_of_samples_is_refused_with_its_line(
    rows: list[str], header: str, said: str
) -> None:
    with pytest.raises(UsageProblem) as refused:
        read(*rows, header=header)
    assert said in refused.value.problem
    assert "\n" not in refused.value.problem
