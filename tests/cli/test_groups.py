"""What the name of a group alone means."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from engine.cli.groups import DefaultGroup
from engine.cli.main import runoff as tree

MEANT = {
    "account": "list",
    "attempt": "list",
    "breaker": "list",
    "calibrate": "report",
    "coefficients": "show",
    "daemon": "run",
    "fingerprint": "list",
    "log": "show",
    "phase": "list",
    "policy": "list",
    "projection": "list",
    "run": "list",
    "session": "list",
}


def groups() -> dict[str, DefaultGroup]:
    context = click.Context(tree)
    found = {name: tree.get_command(context, name) for name in tree.list_commands(context)}
    return {name: each for name, each in found.items() if isinstance(each, DefaultGroup)}


def test_every_group_means_what_is_asked_for_most() -> None:
    assert {name: next(iter(group.commands)) for name, group in groups().items()} == MEANT


@pytest.mark.parametrize("name", sorted(MEANT))
def test_an_option_behind_the_group_is_that_of_what_is_meant(name: str) -> None:
    done = CliRunner().invoke(tree, [name, "--no-such-option"])
    assert done.exit_code == 2
    assert f"{name} {MEANT[name]}" in done.output
