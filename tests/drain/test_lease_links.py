"""A lease lives as long as its engine does, whichever of its ways to the server is held up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from engine.clock import SystemClock
from engine.drain.sharing import Share, keeping
from engine.events import RunRegistered
from engine.ids import IdMaker
from engine.store.command import Command, just
from engine.store.leases import BEATS_PER_LEASE, Holder, Leases, open_leases
from engine.store.leaving import Leaving
from engine.store.location import Location, locate
from engine.store.opening import open_writer
from engine.store.protocol import EventStore, Query
from engine.store.recorder import Recorder, Writer, recording
from tests.between import Between, standing
from tests.servers import Server

LEASE_S = 1.5
LIVES = 2
LIMIT_S = 30.0
MILLISECOND_US = 1000
READING, WRITING, LEASING = b"default_transaction_read_only\0on", b"advisory_xact_lock", b"LISTEN"
"""What goes over one link of an engine, and over no other."""
NUMBERS = iter(range(1, 1 << 30))


@pytest.fixture
async def between(postgres: Server) -> AsyncGenerator[tuple[Between, Location, Location], None]:
    """A way to a log, the log by that way, and the log itself."""
    url = await postgres.fresh()
    async with standing(postgres.port) as way:
        yield way, locate(way.url(url)), locate(url)


@asynccontextmanager
async def engine(place: Location, session_id: str) -> AsyncGenerator[tuple[Recorder, Share], None]:
    """One that has joined, on a machine of its own, and keeps its lease."""
    clock, ids = SystemClock(), IdMaker(SystemClock().now_us, lambda: next(NUMBERS))
    async with AsyncExitStack() as stack:
        store = await open_writer(place, create=True)
        stack.push_async_callback(store.close)
        writer = Writer(session_id, "boot", 1, "test", "0")
        recorder = await stack.enter_async_context(recording(store, clock, writer))
        leases = await open_leases(place, recorder.leaving, LEASE_S)
        assert leases is not None
        stack.push_async_callback(leases.close)
        share = Share(
            recorder, leases, clock, ids, session_id, lease_s=LEASE_S, here=f"{session_id} boot"
        )
        await share.join()
        yield recorder, share


async def lapses_until_renewed(leases: Leases, store: EventStore, session_id: str) -> list[str]:
    """The sessions that lapse while that one's lease is renewed for some lives; one is enough."""
    until: int | None = None
    while True:
        await leases.until_hint(0.05)
        if lapsed := await store.records(Query(types=("session.lapsed",))):
            return [str(each.session) for each in lapsed]
        (lease,) = [each for each in await leases.all() if each.holder.session_id == session_id]
        until = until or lease.renewals + LIVES * BEATS_PER_LEASE
        if lease.renewals >= until:
            return []


@pytest.fixture
async def seen(between: tuple[Between, Location, Location]) -> AsyncGenerator[Leases, None]:
    """The table of leases, as nobody's way to it shows it."""
    *_, directly = between
    await (await open_writer(directly, create=True)).close()
    leases = await open_leases(directly, Leaving())
    assert leases is not None
    yield leases
    await leases.close()


@pytest.mark.parametrize("word", [READING, WRITING, LEASING], ids=["reads", "writes", "renews"])
async def test_an_engine_of_which_one_link_is_forgotten_lives_on(
    between: tuple[Between, Location, Location], seen: Leases, word: bytes
) -> None:
    way, by_the_way, directly = between
    run = RunRegistered(run_id="r", origin="test", state="NEW")
    with anyio.fail_after(LIMIT_S):
        async with (
            engine(by_the_way, "half-forgotten") as (recorder, share),
            engine(directly, "other") as (other, watching),
            keeping(share),
            keeping(watching),
        ):
            assert way.forget_who_said(word) == 1
            await other.submit(Command("c", "runs", b"", just(run)))  # which it is to follow
            recorder.enqueue(Command("d", "d", b"", just()))
            assert await lapses_until_renewed(seen, other.store, "half-forgotten") == []
            recorder.leaving.begin()


@asynccontextmanager
async def commits_held_up(postgres: Server) -> AsyncGenerator[None, None]:
    """While the block runs, a commit waits for a server that does not come."""
    operator, writer = await postgres.connect("postgres"), await postgres.connect("postgres")

    async def commit() -> None:
        while True:
            await writer.execute("SELECT pg_logical_emit_message(true, 'a', 'b')")

    async with anyio.create_task_group() as group:
        await operator.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
        try:
            await operator.execute("SELECT pg_reload_conf()")
            group.start_soon(commit)
            while not await operator.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
            ):
                pass
            yield
        finally:
            await operator.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await operator.execute("SELECT pg_reload_conf()")
            group.cancel_scope.cancel()
    await operator.close()
    await writer.close()


async def test_a_renewal_waits_for_no_disk_and_no_other_server(
    postgres: Server, seen: Leases
) -> None:
    """While all appends are held up nobody can say what lapsed, and behind it nobody has."""
    with anyio.fail_after(LIMIT_S):
        async with commits_held_up(postgres):
            await seen.renew(Holder("s", 1, "host boot", 1, None), LEASE_S)


@asynccontextmanager
async def row_held(server: Server, place: Location, session_id: str) -> AsyncGenerator[None, None]:
    """While the block runs, that lease is in a transaction that stands still.

    As of a process of the server that was stopped in the middle of a renewal.
    """
    holder = await server.connect(place.url.rpartition("/")[2])
    held = holder.transaction()
    await held.start()
    assert await holder.fetch("SELECT FROM runoff.leases WHERE session = $1 FOR UPDATE", session_id)
    try:
        yield
    finally:
        await held.rollback()
        await holder.close()


async def test_an_engine_whose_lease_is_held_by_a_process_that_stands_still_lives_on(
    postgres: Server, between: tuple[Between, Location, Location], seen: Leases
) -> None:
    *_, directly = between
    with anyio.fail_after(LIMIT_S):
        async with (
            engine(directly, "held") as (_, share),
            engine(directly, "other") as (other, watching),
            row_held(postgres, directly, "held"),
            keeping(share),
            keeping(watching),
        ):
            assert await lapses_until_renewed(seen, other.store, "held") == []


async def test_what_was_said_beside_a_lease_is_of_its_newest_engine_and_goes_with_it(
    postgres: Server, between: tuple[Between, Location, Location], seen: Leases
) -> None:
    *_, directly = between
    older, newer = Holder("s", 1, "a boot", 1, None), Holder("s", 2, "b boot", 2, 7)
    with anyio.fail_after(LIMIT_S):
        await seen.renew(older, LEASE_S)
        async with row_held(postgres, directly, "s"):
            await seen.renew(older, 2 * LEASE_S)
            (lease,) = await seen.all()
            assert (lease.holder, lease.renewals) == (older, 2)
            await seen.renew(older, LEASE_S)
            await seen.give_back("s", 1)  # as far as nobody holds it
            (lease,) = await seen.all()
            assert (lease.holder, lease.renewals) == (older, 1)
            await seen.renew(older, LEASE_S)
        await seen.renew(newer, LEASE_S)
        (lease,) = await seen.all()
        assert (lease.holder, lease.renewals) == (newer, 2)
        await seen.renew(older, LEASE_S)  # which knows nothing of the newer one
        assert [each.holder for each in await seen.all()] == [newer]
        await seen.give_back("s", 1)
        await seen.give_back("s", 2)
        assert await seen.all() == []


@pytest.mark.parametrize("set_back", ["1 hour", "400 days", "-400 days"])
async def test_a_lease_lapses_in_its_life_whatever_the_clock_of_the_server_is_set_to(
    postgres: Server,
    between: tuple[Between, Location, Location],
    seen: Leases,
    set_back: str,
) -> None:
    """One that is set back later shows a time that leases seem to outlive by so much."""
    *_, directly = between
    operator = await postgres.connect(directly.url.rpartition("/")[2])
    with anyio.fail_after(LIMIT_S):
        async with engine(directly, "dead"), engine(directly, "other") as (other, watching):
            await operator.execute(
                f"UPDATE runoff.leases SET expires = expires + interval '{set_back}'"
                " WHERE session = 'dead'"
            )
            async with keeping(watching):
                began_s = anyio.current_time()
                while not await other.store.records(Query(types=("session.lapsed",))):
                    await seen.until_hint(0.05)
                assert anyio.current_time() - began_s >= LEASE_S
    await operator.close()


async def test_what_time_it_is_is_asked_of_the_server(seen: Leases) -> None:
    """Here it stands on this machine."""
    before_us = SystemClock().now_us()
    there_us = await seen.now_us()
    assert before_us - MILLISECOND_US <= there_us <= SystemClock().now_us() + MILLISECOND_US
