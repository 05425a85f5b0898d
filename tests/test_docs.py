"""The reference pages say what the code has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from engine.calibration.drift import Drift
from engine.calibration.result import Calibration, Change, GroupResult, Metadata, Totals
from engine.cli.calibrate import report
from engine.cli.detect import detect
from engine.cli.main import VERBS
from engine.cli.reclassify import reclassify
from engine.detect import RULE_SETS
from engine.detect.contract import REQUESTS
from engine.detect.guards import Guard
from engine.detect.released import SHA256
from engine.detect.rules import rule_sets
from engine.errors import LogUnreadable, RunoffError
from engine.events.codec import EVENT_CLASSES

HOME = Path(__file__).parent.parent
REFERENCE = HOME / "docs" / "reference"


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_event_has_its_heading_and_fields() -> None:
    text = page("events.md")
    for name, kind in EVENT_CLASSES.items():
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for field in kind.__struct_fields__:
            assert f"`{field}`" in section, f"{name}.{field}"


def test_every_verb_is_in_the_reference() -> None:
    text = page("command-line.md")
    for name in VERBS:
        assert f"`{name}`" in text


def test_every_question_to_the_detectors_is_in_the_reference() -> None:
    text = page("command-line.md")
    for name in detect.commands:
        assert f"`detect {name}" in text


def test_every_field_of_a_request_and_every_guard_is_in_the_reference() -> None:
    text = page("detectors.md")
    fields = [name for kind in REQUESTS.values() for name in kind.__struct_fields__]
    for name in (*fields, *get_args(Guard), *SHA256):
        assert f"`{name}`" in text


def test_a_changed_rule_set_has_the_exit_code_that_the_reference_says() -> None:
    assert page("detectors.md").count(f"refused (exit code {LogUnreadable.exit_code})") == 2


def test_every_name_that_reclassify_takes_is_in_its_help_or_listed() -> None:
    (option,) = [one for one in reclassify.params if one.name == "name"]
    listed = {one.name for one in rule_sets()}
    told = getattr(option, "help", "")
    assert [name for name in RULE_SETS if name not in listed and name not in told] == []


def test_every_exit_code_is_in_the_reference() -> None:
    text = page("command-line.md")
    kinds = [RunoffError]
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        assert re.search(rf"^\| {kind.exit_code} \|", text, re.MULTILINE)


def test_every_key_of_a_calibration_is_in_the_reference() -> None:
    text = page("calibration.md")
    for kind in (Calibration, GroupResult, Totals, Metadata, Change, Drift):
        for field in kind.__struct_fields__:
            assert f"`{field}`" in text, f"{kind.__name__}.{field}"
    for option in report.params:
        assert any(f"{name} " in text or f"{name}`" in text for name in option.opts)


def test_links_of_readme_and_docs_lead_somewhere() -> None:
    for path in [HOME / "README.md", *HOME.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"
