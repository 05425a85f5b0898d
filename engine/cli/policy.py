"""``runoff policy``: list policies, show one, check one's own, compare two."""

from __future__ import annotations

from typing import Any

import click
import msgspec
from click.core import ParameterSource

from engine.cli.context import database_option, json_option, reading, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.log import pages
from engine.cli.policies import is_path, policy_in_file, policy_of
from engine.cli.render import asked, clean, print_json, table
from engine.errors import UsageProblem
from engine.events import PolicyAdopted, Record, event_of
from engine.store.location import locate
from engine.store.opening import is_missing
from engine.store.protocol import Query
from engine.triage.policy import POLICIES, Policy, policy_from_json
from engine.triage.policy_compare import IDENTITY, Difference, differences, warnings_of
from engine.triage.policy_fields import closest
from engine.triage.policy_toml import policy_toml, value_in_toml
from engine.triage.policy_words import words_of

SHORT_CHARS = 12
LIST_COLUMNS = ["policy", "sha256", "from", "sessions", "newest session"]


class Listed(msgspec.Struct, kw_only=True):
    """One policy, built-in or of a log, and the sessions that adopted it, oldest first."""

    name: str
    version: int
    sha256: str
    built_in: bool
    sessions: list[str] = []


class Told(msgspec.Struct, kw_only=True):
    """One field of a policy for people and programs."""

    field: str
    value: Any
    default: Any
    differs: bool
    meaning: str
    unit: str


@click.group(cls=DefaultGroup)
def policy() -> None:
    """List policies, show one, check your own, compare two.  ``policy`` alone lists them.

    A policy is named by a built-in NAME, by a FILE (with a / in it, or ending in .toml), or by a
    SESSION of the log, whose policy in force is meant.
    """


@policy.command("list")
@database_option
@json_option
@click.pass_context
def list_(ctx: click.Context, database: str | None, *, as_json: bool) -> None:
    """The built-in policies, and those that sessions of the log went by."""
    found = {
        policy.sha256: Listed(
            name=policy.name, version=policy.version, sha256=policy.sha256, built_in=True
        )
        for policy in POLICIES.values()
    }
    if database is not None and not _is_only_planned(ctx, database):
        for adopted in _adopted(database):
            _add(found, adopted)
    if as_json:
        print_json(list(found.values()))
        return
    table("Policies", LIST_COLUMNS, [_row(listed) for listed in found.values()])


def _is_only_planned(ctx: click.Context, database: str) -> bool:
    """Whether the environment names a database that was not made yet."""
    explicit = ctx.get_parameter_source("database") is ParameterSource.COMMANDLINE
    return not explicit and run_async(lambda: is_missing(locate(database)))


def _add(found: dict[str, Listed], adopted: PolicyAdopted) -> None:
    sha256 = adopted.policy_sha256
    if sha256 not in found:
        of_log = policy_from_json(adopted.policy_json)
        found[sha256] = Listed(
            name=of_log.name, version=of_log.version, sha256=sha256, built_in=False
        )
    if adopted.session_id not in found[sha256].sessions:
        found[sha256].sessions.append(adopted.session_id)


def _row(listed: Listed) -> list[object]:
    newest = listed.sessions[-1] if listed.sessions else None
    origin = "built-in" if listed.built_in else "log"
    label = f"{listed.name}@{listed.version}"
    return [label, listed.sha256[:SHORT_CHARS], origin, len(listed.sessions), newest]


@policy.command()
@click.argument("what", metavar="NAME|FILE|SESSION")
@database_option
@click.option("--toml", "as_toml", is_flag=True, help="Print a whole policy file.")
@json_option
@click.pass_context
def show(
    ctx: click.Context, what: str, database: str | None, *, as_toml: bool, as_json: bool
) -> None:
    """Every field of a policy: value, default where it differs, meaning.

    \b
    Examples:
      runoff policy show classic
      runoff policy show default --toml > mine.toml
      runoff policy show ./mine.toml --json
      runoff policy show SESSION --database sqlite:///backlog.db
    """  # noqa: D301
    if as_toml and as_json:
        raise UsageProblem("--toml and --json are two forms.", remedy="give one of them.")
    found = _meant(ctx, what, database)
    if as_toml:
        click.echo(policy_toml(found), nl=False)
    elif as_json:
        print_json(_identity(found) | {"fields": _told(found)})
    else:
        click.echo(_heading(found) + "\n")
        _print_fields(found)


def _told(found: Policy) -> list[Told]:
    default = POLICIES["default"]
    return [
        Told(
            field=name,
            value=value,
            default=getattr(default, name),
            differs=value != getattr(default, name),
            meaning=words_of(name).meaning,
            unit=words_of(name).unit,
        )
        for name, value in ((name, getattr(found, name)) for name in Policy.__struct_fields__)
    ]


def _print_fields(found: Policy) -> None:
    rows = [
        [
            told.field,
            _value(told.value),
            told.unit,
            _value(told.default) if told.differs else "",
            told.meaning,
        ]
        for told in _told(found)
        if told.field not in IDENTITY
    ]
    table(found.label, ["field", "value", "unit", "default", "meaning"], rows)


@policy.command()
@click.argument("path", metavar="FILE")
@json_option
def check(path: str, *, as_json: bool) -> None:
    """Whether FILE is a policy, what it changes, and warnings.

    Exits 0 for a policy, with or without warnings, and 2 for what is none.
    """
    found = policy_in_file(path)
    changed, warnings = differences(POLICIES["default"], found), warnings_of(found)
    if as_json:
        told = [_difference(each) for each in changed]
        print_json(_identity(found) | {"differs": told, "warnings": warnings})
        return
    number = "one field differs" if len(changed) == 1 else f"{len(changed)} fields differ"
    click.echo(f"{_heading(found)}: {number} from default.")
    _print_differences(changed, "default", found.label)
    for warning in warnings:
        click.echo(f"warning: {clean(warning)}")


@policy.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@database_option
@json_option
@click.pass_context
def diff(ctx: click.Context, old: str, new: str, database: str | None, *, as_json: bool) -> None:
    """The fields in which B differs from A.  Each is a NAME, FILE or SESSION."""
    first, second = _meant(ctx, old, database), _meant(ctx, new, database)
    changed = differences(first, second)
    if as_json:
        told = [_difference(each) for each in changed]
        print_json({"old": _identity(first), "new": _identity(second), "differs": told})
        return
    click.echo(f"{_heading(first)}\n{_heading(second)}")
    if not changed:
        click.echo("They differ in no field.")
    _print_differences(changed, "old", "new")


def _print_differences(changed: list[Difference], old: str, new: str) -> None:
    if changed:
        rows = [
            [each.field, _value(each.old), _value(each.new), words_of(each.field).meaning]
            for each in changed
        ]
        click.echo()
        table("Differences", ["field", old, new, "meaning"], rows)


def _difference(difference: Difference) -> dict[str, object]:
    words = words_of(difference.field)
    return {**difference._asdict(), "meaning": words.meaning, "unit": words.unit}


def _identity(found: Policy) -> dict[str, object]:
    return {"name": found.name, "version": found.version, "sha256": found.sha256}


def _heading(found: Policy) -> str:
    return f"{clean(found.label)}, sha256 {found.sha256[:SHORT_CHARS]}"


def _value(value: object) -> str:
    return "none" if value is None else value_in_toml(value)


def _meant(ctx: click.Context, what: str, database: str | None) -> Policy:
    """A built-in policy, one in a file, or the newest one of a session of the log."""
    asked(what, "the name of the policy")
    if what in POLICIES or is_path(what):
        return policy_of(what)
    if database is None or _is_only_planned(ctx, database):
        hint = "for a session, name its log with --database"
    elif adopted := _adopted(database, what):
        return policy_from_json(adopted[-1].policy_json)
    else:
        hint = "`runoff session list` names the sessions of the log"
    near = closest(what, POLICIES)
    raise UsageProblem(
        f"there is no policy and no session {what[:80]!a}.",
        remedy=(f"did you mean {near}? " if near else "")
        + f"`runoff policy list` names the built-in ones; {hint}.",
    )


def _adopted(database: str, session: str | None = None) -> list[PolicyAdopted]:
    """What the sessions of a log adopted, or one of them, oldest first."""

    async def work() -> list[PolicyAdopted]:
        async with reading(database, allow_empty=True) as (_, store, _board):
            query = Query(types=("session.policy_adopted",), session=session)
            head = (await store.head()).pos
            return [_event(record) async for record in pages(store, query, 0, head)]

    return run_async(work)


def _event(record: Record) -> PolicyAdopted:
    event = event_of(record)
    assert isinstance(event, PolicyAdopted)
    return event
