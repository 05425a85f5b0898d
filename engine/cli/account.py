"""``runoff account``: which accounts of providers are paused; end a pause by hand."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.groups import DefaultGroup
from engine.cli.moment import at_option
from engine.cli.operating import say, why_options
from engine.cli.peeking import peeking
from engine.cli.render import asked, clean, print_json, table, when
from engine.store.boards import load_folds
from engine.triage.operating import ResumeAccount
from projections.accounts import ACCOUNTS, AccountStanding

COLUMNS = "account state kind until stated consecutive pauses since"


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """One account: as the projection has it, and whether it is paused at ``now_us`` (Unix).

    Accounts appear with their first pause.
    """

    account: str
    state: str
    kind: str | None
    until_us: int
    stated: bool
    consecutive: int
    pauses: int
    pos: int
    now_us: int


@click.group(cls=DefaultGroup)
def account() -> None:
    """Look at accounts of providers; end a pause.  ``account`` alone lists them."""


@account.command("list")
@at_option
@database_option
@allow_empty_option
@json_option
def account_list(**options: Any) -> None:
    """Every account that met a provider's limit, and whether it rests."""

    async def work() -> list[AccountView]:
        allow, at = options["allow_empty_db"], options["at"]
        async with peeking(options["database"], allow_empty=allow, at=at) as peek:
            found = await load_folds(peek.reader, (ACCOUNTS,), peek.end)
            return [view(each, peek.now_us) for each in found[ACCOUNTS.name].values()]

    found = sorted(run_async(work), key=lambda each: each.account)
    if options["as_json"]:
        print_json(found)
        return
    table("Accounts", COLUMNS.split(), [_row(each) for each in found])


def _row(each: AccountView) -> list[object]:
    until = when(each.until_us) if each.until_us else None
    stated = "by the provider" if each.stated else "no time could be read"
    return [
        each.account,
        each.state,
        each.kind,
        until,
        stated if each.until_us else None,
        each.consecutive,
        each.pauses,
        each.pos,
    ]


def view(standing: AccountStanding, now_us: int) -> AccountView:
    """An account as it is shown at ``now_us``."""
    paused = now_us < standing.until_us
    return AccountView(
        **msgspec.structs.asdict(standing), state="paused" if paused else "free", now_us=now_us
    )


@account.command()
@click.argument("name", metavar="NAME")
@why_options
@database_option
@allow_empty_option
@json_option
def resume(name: str, why: str, by: str, **options: Any) -> None:
    """End the pause of an account: attempts go to it again at once."""
    asked(name, "NAME")
    next_step = say(ResumeAccount(account=name, by=by, why=why), options)
    if not options["as_json"]:
        click.echo(f"Resumed the account {clean(name)}. {next_step}")
