"""One attempt from its start to its last word: by which policy it is judged, and who closes it."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from msgspec.structs import replace

from engine.detect import Boundary, Detectors
from engine.detect.diagnosis import Streams
from engine.detect.known_limits import KnownLimits
from engine.drain.attendance import MANY_RECORDS
from engine.drain.virtual import VirtualTimeLoop
from engine.errors import DiskFull, Fenced, LogWentBack, RunoffError, StorageFailed
from engine.events import AttemptFinished, RunJudged
from engine.executors import port
from engine.executors.port import Output, Report, Watch
from engine.store.batch import Pending
from engine.store.command import Command, just
from engine.triage.policy import Policy
from engine.triage.scope import Scope
from tests.drain.attended import (
    FAILED,
    SPAWNED,
    Blobs,
    fails,
    is_lost,
    stage,
    until_abandoned,
)
from tests.rules.standings import limits


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.mark.parametrize(
    ("later", "ending"), [((), "failed"), (("second",), "timed_out"), (("second", "x"), "failed")]
)
async def test_an_end_is_judged_by_the_policy_that_is_in_force_when_it_is_recorded(
    later: tuple[str, ...], ending: str
) -> None:
    coming = list(later)

    def another_policy() -> None:
        if coming:
            name = coming.pop(0)
            codes = (1,) if name == "second" else ()
            on.scope = Scope("s", Policy(name=name, timeout_exit_codes=codes), limits())

    async with stage("a", blobs=Blobs(another_policy)) as on:
        await on.play(a=fails)
        assert await on.endings() == {"a": ending}
        verdicts = await on.said("triage.run_judged")
    policies = [e.reason.policy for e in verdicts if isinstance(e, RunJudged)]
    assert policies == [on.scope.policy.label]


@pytest.mark.parametrize("adopted", [False, True])
async def test_only_an_end_that_somebody_else_may_have_recorded_is_searched_for(
    adopted: bool,
) -> None:
    async with stage("a") as on:
        await on.play(adopted=adopted, a=fails)
        assert on.log.searched == ["a.finished"] * adopted


async def test_an_adopted_attempt_that_was_closed_in_the_same_words_is_closed_once() -> None:
    async with stage("a") as on:
        await on.play(adopted=True, a=fails)
        await on.play(adopted=True, a=fails)
        assert await on.endings() == {"a": "failed"}


@pytest.mark.parametrize(("adopted", "ending"), [(False, "broke"), (True, "orphaned")])
async def test_a_guardian_that_vanished_proves_something_only_under_a_living_engine(
    adopted: bool,
    ending: str,
) -> None:
    async with stage("a") as on:
        await on.play(adopted=adopted, a=is_lost)
        assert await on.endings() == {"a": ending}


@pytest.mark.parametrize("adopted", [False, True])
async def test_who_abandons_a_session_abandons_what_it_runs_and_what_it_took_over(
    adopted: bool,
) -> None:
    async with stage("a") as on:
        on.stopping.abandon.set()
        await on.play(adopted=adopted, a=until_abandoned)
        assert await on.endings() == {"a": "abandoned"}
        assert (on.attendance.busy, on.attendance.attended) == (0, frozenset())
        assert on.freed > 0


DISK = StorageFailed("the disk is broken.", remedy="see to it.")
OVERTAKEN = Fenced("overtaken.", remedy="start again.")
WENT_BACK = LogWentBack.behind(7)


@pytest.mark.parametrize(
    ("error", "leaves"), [(DISK, True), (OVERTAKEN, False), (WENT_BACK, False)]
)
async def test_what_runs_is_left_by_a_failing_engine_and_ended_by_an_overtaken_one(
    error: RunoffError,
    leaves: bool,
) -> None:
    left: list[bool] = []

    async def runs(watch: Watch) -> Report:
        try:
            await anyio.sleep_forever()
        finally:
            left.append(watch.leave())
        raise AssertionError

    async def breaks(_watch: Watch) -> Report:
        await anyio.sleep(1)
        raise error

    async with stage("a", "b", "c") as on:
        with pytest.RaisesGroup(type(error), flatten_subgroups=True):
            await on.play(a=runs, b=breaks, c=runs)
        assert left == [leaves, leaves]
        assert await on.endings() == ({} if leaves else {"a": "abandoned", "c": "abandoned"})
        assert on.log.searched == [], "nobody else can have closed what was begun here"


async def after(delay_s: float, report: Report = FAILED) -> Report:
    await anyio.sleep(delay_s)
    return report


async def test_it_is_quiet_once_all_have_ended_though_no_end_is_recorded_yet() -> None:
    async with stage("a", "b") as on:
        on.log.takes_s = 60.0
        begun_s = anyio.current_time()
        quiet_s: list[float] = []

        async def listen() -> None:
            await anyio.lowlevel.checkpoint()
            await on.attendance.until_quiet()
            quiet_s.append(anyio.current_time() - begun_s)
            assert on.attendance.attended

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: on.play(a=lambda _: after(1.0), b=lambda _: after(3.0)))
            group.start_soon(listen)
        assert quiet_s == [pytest.approx(3.0)]
        assert await on.endings() == {"a": "failed", "b": "failed"}


@pytest.mark.parametrize(("records", "apart_s"), [(MANY_RECORDS - 1, 0.0), (MANY_RECORDS, 60.0)])
async def test_ends_with_many_usage_records_are_recorded_one_at_a_time(
    records: int, apart_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = tuple(port.Usage(line=line, source="file") for line in range(1, records + 1))
    report = replace(FAILED, telemetry=port.Telemetry(usage=usage, lines_read=records))
    at_s: list[float] = []
    async with stage("a", "b") as on:
        on.log.takes_s = 60.0
        enqueue = on.recorder.enqueue

        def noted(command: Command) -> Pending:
            at_s.append(anyio.current_time())
            return enqueue(command)

        monkeypatch.setattr(on.recorder, "enqueue", noted)
        await on.play(a=lambda _: after(1.0, report), b=lambda _: after(1.0, report))
        assert await on.endings() == {"a": "failed", "b": "failed"}
    assert at_s[1] - at_s[0] == pytest.approx(apart_s)


async def test_what_children_said_at_length_is_read_of_one_at_a_time() -> None:
    """The next is read behind the commit of the one before, so that memory holds one."""
    read_at_s: list[float] = []
    loop = asyncio.get_running_loop()

    def whole() -> Report:
        read_at_s.append(loop.time())
        return replace(FAILED, reason="as it said at length")

    async with stage("a", "b") as on:
        on.log.takes_s = 60.0
        begun = Report(ended="exited", duration_ms=1, rest=whole)
        await on.play(a=lambda _: after(1.0, begun), b=lambda _: after(1.0, begun))
        finished = await on.said("attempt.finished")
    assert read_at_s[1] - read_at_s[0] == pytest.approx(60.0)
    reasons = [each.error for each in finished if isinstance(each, AttemptFinished)]
    assert reasons == ["as it said at length"] * 2


async def test_who_waits_until_much_is_read_is_at_work_no_more() -> None:
    """A stop may not wait for it: the commit of the one before may wait for a silent server."""
    quiet_s: list[float] = []

    async def listen() -> None:
        await anyio.sleep(2.0)
        await on.attendance.until_quiet()
        quiet_s.append(anyio.current_time() - begun_s)

    async with stage("a", "b") as on:
        on.log.takes_s = 60.0
        begun_s = anyio.current_time()

        async def ends(_watch: Watch) -> Report:
            return await after(1.0, Report(ended="exited", duration_ms=1, rest=lambda: FAILED))

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: on.play(a=ends, b=ends))
            group.start_soon(listen)
    assert quiet_s == [pytest.approx(2.0)]


async def test_a_bug_in_reading_what_a_child_said_costs_its_attempt() -> None:
    def breaks() -> Report:
        raise ZeroDivisionError

    async with stage("a", "b") as on:
        much = Report(ended="exited", duration_ms=1, rest=breaks)
        await on.play(a=lambda _: after(1.0, much), b=fails)
        assert await on.endings() == {"a": "broke", "b": "failed"}


LIMITS_MET = [
    MemoryError(),
    RuntimeError("can't start new thread"),
    OSError(errno.EMFILE, "Too many open files"),
    ExceptionGroup("of a task group", [ValueError(), MemoryError()]),
]


@pytest.mark.parametrize("error", LIMITS_MET)
@pytest.mark.parametrize("where", ["executor", "diagnosis"])
async def test_a_limit_of_the_machine_is_no_failure_of_the_attempt_that_meets_it(
    where: str, error: Exception
) -> None:
    left: list[bool] = []

    def meets_it() -> None:
        raise error

    async def runs(watch: Watch) -> Report:
        try:
            await anyio.sleep_forever()
        finally:
            left.append(watch.leave())
        raise AssertionError

    async def ends(_watch: Watch) -> Report:
        await anyio.sleep(1)
        if where == "executor":
            raise error
        return FAILED

    async with stage("a", "b", blobs=Blobs(meets_it)) as on:
        with pytest.RaisesGroup(
            pytest.RaisesExc(StorageFailed, match="limits of this user or machine"),
            flatten_subgroups=True,
        ):
            await on.play(a=runs, b=ends)
        assert left == [True]
        assert await on.endings() == {}


@pytest.mark.parametrize(
    ("error", "leaves"), [(DISK, True), (OVERTAKEN, False), (WENT_BACK, False)]
)
async def test_a_log_that_takes_no_more_is_as_good_a_reason(
    error: RunoffError,
    leaves: bool,
) -> None:
    left: list[bool] = []

    async def runs(watch: Watch) -> Report:
        on.log.broken = error
        with pytest.raises(type(error)):
            await on.recorder.submit(Command("any", "x", b"", just()))
        left.append(watch.leave())
        raise error

    async with stage("a") as on:
        with pytest.RaisesGroup(type(error), flatten_subgroups=True):
            await on.play(a=runs)
    assert left == [leaves]


async def test_a_worker_is_not_free_where_a_failing_engine_leaves_an_attempt_open() -> None:
    async def runs(watch: Watch) -> Report:
        try:
            await anyio.sleep_forever()
        finally:
            assert watch.leave()
        raise AssertionError

    async def breaks(_watch: Watch) -> Report:
        await anyio.sleep(1)
        raise DISK

    async with stage("a", "b") as on:
        with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
            await on.play(a=runs, b=breaks)
        assert (on.attendance.busy, on.freed) == (2, 0)


@pytest.mark.parametrize("guarded", [False, True])
async def test_without_room_for_output_an_end_is_kept_unless_its_guardian_keeps_it(
    guarded: bool,
) -> None:
    def is_full() -> None:
        raise DiskFull.at("output")

    async def runs(watch: Watch) -> Report:
        if guarded:
            await watch.spawned(SPAWNED)
        return FAILED

    async with stage("a", blobs=Blobs(is_full)) as on:
        with pytest.RaisesGroup(DiskFull, flatten_subgroups=True):
            await on.play(a=runs)
        assert await on.endings() == {}
        kept = [each.diagnosed.finished for each in on.attendance.unrecorded]
        assert [(end.attempt_id, end.stdout.digest) for end in kept] == [("a", None)] * (
            not guarded
        )


async def test_what_runs_is_not_left_while_nothing_has_failed() -> None:
    left: list[bool] = []

    async def runs(watch: Watch) -> Report:
        left.append(watch.leave())
        return FAILED

    async with stage("a") as on:
        await on.play(a=runs)
        assert await on.endings() == {"a": "failed"}
    assert left == [False]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Of each diagnosis that goes to a thread: how many of its kind may be made at once."""
    asked: list[float] = []

    async def in_turn(work: Callable[[], Any], *, limiter: anyio.CapacityLimiter) -> Any:
        asked.append(limiter.total_tokens)
        await anyio.lowlevel.checkpoint()
        return work()

    monkeypatch.setattr(to_thread, "run_sync", in_turn)
    return asked


def prints(head: int, tail: int = 0, stream: str = "stdout") -> Report:
    """The report of an attempt of which so many bytes were kept."""
    size = head + tail
    output = Output(total_bytes=size, head_bytes=head, tail_bytes=tail, data=b"x" * size)
    return replace(FAILED, **{"stdout": Output(), stream: output})


async def test_an_end_that_is_known_is_recorded_although_all_is_cancelled_meanwhile(
    at_once: list[float],
) -> None:
    scope = anyio.CancelScope()

    async def ends(_watch: Watch) -> Report:
        scope.cancel()
        return prints(1000)

    async with stage("a", in_threads=True) as on:
        with scope:
            await on.play(a=ends)
        assert await on.endings() == {"a": "failed"}
    assert at_once == [32]


@pytest.mark.parametrize(
    ("head", "tail", "most"),
    [
        (500, 0, []),
        (501, 0, [32]),
        (1, 500, [32]),
        (64 * 1024, 0, [32]),
        (64 * 1024 + 1, 0, [2]),
        (1, 64 * 1024, [2]),
    ],
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_the_more_output_a_diagnosis_holds_the_fewer_are_made_at_once(
    stream: str, head: int, tail: int, most: list[float], at_once: list[float]
) -> None:
    async def ends(_watch: Watch) -> Report:
        return prints(head, tail, stream)

    async with stage("a", in_threads=True) as on:
        await on.play(a=ends)
    assert at_once == most


async def test_where_a_clock_is_virtual_no_diagnosis_goes_to_a_thread(at_once: list[float]) -> None:
    async def ends(_watch: Watch) -> Report:
        return prints(64 * 1024 + 1)

    async with stage("a") as on:
        await on.play(a=ends)
        assert await on.endings() == {"a": "failed"}
    assert at_once == []


async def test_what_children_said_is_looked_at_once_if_they_said_the_very_same() -> None:
    asked: list[tuple[str, int]] = []

    class Heard(KnownLimits):
        def of(
            self, finished: AttemptFinished, streams: Streams, detectors: Detectors
        ) -> tuple[Boundary, ...]:
            found = super().of(finished, streams, detectors)
            asked.append((finished.attempt_id, len(found)))
            return found

    async def ends(_watch: Watch) -> Report:
        return replace(FAILED, stderr=Output.of(b"Error: prompt is too long: 9 > 8 tokens"))

    async with stage("a", "b") as on:
        on.attendance.limits = Heard()
        await on.play(a=ends, b=ends)
        assert asked == [("a", 1), ("b", 1)]


@pytest.mark.parametrize("is_shared", [False, True])
async def test_only_beside_others_a_child_waits_until_its_guardian_is_recorded(
    is_shared: bool,
) -> None:
    """A commit takes a minute; an engine that was paused is refused by it, and starts nothing."""
    began_s: list[float] = []

    async def runs(watch: Watch) -> Report:
        await watch.spawned(SPAWNED)
        began_s.append(anyio.current_time() - asked_s)
        await anyio.sleep(5 * 60)
        assert [record.type for record in on.told] == ["attempt.spawned"], "told at once"
        return FAILED

    async with stage("a", is_shared=is_shared) as on:
        on.log.takes_s, asked_s = 60, anyio.current_time()
        await on.play(a=runs)
        assert began_s == [60 if is_shared else 0]
        assert on.told[0].type == "attempt.spawned"
        assert on.told[1].type == "attempt.finished"


async def test_a_guardian_that_cannot_be_recorded_ends_the_engine_at_once_and_goes_on() -> None:
    left: list[bool] = []

    async def runs(watch: Watch) -> Report:
        on.log.broken = DISK
        await watch.spawned(SPAWNED)
        try:
            await anyio.sleep_forever()
        finally:
            left.append(watch.leave())
        raise AssertionError

    async with stage("a") as on:
        with pytest.RaisesGroup(StorageFailed, flatten_subgroups=True):
            await on.play(a=runs)
        assert left == [True]
        on.log.broken = None
        assert await on.endings() == {}
