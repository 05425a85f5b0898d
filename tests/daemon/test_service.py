"""What a daemon does over hours and days: pauses, windows, budgets, reloads, restarts."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from engine.calibration.estimator import Coefficients, shipped
from engine.daemon import service as service_module
from engine.daemon.notify import Notifier
from engine.daemon.settings import SETTINGS_BYTES_MAX, Settings, plan_of, settings_from, table_from
from engine.drain.loop import Drain
from engine.errors import DiskFull, LogHeld, UsageProblem
from engine.events import (
    DaemonConfigured,
    PolicyAdopted,
    SessionDraining,
    SessionResumed,
    SessionStarted,
)
from engine.executors.scripted import Rule, ScriptedUsage
from engine.triage.policy import POLICIES, Policy
from tests.living import DAY_S, HOUR_S, MINUTE_S, Living, audited, ends, group, us

OK = Rule(state="COMPLETE", rc=0, events=1, sleep=MINUTE_S)
FREE = Policy(name="free", order_phases=False)


async def test_it_waits_for_work_and_takes_what_comes_without_a_restart() -> None:
    living = Living()
    async with living.life(group("a", 2)) as service:
        await anyio.sleep(DAY_S / 4)
        assert len(await living.starts()) == 2
        head = service.recorder.head.pos
        await anyio.sleep(DAY_S / 4)
        assert service.recorder.head.pos == head, "waiting records nothing"
        await service.intake.register(group("b", 1))
        await anyio.sleep(1)
        assert len(await living.starts()) == 3
    assert await ends(living) == ["interrupted"]
    await audited(living)


async def test_a_pause_lets_attempts_finish_and_starts_none_until_resumed() -> None:
    living = Living(policy=FREE, workers=1)
    async with living.life(group("a", 5)) as service:
        await anyio.sleep(90)
        await service.pause("ann", "look at it")
        await service.pause("bob", "twice is once")
        assert service.status().state == "paused"
        await anyio.sleep(HOUR_S)
        assert len(await living.starts()) == 2
        await service.resume("ann", "done")
        await service.resume("ann", "twice is once")
        await anyio.sleep(1)
        assert len(await living.starts()) == 3
    assert len(await living.events("daemon.paused", "daemon.resumed")) == 2
    assert len(set(await living.sessions_of_starts())) == 1, "a pause begins no session anew"
    await audited(living)


async def test_a_writer_that_fails_ends_a_daemon_that_has_nothing_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> None:
        raise DiskFull("the disk is full.", remedy="free space.")

    living, heard = Living(), False
    try:
        async with living.life(group("a", 1)) as service:
            await anyio.sleep(HOUR_S)
            monkeypatch.setattr(living.store, "transaction", full)
            await service.reload_or_complain()
            heard = True
            await anyio.sleep(HOUR_S)
            pytest.fail(f"it says {service.status().sentence!r}")
    except* DiskFull:
        assert heard


async def test_a_server_that_stays_away_is_told_of_and_that_it_is_back() -> None:
    living = Living()
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        away = service.recorder.leaving.away
        for told, away_s in ((False, 1), (True, 3)):
            with away(), away():
                await anyio.sleep(away_s)
                found = (service.state == "server_away", not service.is_ready)
                assert found == (told, told)
            await anyio.sleep(0.1)
            assert (service.state, service.is_ready) == ("running", True)
        with away():
            await anyio.sleep(3)
            service.stop()
            assert service.state == "stopping"
    told_of = [name for name, _ in living.lines.lines if "server" in name]
    assert told_of == ["daemon.server_away", "daemon.server_back"] * 2
    assert all("cannot be reached" in text for text in living.lines.errors)


async def test_a_short_pause_does_not_wait_for_what_runs() -> None:
    living = Living(policy=FREE, workers=2)
    async with living.life(group("a", 1), group("b", 5)) as service:
        await anyio.sleep(1)
        await service.pause("ann", "a moment")
        await service.resume("ann", "over")
        await service.intake.register(group("c", 1))
        await anyio.sleep(30)
        assert service.status().state == "running"
    (draining,) = [
        event
        for event in await living.events("session.draining")
        if isinstance(event, SessionDraining) and event.because == "paused"
    ]
    assert "ann paused the daemon: a moment" in draining.reason.sentence
    await audited(living)


async def test_a_pause_outlives_the_daemon() -> None:
    living = Living()
    async with living.life() as service:
        await service.pause("ann", "hold it")
    for _ in range(2):
        async with living.life(group("a", 1)) as service:
            await anyio.sleep(HOUR_S)
            status = service.status()
            assert (status.state, status.sentence) == ("paused", "ann paused the daemon: hold it")
    assert await living.starts() == []
    async with living.life() as service:
        await service.resume("ann", "go")
        await anyio.sleep(1)
        assert len(await living.starts()) == 1


async def test_attempts_start_only_while_a_window_is_open() -> None:
    living = Living(
        "2026-10-23T12:00:00+02:00",  # a Friday; on Sunday the clocks go back
        policy=FREE,
        workers=1,
        windows=("20:00-23:30", "Sun 02:00-03:30"),
        timezone="Europe/Berlin",
    )
    async with living.life(group("a", 2000)) as service:
        assert service.status().state in ("starting", "window_closed")
        await anyio.sleep(1)
        assert service.status().until_us == us("2026-10-23T20:00:00+02:00")
        await anyio.sleep(4 * DAY_S)
    opened = [
        (us(f"2026-10-{day}T20:00:00{zone}"), us(f"2026-10-{day}T23:30:00{zone}"))
        for day, zone in ((23, "+02:00"), (24, "+02:00"), (25, "+01:00"), (26, "+01:00"))
    ]
    opened.append((us("2026-10-25T02:00:00+02:00"), us("2026-10-25T03:30:00+01:00")))
    starts = await living.starts()
    for start_us, end_us in opened:
        inside = [start for start in starts if start_us <= start < end_us]
        assert inside[0] == start_us, "it begins when the window opens"
        assert len(inside) == (end_us - start_us) // (MINUTE_S * 1_000_000)
        starts = [start for start in starts if start not in inside]
    assert starts == []
    assert set(await ends(living)) == {"window_closed"}
    await audited(living)


async def test_a_days_budget_holds_until_midnight_and_not_longer() -> None:
    usage = (ScriptedUsage(output_tokens=100),)
    rules = [Rule(state="COMPLETE", rc=0, usage=usage, sleep=MINUTE_S)]
    living = Living(
        "2026-11-26T23:00:00+00:00", policy=FREE, workers=1, rules=rules, max_day_tokens=1000
    )
    async with living.life(group("a", 100)) as service:
        await anyio.sleep(HOUR_S - 1)
        status = service.status()
        assert (status.state, status.today.tokens) == ("day_budget", 1000)
        assert status.until_us == us("2026-11-27T00:00:00+00:00")
        await anyio.sleep(2 * DAY_S)
    starts = await living.starts()
    midnight_us = us("2026-11-27T00:00:00+00:00")
    assert sum(start < midnight_us for start in starts) == 10
    assert starts[10] == midnight_us
    assert len(starts) == 30
    await audited(living)


async def test_parts_of_sessions_that_do_nothing_come_a_second_apart_whatever_they_rest_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: object, **__: object) -> None:
        """It does not see that the day is used up."""

    monkeypatch.setattr(service_module, "rest_of", never)
    living = Living(policy=FREE, workers=1, budget=("day:attempts=1",))
    async with living.life(group("a", 9)):
        await anyio.sleep(2 * MINUTE_S)
        for _ in range(2000):  # in which no time goes by
            await anyio.lowlevel.checkpoint()
        assert len(await ends(living)) == pytest.approx(MINUTE_S, abs=2)
    assert set(await ends(living)) <= {"day_budget", "interrupted"}
    assert len(await living.starts()) == 1


async def test_a_session_lasts_a_day_of_the_daemons_time_and_a_restart_changes_nothing() -> None:
    living = Living(policy=FREE, workers=1, session_hours=2)
    for _ in range(3):
        async with living.life(group("a", 400)):
            await anyio.sleep(1.5 * HOUR_S)
    sessions = await living.sessions_of_starts()
    assert len(dict.fromkeys(sessions)) == 3
    begun = await living.events("session.started", "session.resumed")
    kinds = [type(event) for event in begun]
    assert kinds.count(SessionStarted) == 3
    assert kinds.count(SessionResumed) == 2
    await audited(living)


async def test_a_reload_is_recorded_and_governs_what_is_decided_from_then_on() -> None:
    living = Living(policy=FREE, workers=1)
    async with living.life(*(group(name, 40) for name in "abcd")) as service:
        await anyio.sleep(90)
        living.again(POLICIES["default"], workers=3)
        await service.reload()
        await anyio.sleep(1)
        assert service.status().open_attempts == 3
        assert service.status().policy == "default@2"
    configured = [e for e in await living.events("daemon.*") if isinstance(e, DaemonConfigured)]
    assert [event.because for event in configured] == ["started", "reloaded"]
    adopted = [e.policy for e in await living.events("session.*") if isinstance(e, PolicyAdopted)]
    assert adopted == ["free@1", "default@2"]
    assert len(set(await living.sessions_of_starts())) == 1
    await audited(living)


async def test_a_reload_of_nonsense_changes_nothing_and_is_said_once() -> None:
    living = Living(policy=FREE, workers=1)

    def broken() -> None:
        raise UsageProblem("daemon.toml: workers is no number.", remedy="write one.")

    async with living.life(group("a", 40)) as service:
        await anyio.sleep(90)
        service.load = broken  # type: ignore[assignment]
        await service.reload_or_complain()
        assert len(living.lines.errors) == 1
        assert "workers is no number" in living.lines.errors[0]
        assert service.status().settings == Settings(workers=1)
        await anyio.sleep(HOUR_S)
        assert len(await living.starts()) == 40
    assert len(await living.events("daemon.configured")) == 1


class Manager(Notifier):
    """Tells a list instead of a service manager."""

    def __init__(self) -> None:
        super().__init__({})
        self.told: list[str] = []

    def _send(self, state: str) -> None:
        self.told.append(state.partition("\n")[0])


async def test_a_reload_calls_nobody_ready_who_is_not_ready_yet_or_any_more() -> None:
    living, manager = Living(policy=FREE), Manager()
    async with living.life(group("a", 1)) as service:
        service.notifier = manager
        await service.reload()
        await anyio.sleep(1)
        await service.reload()
        service.stop()
        await service.reload()
    states = [state for state in manager.told if not state.startswith("STATUS=")]
    assert states[:3] == ["READY=1", "RELOADING=1", "READY=1"]
    assert set(states[3:]) == {"STOPPING=1"}
    assert len(await living.events("daemon.configured")) == 4


async def test_coefficients_that_cannot_be_read_any_more_change_nothing_and_are_said() -> None:
    living = Living()
    answers = iter([shipped()])

    async def read() -> Coefficients:
        for found in answers:
            return found
        raise UsageProblem("c.toml is broken.", remedy="mend it.")

    living.coefficients = read
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        await service.pause("ann", "lunch")
        await anyio.sleep(HOUR_S)
        await service.intake.register(group("b", 1))
        await service.resume("ann", "back")
        await anyio.sleep(HOUR_S)
    assert len(await living.starts()) == 2
    assert living.lines.errors == ["c.toml is broken. The old ones stay in force; mend it."]
    assert len(await living.events("attempt.estimated")) == 2


async def test_a_session_that_another_engine_took_first_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    living = Living()
    async with living.life(group("a", 1)):
        await anyio.sleep(HOUR_S)

    @asynccontextmanager
    async def joined(
        place: object, drain: Drain, *, end: bool
    ) -> AsyncGenerator[frozenset[str] | None]:
        assert (place, end) == (None, False)
        if drain.scope.session_id in {event.session_id for event in begun}:
            raise LogHeld("another engine is at the session.", remedy="wait.")
        yield None

    begun = [e for e in await living.events("session.started") if isinstance(e, SessionStarted)]
    monkeypatch.setattr(service_module, "joined", joined)
    async with living.life(group("b", 1)):
        await anyio.sleep(HOUR_S)
    assert len(await living.events("session.started")) == 2
    assert len(await living.starts()) == 2


async def test_a_streak_without_usage_halts_it_until_a_person_resumes() -> None:
    policy = Policy(name="t", order_phases=False, consecutive_zero_yield_max=3)
    living = Living(policy=policy, workers=1, rules=[Rule(state="COMPLETE", rc=0, sleep=1)])
    async with living.life(group("a", 20)) as service:
        await anyio.sleep(DAY_S)
        assert len(await living.starts()) == 3
        assert service.status().state == "halted"
        await service.resume("ann", "the key is right now")
        await anyio.sleep(DAY_S)
        assert len(await living.starts()) == 6
    await audited(living)


async def test_a_run_that_has_cooled_down_is_tried_again_at_that_moment() -> None:
    policy = Policy(
        name="t",
        cool_down_ms=HOUR_S * 1000,
        attempts_per_phase_max=9,
        fingerprint_repeats_max=None,
    )
    rules = [Rule(state="FAILED", rc=1, reason="the database is down", sleep=1)]
    living = Living(policy=policy, workers=1, rules=rules)
    async with living.life(group("a", 1), group("b", 1)):
        await anyio.sleep(3.5 * HOUR_S)
    cooled = await living.records("triage.run_cooled_down")
    judged = await living.records("triage.run_judged")
    assert len(cooled) >= 3
    for record in cooled:
        assert any(record.recorded_us - j.recorded_us == HOUR_S * 1_000_000 for j in judged)
    await audited(living)


async def test_an_account_that_rests_is_gone_to_again_at_the_moment_that_its_provider_named() -> (
    None
):
    policy = Policy(name="t", order_phases=False, provider_pause_ms=60_000)
    limit = "429 rate limit exceeded. Please try again in 20m."
    rules = [Rule(phase="p0", attempt=1, state="FAILED", rc=1, stderr=limit, sleep=1), OK]
    living = Living(policy=policy, workers=1, rules=rules)
    async with living.life(group("a", 3)):
        await anyio.sleep(HOUR_S)
    (paused,) = await living.records("triage.account_paused")
    starts = await living.starts()
    assert starts[1] == paused.recorded_us + 20 * MINUTE_S * 1_000_000
    await audited(living)


async def test_an_open_breaker_is_probed_at_each_due_moment() -> None:
    policy = Policy(
        name="t",
        breaker_runs=2,
        breaker_probes_max=0,
        breaker_cool_down_ms=15 * MINUTE_S * 1000,
        fingerprint_repeats_max=None,
    )
    rules = [Rule(state="FAILED", rc=1, reason="the database is down", sleep=1)]
    living = Living(policy=policy, workers=1, rules=rules)
    async with living.life(*(group(f"r{number}", 1) for number in range(9))):
        await anyio.sleep(HOUR_S)
    started = await living.records("attempt.started")
    starts = [r.recorded_us for r in started if '"probe_of":' in r.data]
    opened = (await living.records("triage.breaker_opened"))[0].recorded_us
    probed = [r.recorded_us for r in await living.records("triage.breaker_probed")]
    due = [moment + 15 * MINUTE_S * 1_000_000 for moment in (opened, *probed)]
    assert len(starts) == 3
    assert starts == due[:3]
    await audited(living)


@pytest.mark.parametrize("stop_s", [5, 600])
async def test_it_stops_within_its_bound_and_every_attempt_is_closed(stop_s: int) -> None:
    living = Living(policy=FREE, workers=2, stop_seconds=stop_s)
    async with living.life(group("a", 40)):
        await anyio.sleep(90)
        asked_s = anyio.current_time()
    assert anyio.current_time() - asked_s == pytest.approx(min(stop_s, 30), abs=0.01)
    endings = [r for r in await living.records("attempt.finished") if "abandoned" in r.data]
    assert len(endings) == (2 if stop_s == 5 else 0)
    assert len(await living.starts()) == len(await living.records("attempt.finished"))
    await audited(living)


async def test_a_week_goes_by_its_settings_and_takes_no_memory() -> None:
    living = Living(
        "2026-11-23T00:00:00+00:00",
        policy=FREE,
        workers=4,
        max_per_run=4,
        rules=[Rule(state="COMPLETE", rc=0, events=1, sleep=10 * MINUTE_S)],
        windows=("Mon-Fri 20:00-06:00", "Sat,Sun 00:00-24:00"),
        budget=("day:attempts=200",),
    )
    used: list[int] = []
    async with living.life() as service:
        for day in range(7):
            await service.intake.register(group(f"r{day}", 300))
            await anyio.sleep(DAY_S / 2)
            if day % 3 == 0:
                await service.pause("ann", "lunch")
                await anyio.sleep(HOUR_S)
                await service.resume("ann", "back")
            await anyio.sleep(DAY_S / 2 - (HOUR_S if day % 3 == 0 else 0))
            gc.collect()
            used.append(sys.getallocatedblocks())
    days: dict[int, int] = {}
    for start in await living.starts():
        days[start // (DAY_S * 1_000_000)] = days.get(start // (DAY_S * 1_000_000), 0) + 1
    assert max(days.values()) <= 200 + 3
    assert len(days) == 7
    events = len(await living.records())
    assert used[-1] - used[1] < events * 40, "what grows is the log in memory, and its board"
    await audited(living)


async def test_a_week_of_waiting_takes_nothing() -> None:
    living = Living()
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(DAY_S)
        head, began = service.recorder.head.pos, _blocks()
        await anyio.sleep(7 * DAY_S)
        assert service.recorder.head.pos == head
        assert _blocks() - began < 500


def _blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


@pytest.mark.parametrize("written", ["a{} = 1", "[a{}]"])
def test_a_key_of_many_parts_is_refused_before_it_is_parsed(written: str) -> None:
    text = written.format(".a" * (SETTINGS_BYTES_MAX // 2 - 5))
    with pytest.raises(UsageProblem, match="more than 256 dots"):
        table_from(text, "daemon.toml")


def test_a_plan_refuses_what_a_daemon_has_no_use_for() -> None:
    for wrong in ({"budget": ("session:tokens=5",)}, {"windows": ("x",)}, {"timezone": "Mars/X"}):
        with pytest.raises(UsageProblem):
            plan_of(settings_from(wrong, "test"), FREE)


@pytest.mark.parametrize(
    ("key", "remedy"), [("worker", "did you mean workers?"), ("x", "the settings are policy, ")]
)
def test_a_setting_that_there_is_not_is_named_with_those_there_are(key: str, remedy: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        settings_from({"workers": 2, key: 1}, "daemon.toml")
    assert refused.value.problem == f"daemon.toml: there is no setting {key!r}."
    assert refused.value.remedy.startswith(remedy)
