"""The plan of a daemon: its settings file, with the flags of its command line on top."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click

from engine.cli.drain_scope import HOST_WORKERS_HELP, LABEL_HELP
from engine.cli.policies import policy_of
from engine.cli.text_file import origin_of, text_of
from engine.daemon.settings import (
    SETTINGS_BYTES_MAX,
    Plan,
    Settings,
    plan_of,
    settings_from,
    table_from,
)

_LISTS = {
    "window": "windows",
    "budget": "budget",
    "skip_run_prefix": "skip_run_prefix",
    "label": "labels",
}
_SAME = tuple(name for name in Settings.__struct_fields__ if name not in _LISTS.values())


def settings_options(function: Any) -> Any:
    """A flag for every setting; what is not given comes from the file, or is the default."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


_OPTIONS = (
    click.option("--settings", type=click.Path(path_type=Path), help="TOML, read on SIGHUP."),
    click.option("--policy", metavar="NAME|FILE", help="[default: default]"),
    click.option("--workers", type=int, help="Attempts at once. [default: 4]"),
    click.option("--host-workers", type=int, metavar="N", help=HOST_WORKERS_HELP),
    click.option("--max-per-run", type=int, help="Of one run at once. [default: 2]"),
    click.option("--phase-timeout-seconds", type=float, help="Of an attempt. [default: 900]"),
    click.option("--grace-seconds", type=float, help="TERM to KILL. [default: 5]"),
    click.option("--stop-seconds", type=float, help="For attempts after SIGTERM. [default: 1]"),
    click.option("--session-hours", type=float, help="Then counts begin anew. [default: 24]"),
    click.option("--window", multiple=True, metavar="TEXT", help="`Mon-Fri 20:00-06:00`; repeat."),
    click.option("--timezone", metavar="NAME", help="Of the windows. [default: UTC]"),
    click.option("--max-day-tokens", type=int, metavar="N", help="Of a day in UTC."),
    click.option("--max-run-tokens", type=int, metavar="N", help="Of each run."),
    click.option("--budget", multiple=True, metavar="SCOPE:MEASURE=N", help="Repeatable."),
    click.option("--skip-run-prefix", multiple=True, metavar="PREFIX", help="Repeatable."),
    click.option("--label", multiple=True, metavar="NAME", help=LABEL_HELP),
    click.option("--account", metavar="NAME", help="Whose provider limits pause."),
)


def loader(options: dict[str, Any], given: Iterable[str]) -> Callable[[], Plan]:
    """What reads the plan, each time anew; it raises UsageProblem for what cannot be meant."""
    flags = {name: options[name] for name in given if name in _SAME}
    flags |= {_LISTS[name]: list(options[name]) for name in given if name in _LISTS}
    path: Path | None = options["settings"]

    def load() -> Plan:
        origin = origin_of(path) if path is not None else "the command line"
        text = text_of(path, SETTINGS_BYTES_MAX, "settings") if path is not None else ""
        table = table_from(text, origin)
        settings = settings_from({**table, **flags}, origin)
        return plan_of(settings, policy_of(settings.policy))

    return load
