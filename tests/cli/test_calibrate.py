"""``runoff calibrate`` as a person uses it, on tables of samples."""

from __future__ import annotations

import gzip
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from engine.cli.report_files import write_report
from engine.errors import UsageProblem
from tests.program import runoff

HEADER = "run_id,phase_id,category,complexity,predicted,actual,success,truncated,selected_budget"
EVIL = "<script>alert(1)</script>|`x`\x1b[31m"


def rows(count: int = 9, category: str = "docs") -> list[str]:
    return [
        f"r,p{at},{category},low,1000,{2000 + 20 * at},true,false,{1500 + 500 * (at % 2)}"
        for at in range(count)
    ]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    cut = "r,cut,docs,low,1000,3000,false,true,3000"
    text = "\n".join([HEADER, *rows(), cut, *rows(2, f'"{EVIL}"')])
    (tmp_path / "t.csv").write_text(text)
    return tmp_path


def test_a_table_gives_a_sentence_a_verdict_table_and_three_files(table: Path) -> None:
    found = runoff(table, "calibrate", "--from-csv", "t.csv", "--output-dir", "out")
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("1 of 2 groups should change; on these samples that would cut")
    assert "nothing was changed" in found.stdout
    assert "\x1b" not in found.stdout
    names = sorted(path.name for path in (table / "out").iterdir())
    assert {re.sub(r"\d", "9", name) for name in names} == {
        f"token_estimator_calibration_99999999_999999.{ending}" for ending in ("html", "json", "md")
    }
    patch = json.loads(next((table / "out").glob("*.json")).read_text())
    assert list(patch)[:2] == ["metadata", "proposed_changes"]
    assert set(patch["proposed_changes"][0]) >= {
        "category",
        "complexity",
        "sample_count",
        "confidence",
        "median_ratio",
        "proposed_multiplier",
        "action",
        "reasoning",
    }
    assert set(patch["metadata"]) >= {
        "generated_at",
        "confidence_threshold",
        "total_samples",
        "high_confidence_groups",
    }


def test_json_goes_to_stdout_and_writes_nothing_unless_asked(table: Path) -> None:
    before = sorted(table.iterdir())
    found = runoff(table, "calibrate", "--from-csv", "t.csv", "--json")
    told = json.loads(found.stdout)
    assert [group["counts"]["clean"] for group in told["groups"]] == [2, 9]
    assert sorted(table.iterdir()) == before
    again = runoff(table, "calibrate", "report", "--from-csv", "t.csv", "--json")
    assert again.stdout == found.stdout
    written = runoff(table, "calibrate", "--from-csv", "t.csv", "--json", "--output-dir", "o")
    assert written.stdout == found.stdout
    assert len(list((table / "o").iterdir())) == 3


def test_packed_tables_and_windows_of_rows_are_read(table: Path) -> None:
    (table / "t.csv.gz").write_bytes(gzip.compress((table / "t.csv").read_bytes()))
    arguments = ("--from-csv", "t.csv.gz", "--json", "--since", "3", "--at", "7")
    told = json.loads(runoff(table, "calibrate", *arguments).stdout)
    assert (told["totals"]["read"], told["totals"]["outside"]) == (5, 7)
    none = runoff(table, "calibrate", "--from-csv", "t.csv", "--json", "--include-run-id", "x")
    assert json.loads(none.stdout)["totals"]["outside"] == 12


def test_the_same_samples_and_settings_give_the_same_bytes(table: Path) -> None:
    for name in ("a", "b"):
        runoff(table, "calibrate", "--from-csv", "t.csv", "--output-dir", name)
    for ending in ("md", "json", "html"):
        first, second = (next((table / name).glob(f"*.{ending}")).read_bytes() for name in "ab")
        assert first == second


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_no_sample_can_write_into_it(table: Path) -> None:
    runoff(table, "calibrate", "--from-csv", "t.csv", "--output-dir", "out")
    text = next((table / "out").glob("*.html")).read_text()
    page = Tags()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.seen
    assert page.links == []
    assert "url(" not in text
    assert {"svg", "polygon", "circle", "table"} <= page.seen
    assert "\x1b" not in text
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    markdown = next((table / "out").glob("*.md")).read_text()
    assert "<script>" not in markdown.replace("\\<", "")
    assert "\x1b" not in markdown


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.csv", None, "there is no file"),
        ("t.csv", b"", "has no column"),
        ("t.csv", b"\xff\xfe\x00", "is not UTF-8"),
        ("t.csv", b"\x1f\x8b\x08broken", "is a damaged gzip file"),
        ("t.csv", f"{HEADER}\nr,p,docs,low,x,1,true,false,1".encode(), "line 2: predicted is 'x'"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_2(
    tmp_path: Path, name: str, content: bytes | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    found = runoff(tmp_path, "calibrate", "--from-csv", name)
    assert found.returncode == 2
    assert said in found.stderr.splitlines()[0]
    assert found.stdout == ""
    folder = runoff(tmp_path, "calibrate", "--from-csv", ".")
    assert (folder.returncode, "not a regular file" in folder.stderr) == (2, True)


def test_a_table_without_rows_is_answered_gracefully(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(HEADER)
    found = runoff(tmp_path, "calibrate", "--from-csv", "t.csv")
    assert found.returncode == 0
    assert "There are no samples" in found.stdout


def test_reports_of_one_second_stand_beside_each_other(tmp_path: Path) -> None:
    contents = {"md": b"1", "json": b"2"}
    first = write_report(tmp_path / "new", 1_700_000_000_000_000, contents)
    second = write_report(tmp_path / "new", 1_700_000_000_900_000, contents)
    assert first[0].name == "token_estimator_calibration_20231114_221320.md"
    assert second[1].name == "token_estimator_calibration_20231114_221320_2.json"
    (tmp_path / "file").touch()
    with pytest.raises(UsageProblem):
        write_report(tmp_path / "file", 0, contents)
