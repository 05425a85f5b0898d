"""What is looked at when somebody asks why: the session, its account, and one that begins now."""

from __future__ import annotations

from msgspec.structs import replace

from engine.events import Limits
from engine.triage.case import EXECUTOR, LIMITS, Case, account_named, beginning, newest_session
from engine.triage.scope import Scope
from projections.sessions import SessionStanding
from tests.rules.standings import NOW_US, limits, policy, run, session

# From where it is looked.


def test_the_newest_session_is_the_one_that_began_or_went_on_last() -> None:
    old = session(session_id="a", started_us=1, part_started_us=9, last_us=9)
    new = session(session_id="b", started_us=5, part_started_us=5, last_us=20)
    adopted = SessionStanding(session_id="z", part_started_us=99)
    assert newest_session((old, new, adopted)) == old
    twin = replace(old, session_id="c")
    assert newest_session((twin, old)) == newest_session((old, twin)) == twin
    assert newest_session((adopted,)) is None


def test_an_account_is_the_one_that_was_named_or_the_executors_own() -> None:
    assert account_named(None) == EXECUTOR == account_named(SessionStanding(session_id="s"))
    assert account_named(session(executor="x9")) == "x9"
    assert account_named(session(executor="x9", limits=limits(account="key"))) == "key"


FILTERED = limits(
    run_id="r", phase_id="p", skip_run_prefixes=("x",), labels=("gpu",), budgets=(), batch_size=77
)


def anew(of: Limits, host: str) -> SessionStanding:
    return SessionStanding(
        session_id="new",
        executor="x9",
        limits=of,
        policy="t@7",
        policy_json=policy().json,
        started_us=NOW_US,
        part_started_us=NOW_US,
        host=host,
    )


def test_a_session_that_begins_now_is_like_the_one_before_without_its_filters() -> None:
    before = session(
        executor="x9", limits=FILTERED, host="h", attempts=50, status="ended", because="storage"
    )
    same = replace(FILTERED, run_id=None, phase_id=None, skip_run_prefixes=(), account="x9")
    of, standing = beginning(before, policy(), NOW_US)
    assert (of, standing) == (Scope("new", policy(), same), anew(same, "h"))
    looked = Case(Scope("s", policy(), FILTERED), before, run(), (), (), None, None, NOW_US)
    assert (looked.is_new, looked.is_over) == (False, True)
    begun = looked.anew()
    assert (begun.scope, begun.session) == (of, standing)
    assert (begun.is_new, begun.is_over, begun.anew()) == (True, True, begun)
    for status in ("running", "draining"):
        assert not looked._replace(session=replace(before, status=status)).is_over
    first, fresh = beginning(None, policy(), NOW_US)
    assert first.limits == fresh.limits == replace(LIMITS, account=EXECUTOR)
    assert (fresh.executor, fresh.host) == (EXECUTOR, "")
