"""Programs under their guardian, as the engine sees them: facts back, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

from engine.errors import RunoffError, StorageFailed, UsageProblem
from engine.events import Deliverable
from engine.executors import command
from engine.executors.adoption import await_guardian
from engine.executors.command import CommandExecutor
from engine.executors.outcome import read_report
from engine.executors.port import PhaseSheet, Report
from engine.executors.processes import boot_id
from tests.drain.executed import LIMIT_S, Attempt, run

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and a subreaper")


def python(source: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-S", "-c", source)


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(LIMIT_S):
        while not condition():  # noqa: ASYNC110  another process makes it true
            await anyio.sleep(0.005)


async def test_a_child_is_told_everything_by_documented_variables(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, ("env",))
    await attempt.run(budget_tokens=1234)
    told = dict(line.split("=", 1) for line in attempt.output().splitlines())
    assert {name: value for name, value in told.items() if name.startswith("RUNOFF_")} == {
        "RUNOFF_RUN_ID": "run/../a",
        "RUNOFF_TIER_ID": "T1",
        "RUNOFF_PHASE_ID": "p <1>",
        "RUNOFF_ATTEMPT_ID": attempt.attempt_id,
        "RUNOFF_WORKSPACE": str(attempt.workspace),
        "RUNOFF_PHASE_FILE": str(attempt.directory / "phase.json"),
        "RUNOFF_EVENTS_FILE": str(attempt.directory / "events.ndjson"),
        "RUNOFF_RESULT_FILE": str(attempt.directory / "result.json"),
        "RUNOFF_DEADLINE": "1767225600",
        "RUNOFF_BUDGET_TOKENS": "1234",
    }


async def test_a_child_sees_only_the_variables_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SECRET_KEY", "PYTHONPATH", "WANTED", "LC_TIME"):
        monkeypatch.setenv(name, "x")
    attempt = Attempt(tmp_path, ("env",), pass_env=("WANTED", "NOT_SET"))
    await attempt.run()
    names = {line.partition("=")[0] for line in attempt.output().splitlines()}
    assert names >= {"WANTED", "LC_TIME", "PATH"}
    assert not names & {"SECRET_KEY", "PYTHONPATH", "NOT_SET", "RUNOFF_BUDGET_TOKENS"}


async def test_a_child_works_in_its_workspace_and_finds_its_sheet(tmp_path: Path) -> None:
    source = 'pwd; cat "$RUNOFF_PHASE_FILE"; test -f "$RUNOFF_EVENTS_FILE" && cat'
    report, attempt = await run(tmp_path, source, goal="do it")
    where, sheet = attempt.output().split("\n", 1)
    assert report.exit_code == 0
    assert where == str(attempt.workspace)
    assert msgspec.json.decode(sheet, type=PhaseSheet).goal == "do it"
    assert attempt.directory.parent == tmp_path / "attempts"


async def test_placeholders_are_filled_in_once_and_by_no_shell(tmp_path: Path) -> None:
    argv = ("printf", "%s|", "{run_id}", "x{phase_id}{nothing}{", "$HOME;{tier_id}", "{workspace}")
    workspace = tmp_path / "my place"
    attempt = Attempt(tmp_path, argv, workspace=workspace)
    await attempt.run(run_id="{phase_id}")
    assert attempt.output() == f"{{phase_id}}|xp <1>{{nothing}}{{|$HOME;T1|{workspace}|"


async def test_facts_of_the_child_come_back(tmp_path: Path) -> None:
    source = """
echo '{"type":"usage","model":"m","input_tokens":5}' >> "$RUNOFF_EVENTS_FILE"
echo 'garbage' >> "$RUNOFF_EVENTS_FILE"
printf '{"type":"usage","input_tokens":-5}\\n{"type":"artifact","path":"a.py"}\\n' >> "$RUNOFF_EVENTS_FILE"
echo '{"success": false, "state": "GATE", "reason": "why not"}' > "$RUNOFF_RESULT_FILE"
printf '\\377' ; exit 11
"""  # noqa: E501
    report, _ = await run(tmp_path, source)
    assert (report.ended, report.exit_code, report.signal) == ("exited", 11, None)
    assert (report.claimed_success, report.final_state, report.reason) == (False, "GATE", "why not")
    assert [record.input_tokens for record in report.telemetry.usage] == [5]
    assert [each.why for each in report.telemetry.rejected] == ["not_json", "bad_fields"]
    assert report.telemetry.artifacts == ("a.py",)
    assert report.telemetry.lines_read == 4
    assert report.declared is not None
    assert report.declared.kind == "spend_limit"
    assert (report.stdout.total_bytes, report.stderr.total_bytes) == (1, 0)


async def test_an_ending_by_a_signal_is_told_apart_from_codes(tmp_path: Path) -> None:
    report, _ = await run(tmp_path, "kill -TERM $$")
    assert (report.ended, report.exit_code, report.signal) == ("exited", None, signal.SIGTERM)


@pytest.mark.parametrize(
    ("argv", "code", "reason"),
    [
        (("no-such-program",), 127, "cannot start no-such-program: No such file or directory"),
        (("/etc/passwd",), 126, "cannot start /etc/passwd: Permission denied"),
    ],
)
async def test_a_program_that_cannot_be_started_is_a_failure_with_a_reason(
    tmp_path: Path, argv: tuple[str, ...], code: int, reason: str
) -> None:
    report = await Attempt(tmp_path, argv).run()
    assert (report.ended, report.exit_code, report.reason) == ("exited", code, reason)


async def test_a_workspace_that_a_child_replaced_is_a_failure_with_a_reason(
    tmp_path: Path,
) -> None:
    attempt = Attempt(tmp_path, ("true",))
    attempt.workspace.parent.mkdir(parents=True)
    attempt.workspace.write_text("a file")
    report = await attempt.run()
    assert report.exit_code == 127
    assert (report.reason or "").startswith("cannot enter the workspace")


async def test_a_timeout_is_what_our_timer_did(tmp_path: Path) -> None:
    report, _ = await run(tmp_path, "trap 'exit 0' TERM; sleep 60 & wait", timeout_s=0.5)
    assert report.ended == "timed_out"
    assert report.exit_code == 0
    assert 500 <= report.duration_ms <= 500 + 300 + 2000


async def test_usage_written_before_a_timeout_counts(tmp_path: Path) -> None:
    source = """echo '{"type":"usage"}' >> "$RUNOFF_EVENTS_FILE"; echo said; sleep 60"""
    report, _ = await run(tmp_path, source, timeout_s=0.5)
    assert (report.ended, len(report.telemetry.usage)) == ("timed_out", 1)
    assert report.stdout.total_bytes == 5


async def test_the_engine_hears_of_the_guardian_before_the_child_starts(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, ("touch", "started"))
    seen: list[bool] = []

    async def look() -> None:
        await anyio.sleep(0.1)
        seen.append((attempt.workspace / "started").exists())

    attempt.when_spawned = look
    await attempt.run()
    assert (seen, (attempt.workspace / "started").exists()) == ([False], True)
    (spawned,) = attempt.spawned
    assert (spawned.boot_id, spawned.directory) == (boot_id(), str(attempt.directory))
    assert spawned.start_ticks is not None
    assert await await_guardian(spawned, LIMIT_S)  # its files close a moment before it is gone


async def test_when_the_spawn_cannot_be_written_down_nothing_starts(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, ("touch", "started"))

    async def refuse() -> None:
        raise StorageFailed("no.", remedy="none.")

    attempt.when_spawned = refuse
    with pytest.raises(StorageFailed):
        await attempt.run()
    assert not (attempt.workspace / "started").exists()
    assert await await_guardian(attempt.spawned[0], LIMIT_S)


STUBBORN = """
import os, signal, sys, time
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        break
open("started-%d" % os.getpid(), "w")
while True:
    time.sleep(60)
"""


def started(attempt: Attempt, count: int = 3) -> Callable[[], bool]:
    return lambda: len(list(attempt.workspace.glob("started-*"))) >= count


async def test_an_attempt_that_is_told_to_stop_is_abandoned(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, python(STUBBORN))
    reports: list[Report] = []

    async def execute() -> None:
        reports.append(await attempt.run())

    async with anyio.create_task_group() as group:
        group.start_soon(execute)
        await until(started(attempt))
        attempt.abandon.set()
    assert reports[0].ended == "abandoned"
    assert reports[0].killed >= 3


async def test_an_attempt_told_to_stop_before_it_began_never_runs(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, ("touch", "started"))
    attempt.abandon.set()
    report = await attempt.run()
    assert report.ended == "abandoned"
    assert not (attempt.workspace / "started").exists()


async def test_cancelling_ends_the_tree_before_it_lets_go(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, python(STUBBORN))
    async with anyio.create_task_group() as group:
        group.start_soon(attempt.run)
        await until(started(attempt))
        assert len(attempt.left()) >= 3
        group.cancel_scope.cancel()
    assert attempt.left() == []
    assert await await_guardian(attempt.spawned[0], LIMIT_S)


FAMILY = """
setsid sh -c 'trap "" TERM HUP; touch started-1; while :; do sleep 1; done' &
while [ ! -e started-1 ]; do sleep 0.01; done
echo '{"type":"usage"}' >> "$RUNOFF_EVENTS_FILE"
echo so be it
"""
WRITTEN = 'while [ ! -s "${RUNOFF_EVENTS_FILE%/*}/stdout" ]; do sleep 0.01; done;'


async def test_a_child_that_kills_its_guardian_is_lost_and_takes_its_family_along(
    tmp_path: Path,
) -> None:
    report, _ = await run(tmp_path, FAMILY + WRITTEN + "kill -KILL $PPID; sleep 60")
    assert report.ended == "lost"
    assert report.reason == "its guardian vanished without an outcome"
    assert (report.exit_code, report.claimed_success) == (None, None)
    assert report.killed >= 1
    assert (report.stdout.head_bytes, len(report.telemetry.usage)) == (len("so be it\n"), 1)


@pytest.mark.parametrize("turns", [0, 9], ids=["heard before the timer", "heard behind it"])
@pytest.mark.parametrize(("dies_first", "ended"), [(True, "lost"), (False, "timed_out")])
async def test_an_engine_that_stood_still_over_the_deadline_takes_no_death_for_a_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, dies_first: bool, ended: str, turns: int
) -> None:
    """Its own clock is past the deadline when it hears of a guardian that died long before.

    A loop that a signal had stopped looks at its timers first, and at what can be read a turn late.
    """
    wait_readable = anyio.wait_readable

    async def turns_late(of: Any) -> None:
        await wait_readable(of)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "wait_readable", turns_late)
    monkeypatch.setattr(command, "OUTER_MARGIN_S", 0.2)
    monkeypatch.setattr(command, "KILL_BUDGET_S", 0.2)
    attempt, timeout_s = Attempt(tmp_path, ("sh", "-c", "echo up; exec sleep 60")), 0.6

    async def stand_still() -> None:
        until_s = time.monotonic() + timeout_s + 0.1
        await until(lambda: (attempt.directory / "stdout").exists() and attempt.output() == "up\n")
        os.kill(attempt.spawned[0].pid, signal.SIGKILL if dies_first else signal.SIGSTOP)
        while time.monotonic() < until_s:
            pass

    async with anyio.create_task_group() as group:
        group.start_soon(stand_still)
        report = await attempt.run(timeout_s=timeout_s, grace_s=0.1)
        assert report.ended == ended


async def test_a_child_that_stops_its_guardian_cannot_outstay_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "OUTER_MARGIN_S", 0.2)
    monkeypatch.setattr(command, "KILL_BUDGET_S", 0.2)
    source = FAMILY + "kill -STOP $PPID; sleep 60"
    report, _ = await run(tmp_path, source, timeout_s=0.5, grace_s=0.1)
    assert report.ended == "timed_out"
    assert report.duration_ms >= 500
    assert report.killed >= 1


async def test_an_abandoned_attempt_with_a_stopped_guardian_ends_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "OUTER_MARGIN_S", 0.2)
    monkeypatch.setattr(command, "KILL_BUDGET_S", 0.2)
    attempt = Attempt(
        tmp_path, ("sh", "-c", FAMILY + "kill -STOP $PPID; touch started-2; sleep 60")
    )
    reports: list[Report] = []

    async def execute() -> None:
        reports.append(await attempt.run())

    async with anyio.create_task_group() as group:
        group.start_soon(execute)
        await until(started(attempt, 2))
        attempt.abandon.set()
    assert reports[0].ended == "abandoned"


async def test_cancelling_when_the_guardian_is_dead_leaves_nothing_either(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, ("sh", "-c", FAMILY + "touch started-2; sleep 60"))
    async with anyio.create_task_group() as group:
        group.start_soon(attempt.run)
        await until(started(attempt, 2))
        os.kill(attempt.spawned[0].pid, signal.SIGKILL)
        group.cancel_scope.cancel()
    assert attempt.left() == []


async def test_a_child_that_removes_the_attempts_files_is_lost(tmp_path: Path) -> None:
    source = 'rm -rf "$(dirname "$RUNOFF_EVENTS_FILE")"; echo still here; exit 0'
    report, _ = await run(tmp_path, source)
    assert (report.ended, report.exit_code) == ("lost", None)
    assert (report.stdout.total_bytes, report.telemetry.lines_read) == (0, 0)


async def test_files_that_are_not_files_do_not_hold_up_the_engine(tmp_path: Path) -> None:
    source = """
for file in "$RUNOFF_EVENTS_FILE" "$RUNOFF_PHASE_FILE" "$RUNOFF_RESULT_FILE"; do
    rm -f "$file"; mkfifo "$file"
done
"""
    report, _ = await run(tmp_path, source)
    assert (report.ended, report.exit_code) == ("exited", 0)
    assert [each.why for each in report.telemetry.rejected] == ["not_json"]
    assert (report.reason or "").startswith("the result file could not be read")
    assert report.claimed_success is None


async def test_deliverables_are_missed_when_they_are_required(tmp_path: Path) -> None:
    wanted = (Deliverable(path="a.py", must_contain=("one", "two")), Deliverable(path="b.py"))
    attempt = Attempt(tmp_path, ("sh", "-c", "echo one > a.py"), require_deliverables=True)
    report = await attempt.run(deliverables=wanted)
    assert report.missing_deliverables == ("a.py: lacks two", "b.py")


async def test_deliverables_are_not_looked_for_otherwise(tmp_path: Path) -> None:
    report, _ = await run(tmp_path, "true", deliverables=(Deliverable(path="a.py"),))
    assert report.missing_deliverables == ()


async def test_an_attempt_executes_at_most_once(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path, ("sh", "-c", "echo once >> log"))
    await attempt.run()
    with pytest.raises(RunoffError, match="has been started before"):
        await attempt.run()
    assert (attempt.workspace / "log").read_text() == "once\n"


async def test_a_place_that_cannot_be_written_to_is_a_storage_failure(tmp_path: Path) -> None:
    (tmp_path / "attempts").write_text("in the way")
    with pytest.raises(StorageFailed, match="cannot write the files"):
        await Attempt(tmp_path, ("true",)).run()


@pytest.mark.parametrize("argv", [(), ("",), ("a", "b\0c")])
def test_a_command_that_cannot_be_meant_is_refused(tmp_path: Path, argv: tuple[str, ...]) -> None:
    with pytest.raises(UsageProblem):
        CommandExecutor(argv, files_root=tmp_path)


async def test_many_attempts_run_side_by_side(tmp_path: Path) -> None:
    reports: dict[int, Report] = {}

    async def execute(number: int) -> None:
        root = tmp_path / str(number)
        root.mkdir()
        reports[number], _ = await run(root, f"sleep 0.3; exit {number}")

    began_s = time.monotonic()
    async with anyio.create_task_group() as group:
        for number in range(16):
            group.start_soon(execute, number)
    assert {number: report.exit_code for number, report in reports.items()} == {
        number: number for number in range(16)
    }
    assert time.monotonic() - began_s < 16 * 0.3


def names_in(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


async def test_once_a_child_has_begun_its_attempt_takes_no_more_files_of_a_disk(
    tmp_path: Path,
) -> None:
    """One that is full before ends the engine; one that is full later condemns no phase."""
    looks = f'cd "$(dirname "$RUNOFF_EVENTS_FILE")"; ls > {tmp_path}/names; wc -c outcome.json.part'
    attempt = Attempt(tmp_path, ("sh", "-c", f"{looks}; echo err >&2"))
    assert (await attempt.run()).exit_code == 0
    assert (attempt.directory / "stdout").read_text() == "4096 outcome.json.part\n"
    before = set((tmp_path / "names").read_text().split())
    assert "events.ndjson" in before
    after = names_in(attempt.directory)
    # Output that finds no room is counted and not kept, which ends nothing.
    assert after - before == {"outcome.json", "stdout", "stderr"}
    assert before - after == {"outcome.json.part"}


@pytest.mark.parametrize(
    ("says", "demands", "in_thread"),
    [
        ("true", False, False),
        ("head -c 4096 /dev/zero > $RUNOFF_EVENTS_FILE", False, False),
        ("head -c 4097 /dev/zero > $RUNOFF_EVENTS_FILE", False, True),
        ("head -c 4097 /dev/zero > $RUNOFF_RESULT_FILE", False, True),
        ("true", True, True),
    ],
)
async def test_what_an_attempt_says_is_read_in_a_thread_unless_it_is_little(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    says: str,
    demands: bool,
    in_thread: bool,
) -> None:
    """Little is read sooner than a thread begins; much would keep all other attempts waiting."""
    readers: list[bool] = []

    def noted(directory: Path) -> Report | None:
        readers.append(threading.current_thread() is not threading.main_thread())
        return read_report(directory)

    monkeypatch.setattr(command, "read_report", noted)
    attempt = Attempt(tmp_path, ("sh", "-c", says), require_deliverables=demands)
    report = await attempt.run(deliverables=(Deliverable(path="x"),))
    assert (report.ended, readers) == ("exited", [in_thread])
