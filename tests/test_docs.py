"""The reference pages say what the code has."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from inspect import unwrap
from pathlib import Path
from types import CodeType, FunctionType
from typing import get_args

import click
import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from engine.audit.audit import Audit, Finding
from engine.audit.facts import Evidence, Fact, Rule, Sighting
from engine.audit.failures import Alike, Failure
from engine.audit.ledger import Ledger, LedgerLine
from engine.audit.overview import Example, Next, OpenAttempt, Overview
from engine.audit.replay import (
    FieldChange,
    Overview as Standing,
    ProjectionChange,
    RowChange,
    SessionLine,
)
from engine.audit.whatif_result import Differing, Horizon, NotMade, WhatIf
from engine.audit.why import Explanation, Said
from engine.audit.why_attempt import AttemptExplanation
from engine.calibration.drift import Drift
from engine.calibration.result import Calibration, Change, GroupResult, Metadata, Totals
from engine.cli.account import AccountView
from engine.cli.breaker import BreakerLook, BreakerView
from engine.cli.calibrate import report
from engine.cli.detect import detect
from engine.cli.detect_words import Place, Seen, Tried
from engine.cli.groups import DefaultGroup
from engine.cli.handing import keeping
from engine.cli.main import VERBS, runoff
from engine.cli.reclassify import reclassify
from engine.detect import RULE_SETS
from engine.detect.contract import REQUESTS
from engine.detect.guards import Guard
from engine.detect.released import SHA256
from engine.detect.rules import rule_sets
from engine.drain.rerun import Rerun
from engine.drain.summary import RunLine, Summary
from engine.errors import LogUnreadable, RunoffError
from engine.events.codec import EVENT_CLASSES
from engine.store.identity import Identity

HOME = Path(__file__).parent.parent
REFERENCE = HOME / "docs" / "reference"


PRINTED = (
    Identity, Summary, RunLine, WhatIf, NotMade, Differing, Horizon, Rerun, Audit, Finding,
    Explanation, Said, AttemptExplanation, Overview, Next, Example, OpenAttempt, Rule, Fact,
    Sighting, Evidence, Ledger, LedgerLine, BreakerView, BreakerLook, AccountView, Failure,
    Alike, Tried, Seen, Place, Standing, SessionLine, RowChange, FieldChange, ProjectionChange,
)  # fmt: skip
"""What verbs print as JSON."""


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def test_every_event_has_its_heading_and_fields() -> None:
    text = page("events.md")
    for name, kind in EVENT_CLASSES.items():
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert f"\nVersion {kind.schema}. " in section, name
        for field in kind.__struct_fields__:
            assert f"`{field}`" in section, f"{name}.{field}"


def test_what_a_field_means_that_is_left_out_is_in_the_reference() -> None:
    intro = page("events.md").partition("\n## ")[0]
    for name, kind in EVENT_CLASSES.items():
        assert kind.__struct_config__.omit_defaults, name
        for field in fields(kind):
            if field.default not in (NODEFAULT, None, 0, False, "", ()):
                assert f"`{field.name}`" in intro, f"{name}.{field.name}"


def test_every_verb_is_in_the_reference() -> None:
    text = page("command-line.md")
    for name, verb in VERBS.items():
        assert not verb.line or f"| `{name}` | {verb.line} |" in text
    assert "`collect_telemetry_data`" in text


def test_every_verb_of_a_verb_is_in_the_reference_and_the_first_is_meant_without_one() -> None:
    text, context = page("command-line.md"), click.Context(runoff)
    for name in runoff.list_commands(context):
        group = runoff.get_command(context, name)
        if isinstance(group, click.Group):
            own = ", ".join(f"`{each}`" for each in group.commands)
            assert re.search(rf"^\| `{name}` \| {own}[ ;]", text, re.MULTILINE), name
            meant = default_of(group)
            required = [each.name for each in meant.params if each.required] if meant else []
            assert required == [], f"runoff {name}"


def test_every_key_that_verbs_print_as_json_is_in_the_reference() -> None:
    text = page("command-line.md")
    for kind in PRINTED:
        for field in kind.__struct_fields__:
            assert f"`{field}`" in text, f"{kind.__name__}.{field}"


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


def test_links_to_a_heading_find_it() -> None:
    for path in [HOME / "README.md", *HOME.glob("docs/**/*.md")]:
        for target, mark in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text("utf-8")):
            text = ((path.parent / target) if target else path).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            marks = [re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings]
            assert mark in marks, f"{path.name}: {target}#{mark}"


def test_every_room_has_its_row() -> None:
    text = (HOME / "docs" / "explanation" / "design.md").read_text(encoding="utf-8")
    for place in HOME.glob("engine/*/__init__.py"):
        assert f"| `engine/{place.parent.name}` |" in text


def test_every_page_is_linked_from_the_readme() -> None:
    text = (HOME / "README.md").read_text(encoding="utf-8")
    linked = {(HOME / target).resolve() for target in re.findall(r"\]\(([^)#:]+)\)", text)}
    pages = [path for path in HOME.glob("docs/**/*.md") if path.parent.name != "adr"]
    assert sorted(path.name for path in pages if path.resolve() not in linked) == []


def test_every_file_of_this_repository_that_is_named_is_there() -> None:
    named = r"`((?:engine|projections|tests|docs)/[^`\s:]+)`"
    for path in [HOME / "README.md", *HOME.glob("docs/**/*.md")]:
        for name in re.findall(named, path.read_text(encoding="utf-8")):
            assert list(HOME.glob(name.rstrip("/"))), f"{path.name}: {name}"


def verbs(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every verb of the tree with the words that lead to it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from verbs(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def hands_over(function: FunctionType, seen: set[FunctionType]) -> bool:
    """Whether ``keeping`` is among what a function of the command line calls, directly or not."""
    if function is keeping:
        return True
    seen.add(function)
    named = [function.__globals__.get(name) for name in names_in(unwrap(function).__code__)]
    return any(
        hands_over(each, seen)
        for each in named
        if isinstance(each, FunctionType)
        and each.__module__.startswith("engine.cli.")
        and each not in seen
    )


def names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from names_in(const)


@pytest.mark.parametrize("name", ["daemon.md", "command-line.md"])
def test_every_verb_that_is_handed_to_a_daemon_is_in_the_list_of_those(name: str) -> None:
    lists = [each for each in page(name).split("\n\n") if "While a daemon holds the log" in each]
    (text,) = lists
    handed = {
        verb.replace("calibrate report", "calibrate --record")
        for verb, command in verbs(runoff)
        if isinstance(command.callback, FunctionType) and hands_over(command.callback, set())
    }
    assert {"seed", "account resume"} < handed
    assert {verb for verb in handed if f"`{verb}`" not in " ".join(text.split())} == set()


def commands_in(text: str) -> Iterator[str]:
    """What a page tells to type: lines of its shell blocks, and code that begins with runoff."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`(runoff [^`]+)`", prose)


def unknown_in(line: str) -> list[str]:
    """Verbs and options of a typed command that there are not."""
    line = line.strip().removeprefix("sudo -u runoff ")
    if "runoff " not in line or line.startswith(("pip ", "ln ", "useradd ")):
        return []
    words = shlex.split(line.partition("runoff ")[2], comments=True)
    command: click.Command = runoff
    context = click.Context(runoff)
    for end, word in enumerate(words):
        if word in ("--", "|", ">", "&&"):
            words = words[:end]
            break
    while isinstance(command, click.Group):
        below = command.get_command(context, words[0].partition("|")[0]) if words else None
        if below is None:
            below = default_of(command)
        else:
            words = words[1:]
        if below is None:
            return words[:1] if words and not words[0].isupper() else []
        command = below
    known = {option for each in command.params for option in (*each.opts, "--help")}
    options = [word.partition("=")[0].rstrip("].…") for word in words if word.startswith("--")]
    return [option for option in options if option not in known]


def default_of(group: click.Group) -> click.Command | None:
    """What a group does when no verb of its own is named."""
    return next(iter(group.commands.values())) if isinstance(group, DefaultGroup) else None


def test_every_command_that_is_told_has_its_verb_and_options() -> None:
    paths = [HOME / "README.md", *HOME.glob("docs/**/*.md")]
    lines = [(path, line) for path in paths for line in commands_in(path.read_text("utf-8"))]
    wrong = [(path.name, line, unknown) for path, line in lines if (unknown := unknown_in(line))]
    assert len(lines) > 100
    assert wrong == []


def test_no_line_of_a_list_of_commands_is_cut_short_in_eighty_columns() -> None:
    context = click.Context(runoff, terminal_width=80)
    groups = [runoff.get_command(context, name) for name in runoff.list_commands(context)]
    for group in [runoff, *(each for each in groups if isinstance(each, click.Group))]:
        told = group.get_help(click.Context(group, info_name=group.name, terminal_width=80))
        cut = [line for line in told.partition("Commands:")[2].splitlines() if "..." in line]
        assert cut == [], group.name


def _helps(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    context = click.Context(command, info_name=name, terminal_width=80)
    yield name, command.get_help(context)
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            below = command.get_command(context, verb)
            assert below is not None
            yield from _helps(below, f"{name} {verb}")


def test_no_line_of_help_is_wider_than_a_terminal() -> None:
    told = dict(_helps(runoff, "runoff"))
    assert len(told) > 60
    wide = [(n, line) for n, text in told.items() for line in text.splitlines() if len(line) > 80]
    assert wide == []


def test_every_decision_is_listed_by_its_title() -> None:
    folder = HOME / "docs" / "adr"
    titles = {path.name: path.read_text("utf-8").splitlines()[0] for path in folder.glob("0*.md")}
    page = (folder / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d+) \| \[(.+)\]\((.+)\) \|$", page, re.MULTILINE)
    assert {name: f"# {number}. {title}" for number, title, name in listed} == titles
    assert [name for _, _, name in listed] == sorted(titles)
