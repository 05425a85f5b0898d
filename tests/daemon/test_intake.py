"""What is handed to a living daemon: backlog, an operator's words, a rule set's, reports."""

from __future__ import annotations

import anyio
import pytest
from msgspec.structs import replace

from engine.backlog.batch import Registration
from engine.errors import UsageProblem
from engine.events import CalibrationProposed, PhaseRegistered
from engine.executors.scripted import Rule
from engine.triage.operating import ProposeCalibration, ReinstateRun, RequeuePhase
from tests.living import HOUR_S, Living, audited, changed, group


def requeued(*, why: str) -> RequeuePhase:
    return RequeuePhase(run_id="a", phase_id="p0", by="ann", why=why)


async def test_an_operators_word_is_work_at_once() -> None:
    living = Living(rules=[Rule(state="FAILED", rc=1, sleep=1)])
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        before = len(await living.starts())
        await service.intake.operate(requeued(why="fixed"))
        with pytest.raises(UsageProblem):
            await service.intake.operate(ReinstateRun(run_id="nope", by="ann", why="x"))
        await anyio.sleep(HOUR_S)
        assert len(await living.starts()) > before
    await audited(living)


async def test_a_phase_is_registered_once_whatever_the_key() -> None:
    living = Living()
    async with living.life(group("a", 2)) as service:
        await service.intake.register(group("a", 2))  # the same again is answered
        with pytest.raises(UsageProblem, match="already"):
            await service.intake.register(replace(group("a", 3), key="another"))
        with pytest.raises(UsageProblem, match="'run/a' is in the log already, and was registered"):
            await service.intake.register(group("a", 3))
    assert len(await living.records("backlog.phase_registered")) == 2


@pytest.mark.parametrize("stream", ["run/b", "run/", "run/a#2"])
async def test_a_run_is_registered_in_its_own_stream_or_an_imports(stream: str) -> None:
    living = Living()
    async with living.life() as service:
        with pytest.raises(UsageProblem, match="stream"):
            await service.intake.register(replace(group("a", 1), stream=stream))
        both = replace(group("a", 1), events=(*group("a", 1).events, *group("c", 1).events))
        with pytest.raises(UsageProblem, match="stream"):
            await service.intake.register(both)
        await service.intake.register(replace(group("a", 1), stream="import/legacy"))
    assert len(await living.records("backlog.phase_registered")) == 1


@pytest.mark.parametrize(
    "otherwise",
    [
        group("a", 2),
        replace(group("a", 1), key="run/a#2"),
        replace(group("a", 1), key="run/a#2", events=group("a", 1).events[:1]),
    ],
    ids=["key", "phase", "run"],
)
async def test_a_run_that_is_there_is_not_registered_otherwise(otherwise: Registration) -> None:
    """Its phases would be added to, and its caps told anew."""
    living = Living()
    async with living.life() as service:
        await service.intake.register(group("a", 1))
        with pytest.raises(UsageProblem, match="in the log already") as refused:
            await service.intake.register(otherwise)
        assert "--run-id NEW-ID" in refused.value.remedy
        await service.intake.register(group("a", 1))
    assert len(await living.records("backlog.*")) == 2


@pytest.mark.parametrize("name", ["", " a", "a\0", "a\nb", "\ud800", "a" * 513])
async def test_what_no_plan_may_be_called_no_daemon_registers(name: str) -> None:
    """A server would take no such id, and end the daemon with it."""
    living = Living()
    async with living.life() as service:
        phase = group("a", 1).events[1]
        assert isinstance(phase, PhaseRegistered)
        for stream, event in (
            ("import/x", replace(phase, phase_id=name)),
            ("import/x", replace(phase, tier_id=name)),
            (f"run/{name}", replace(phase, run_id=name)),
            (f"import/{name}", phase),
        ):
            with pytest.raises(UsageProblem):
                await service.intake.register(
                    Registration(key="run/k", stream=stream, events=(event,))
                )
        await service.intake.register(group("a" * 512, 1))
    assert len(await living.records("backlog.*")) == 2


async def test_a_phase_that_stands_twice_in_a_group_is_refused_with_it() -> None:
    living = Living()
    async with living.life() as service:
        twice = group("a", 2).events
        with pytest.raises(UsageProblem, match="already"):
            await service.intake.register(replace(group("a", 2), events=(*twice, twice[-1])))
    assert await living.records("backlog.*") == []


async def test_a_word_that_is_too_long_is_refused_and_the_next_one_is_heard() -> None:
    living = Living(rules=[Rule(state="FAILED", rc=1, sleep=1)])
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        for _ in range(2):
            with pytest.raises(UsageProblem, match="phase_requeued has 300"):
                await service.intake.operate(requeued(why="x" * 300_000))
        await service.intake.operate(requeued(why="fixed"))
    assert len(await living.records("backlog.phase_requeued")) == 1
    await audited(living)


async def test_two_words_at_once_are_decided_one_after_the_other() -> None:
    living = Living(rules=[Rule(state="FAILED", rc=1, reason="x", sleep=1)])
    refused: list[UsageProblem] = []
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        await service.pause("ann", "so that nothing starts meanwhile")

        async def reinstate() -> None:
            try:
                await service.intake.operate(ReinstateRun(run_id="a", by="ann", why="x"))
            except UsageProblem as problem:
                refused.append(problem)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(reinstate)
            tasks.start_soon(reinstate)
    assert len(refused) == 1
    assert len(await living.records("operator.run_reinstated")) == 1


async def test_of_two_who_read_the_same_word_of_an_attempt_one_is_taken_in() -> None:
    living = Living()
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        (end,) = await living.records("attempt.finished")
        change = changed(str(end.attempt), end.pos, end.pos)
        await service.intake.reclassify([change])
        await service.intake.reclassify([change])
        with pytest.raises(UsageProblem, match="another word"):
            await service.intake.reclassify(
                [changed(str(end.attempt), end.pos, end.pos, text="other")]
            )
        (word,) = await living.records("diagnosis.reclassified")
        assert word.cause == end.pos
        await service.intake.reclassify(
            [changed(str(end.attempt), end.pos, word.pos, text="other")]
        )
        assert len(await living.records("diagnosis.reclassified")) == 2


@pytest.mark.parametrize("places", [(0, 1), (2, 1), (1, 10**9)])
async def test_a_word_on_what_is_not_in_the_log_is_refused(places: tuple[int, int]) -> None:
    living = Living()
    async with living.life(group("a", 1)) as service:
        await anyio.sleep(HOUR_S)
        with pytest.raises(UsageProblem):
            await service.intake.reclassify([changed("att", *places)])
        two = changed("att", 1, 1)
        events = (*two.events, *changed("other", 1, 1).events)
        with pytest.raises(UsageProblem):
            await service.intake.reclassify([replace(two, events=events)])
        assert await living.records("diagnosis.reclassified") == []


async def test_a_report_of_what_is_not_in_the_log_is_refused() -> None:
    living = Living()
    report = CalibrationProposed(
        position=10**9,
        hash="",
        input_sha256="",
        formula_version="",
        coefficient_version=None,
        min_samples=5,
        confidence_threshold=0.5,
        samples=0,
        groups=0,
        sentence="",
    )
    async with living.life(group("a", 1)) as service:
        with pytest.raises(UsageProblem):
            await service.intake.operate(ProposeCalibration(proposal=report))
        await service.intake.operate(ProposeCalibration(proposal=replace(report, position=1)))
    assert len(await living.events("calibration.proposed")) == 1
