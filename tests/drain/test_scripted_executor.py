"""Scripts of outcomes: what they may say, what is refused, and an hour that costs nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

from engine.drain.virtual import VirtualTimeLoop
from engine.errors import UsageProblem
from engine.executors.port import Assignment, Executor, PhaseSheet, Report, Spawned, Watch
from engine.executors.scripted import NO_RULE, Rule, ScriptedExecutor, load_script

GOLDEN = Path(__file__).parents[3] / "shared" / "data" / "golden_decisions.json"
HOUR_S = 3600.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


def assigned(
    run: str = "run-a", phase: str = "p1", attempt: int = 1, timeout_s: float = HOUR_S
) -> Assignment:
    return Assignment(
        session_id="s",
        attempt_id="att_1",
        sheet=PhaseSheet(
            run_id=run,
            tier_id="t",
            phase_id=phase,
            phase_index=0,
            name=phase,
            state="FAILED",
            attempt=attempt,
        ),
        timeout_s=timeout_s,
        grace_s=5,
        deadline_us=0,
    )


async def no_process(_: Spawned) -> None:
    pytest.fail("a script starts no process")


def watching() -> Watch:
    return Watch(spawned=no_process, abandon=anyio.Event())


async def play(rules: list[Rule], assignment: Assignment) -> Report:
    executor: Executor = ScriptedExecutor(rules)
    return await executor.run(assignment, watching())


async def test_the_first_rule_that_matches_decides() -> None:
    rules = [
        Rule(run="run-b*", rc=3),
        Rule(phase="*test?", rc=4),
        Rule(attempt=2, rc=5),
        Rule(run="run-[ac]", phase="p*", rc=6),
        Rule(rc=7),
    ]
    for assignment, code in [
        (assigned(run="run-b1", phase="my-test1", attempt=2), 3),
        (assigned(phase="my-test1", attempt=2), 4),
        (assigned(phase="p1", attempt=2), 5),
        (assigned(phase="p1"), 6),
        (assigned(phase="P1"), 7),
    ]:
        assert (await play(rules, assignment)).exit_code == code


async def test_without_a_matching_rule_the_attempt_fails_and_says_so() -> None:
    report = await play([Rule(run="other")], assigned())
    assert (report.ended, report.exit_code, report.reason) == ("exited", 1, NO_RULE)
    assert report.claimed_success is None


async def test_a_rule_says_state_reason_and_output() -> None:
    rule = Rule(state="GATE", rc=2, reason="{phase} of {run}, {other}", stdout="out", stderr="é")
    report = await play([rule], assigned())
    assert (report.final_state, report.exit_code) == ("GATE", 2)
    assert report.reason == "p1 of run-a, {other}"
    assert report.claimed_success is False
    assert (report.stdout.data, report.stderr.data) == (b"out", "é".encode())
    assert report.stderr.total_bytes == 2


async def test_only_a_rule_with_an_empty_reason_clears_the_one_before() -> None:
    for rule, reason, clears in [
        (Rule(rc=1), None, False),
        (Rule(rc=1, reason=None), None, True),
        (Rule(rc=1, reason=""), None, True),
        (Rule(rc=1, reason="new"), "new", False),
    ]:
        report = await play([rule], assigned())
        assert (report.reason, report.clears_reason) == (reason, clears)


async def test_the_code_alone_tells_the_state() -> None:
    done = await play([Rule()], assigned())
    failed = await play([Rule(rc=1)], assigned())
    assert (done.final_state, done.claimed_success) == ("COMPLETE", True)
    assert (failed.final_state, failed.claimed_success) == ("FAILED", False)


async def test_a_negative_code_is_what_a_program_gets_that_exits_with_it() -> None:
    report = await play([Rule(rc=-9)], assigned())
    assert (report.exit_code, report.signal) == (247, None)


async def test_usage_is_written_by_number_or_in_full(tmp_path: Path) -> None:
    by_number = (await play([Rule(events=3)], assigned())).telemetry
    assert [each.line for each in by_number.usage] == [1, 2, 3]
    assert {each.source for each in by_number.usage} == {"script"}
    assert by_number.lines_read == 3
    script = [{"usage": [{"type": "usage", "model": "m", "output_tokens": 9}]}]
    (rule,) = load_script(written(tmp_path, json.dumps(script)))
    (record,) = (await play([rule], assigned())).telemetry.usage
    assert (record.model, record.output_tokens, record.input_tokens) == ("m", 9, None)


async def test_a_sleep_within_the_deadline_is_only_a_duration() -> None:
    report = await play([Rule(sleep=HOUR_S - 1)], assigned())
    assert (report.ended, report.duration_ms) == ("exited", 3_599_000)


async def test_a_sleep_beyond_the_deadline_is_a_timeout_that_claims_nothing() -> None:
    rule = Rule(sleep=HOUR_S + 1, events=2, state="COMPLETE", reason="never said", stdout="o")
    report = await play([rule], assigned())
    assert (report.ended, report.duration_ms) == ("timed_out", 3_600_000)
    assert (report.exit_code, report.final_state, report.reason) == (None, None, None)
    assert report.claimed_success is None
    assert (len(report.telemetry.usage), report.stdout.data) == (2, b"o")


@pytest.mark.parametrize("sleep", [0.0, HOUR_S / 2, HOUR_S * 2])
async def test_an_attempt_told_to_stop_is_abandoned(sleep: float) -> None:
    watch = watching()
    watch.abandon.set()
    report = await ScriptedExecutor([Rule(sleep=sleep)]).run(assigned(), watch)
    assert (report.ended, report.duration_ms) == ("abandoned", 0)


async def test_an_attempt_told_to_stop_midway_stops_then() -> None:
    watch = watching()
    reports: list[Report] = []

    async def execute() -> None:
        reports.append(await ScriptedExecutor([Rule(sleep=HOUR_S / 2)]).run(assigned(), watch))

    async with anyio.create_task_group() as group:
        group.start_soon(execute)
        await anyio.sleep(60)
        watch.abandon.set()
    assert (reports[0].ended, reports[0].duration_ms) == ("abandoned", 60_000)


async def test_cancelling_stops_a_script() -> None:
    began_s = anyio.current_time()
    with anyio.move_on_after(60):
        await play([Rule(sleep=HOUR_S / 2)], assigned())
    assert anyio.current_time() - began_s == pytest.approx(60, abs=1)


async def test_two_hundred_hours_of_timeouts_pass_side_by_side() -> None:
    executor = ScriptedExecutor([Rule(sleep=2 * HOUR_S)])
    reports: list[Report] = []

    async def execute(number: int) -> None:
        reports.append(await executor.run(assigned(run=f"run-{number}"), watching()))

    began_s = anyio.current_time()
    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(execute, number)
    assert [report.ended for report in reports] == ["timed_out"] * 200
    assert anyio.current_time() - began_s == pytest.approx(HOUR_S, abs=1)


def written(directory: Path, text: str) -> Path:
    path = directory / "script.json"
    path.write_text(text)
    return path


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_script_is_a_list_of_rules_or_an_object_with_one(tmp_path: Path, wrapped: bool) -> None:
    rules = [{"run": "a*", "rc": 1, "reason": None, "sleep": 2}, {}]
    value: object = {"rules": rules, "about": "this"} if wrapped else rules
    assert load_script(written(tmp_path, json.dumps(value))) == (
        Rule(run="a*", rc=1, reason=None, sleep=2.0),
        Rule(),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "is not JSON"),
        ("", "is not JSON"),
        ('["\\ud800"]', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("3", "holds no list of rules"),
        ("{}", "holds no list of rules"),
        ('{"rules": {}}', "holds no list of rules"),
        ('[{}, {"colour": 1}]', "rule 2: Object contains unknown field `colour`"),
        ('[{"rc": "1"}]', "rule 1, key rc: Expected `int`, got `str`"),
        ('[{"rc": 256}]', "rule 1, key rc: Expected `int` <= 255"),
        ('[{"rc": null}]', "rule 1, key rc: Expected `int`, got `null`"),
        ('[{"state": "DONE"}]', "rule 1, key state: Invalid enum value 'DONE'"),
        ('[{"events": -1}]', "rule 1, key events: Expected `int` >= 0"),
        ('[{"events": true}]', "rule 1, key events: Expected `int`, got `bool`"),
        ('[{"sleep": -1}]', "rule 1, key sleep: Expected `float` >= 0"),
        ('[{"attempt": 0}]', "rule 1, key attempt: Expected `int` >= 1"),
        ('[{"run": 5}]', "rule 1, key run: Expected `str`, got `int`"),
        ('[{"usage": [{"tokens": 1}]}]', "key usage[0]: Object contains unknown field `tokens`"),
        ('[{"usage": 3}]', "rule 1, key usage: Expected `array | null`, got `int`"),
        ('["rule"]', "rule 1: Expected `object`, got `str`"),
        ("[" + "{}," * 10_000 + "{}]", "holds 10001 rules"),
    ],
)
def test_a_script_that_cannot_be_meant_is_refused_with_the_place(
    tmp_path: Path, text: str, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(UsageProblem) as refusal:
        load_script(path)
    assert words in refusal.value.problem
    assert str(path) in refusal.value.problem
    assert refusal.value.remedy


def test_a_refused_rule_comes_with_what_may_stand_there(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem) as refusal:
        load_script(written(tmp_path, '[{"stat": "FAILED"}]'))
    assert "run, phase, attempt, state, rc" in refusal.value.remedy
    with pytest.raises(UsageProblem) as refusal:
        load_script(written(tmp_path, '[{"state": "DONE"}]'))
    assert "COMPLETE, FAILED" in refusal.value.remedy


def test_a_script_that_is_no_readable_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json", Path("/dev/zero")):
        with pytest.raises(UsageProblem, match="cannot be read"):
            load_script(path)


async def test_the_recorded_scenarios_play_as_they_were_recorded(tmp_path: Path) -> None:
    if not GOLDEN.exists():
        pytest.skip(f"{GOLDEN.name} is not at hand")
    scenarios: list[dict[str, Any]] = json.loads(GOLDEN.read_text())["scenarios"]
    for scenario in scenarios:
        executor = ScriptedExecutor(load_script(written(tmp_path, json.dumps(scenario))))
        for decision in scenario["decisions"]:
            assignment = assigned(decision["run"], decision["phase"], timeout_s=4)
            report = await executor.run(assignment, watching())
            if decision["final_state"] == "TIMEOUT":
                assert (report.ended, report.duration_ms) == ("timed_out", 4000)
                continue
            assert report.exit_code == decision["returncode"]
            assert report.final_state == decision["final_state"]
            assert len(report.telemetry.usage) == decision["events"]
            assert report.claimed_success == decision["success"]
