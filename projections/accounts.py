"""Accounts of providers: which one is paused, until when, and why, one row an account."""

from __future__ import annotations

from typing import assert_never, cast, get_args

import msgspec
from msgspec.structs import replace

from engine.events import (
    AccountPaused,
    AccountRecovered,
    AccountResumed,
    BoundaryKind,
    Seen,
)
from projections.fold import Fold


class AccountStanding(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One account as of one position.

    Paused until ``until_us`` (Unix), which may lie in the past.  ``consecutive`` pauses came
    without a good attempt in between.
    """

    account: str
    kind: BoundaryKind | None = None
    until_us: int = 0
    stated: bool = False
    consecutive: int = 0
    pauses: int = 0
    pos: int = 0


Handled = AccountPaused | AccountRecovered | AccountResumed


def _keys(seen: Seen) -> tuple[str, ...]:
    event = cast("Handled", seen.event)
    return (event.account,)


def _apply(state: AccountStanding | None, seen: Seen) -> AccountStanding:
    event = cast("Handled", seen.event)
    state = state or AccountStanding(account=event.account)
    match event:
        case AccountPaused():
            return replace(
                state,
                kind=event.kind,
                until_us=event.until_us,
                stated=event.stated,
                consecutive=event.consecutive,
                pauses=state.pauses + 1,
                pos=seen.pos,
            )
        case AccountRecovered():
            return replace(state, consecutive=0)
        case AccountResumed():
            return replace(state, until_us=0, consecutive=0, pos=seen.pos)
        case _:
            assert_never(event)


ACCOUNTS: Fold[AccountStanding] = Fold(
    name="accounts",
    version=1,
    state=AccountStanding,
    handles=frozenset(get_args(Handled)),
    keys=_keys,
    apply=_apply,
)
