"""What a machine's systemd is made to do with the unit: start, reload, kill, watch, stop, boot."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from urllib.request import urlopen

from tests.harness.machine.asking import (
    CHECK,
    HOME,
    LONG_S,
    Problems,
    at_work,
    attempts,
    call,
    drained,
    of_user,
    opened,
    runoff,
    seed,
    status,
    tell,
    tried_twice,
    wait_until,
)

UNIT = "runoff.service"
SETTINGS = HOME / "daemon.toml"
WATCHDOG_S = 15
GREEDY_BYTES = 128 * 1024**2


def unit(name: str) -> str:
    """A property of the unit, by systemd's own word."""
    return call("systemctl", "show", UNIT, "--property", name, "--value").stdout.strip()


def journal() -> str:
    """What the unit and systemd said of it."""
    return call("journalctl", "-u", UNIT).stdout


def workers() -> int | None:
    """How many workers the daemon says it has."""
    settings: dict[str, int] = status().get("settings", {})
    return settings.get("workers")


def reload_counts() -> int:
    """How often the log says that settings were read again."""
    shown = runoff("log", "show", "--type", "daemon.configured", "--json").stdout
    return shown.count('"reloaded"')


def starts() -> None:
    """``systemctl start`` comes back when the daemon is ready, not before, and work is done."""
    problems = Problems()
    seeded = seed("quick", 4, 0)
    problems.unless(seeded.returncode == 0, seeded.stderr)
    begun_s = monotonic()
    started = call("systemctl", "start", UNIT)
    took_s = monotonic() - begun_s
    problems.unless(started.returncode == 0, started.stderr)
    stands = status()
    problems.unless(stands.get("state") == "running", f"its status is {stands}")
    problems.unless(str(stands.get("pid")) == unit("MainPID"), "systemd knows another pid")
    problems.unless(wait_until(lambda: drained("quick")), "a quick run was not drained")
    problems.unless(seed("later", 2, 0).returncode == 0, "a run could not be handed over")
    problems.unless(wait_until(lambda: drained("later")), "a run seeded later was not drained")
    problems.unless(unit("StatusText"), "systemd shows no status text")
    with urlopen("http://127.0.0.1:9464/readyz", timeout=60) as answer:
        problems.unless(answer.status == HTTPStatus.OK, f"/readyz answered {answer.status}")
    tell("start", problems, seconds=round(took_s, 2), status_text=unit("StatusText"))


def reloads() -> None:
    """``systemctl reload`` reads the settings again; what cannot be read changes nothing."""
    problems, good = Problems(), SETTINGS.read_text()
    pid, before = unit("MainPID"), reload_counts()
    SETTINGS.write_text(good.replace("workers = 4", "workers = 3"))
    problems.unless(call("systemctl", "reload", UNIT).returncode == 0, "reload failed")
    problems.unless(wait_until(lambda: reload_counts() == before + 1, 60), "no event of a reload")
    problems.unless(workers() == 3, f"workers are {workers()}")
    SETTINGS.write_text("workers = nonsense")
    call("systemctl", "reload", UNIT)
    said = wait_until(lambda: "daemon.reload_failed" in journal(), 60)
    problems.unless(said, "nonsense was not complained of in the journal")
    problems.unless(workers() == 3, f"after nonsense, workers are {workers()}")
    problems.unless(unit("ActiveState") == "active", f"the unit is {unit('ActiveState')}")
    problems.unless(unit("MainPID") == pid, "it is another process")
    SETTINGS.write_text(good)
    call("systemctl", "reload", UNIT)
    tell("reload", problems)


def taken_over(check: str, run: str, end: Callable[[int], None], limit_s: float) -> None:
    """The daemon dies under a running attempt; the next life takes it over, exactly once."""
    problems = Problems()
    seed(run, 3, LONG_S)
    problems.unless(wait_until(lambda: opened(run) and at_work()), "no attempt began")
    pid, restarts = int(unit("MainPID")), int(unit("NRestarts"))
    children, before = set(at_work()), {each["attempt_id"] for each in opened(run)}
    end(pid)
    begun_s = monotonic()
    restarted = wait_until(lambda: int(unit("NRestarts")) == restarts + 1, limit_s)
    problems.unless(restarted, "systemd did not start it again")
    active = wait_until(lambda: unit("ActiveState") == "active" and unit("MainPID") != str(pid))
    problems.unless(active, "it is not active again")
    ready_s = monotonic() - begun_s
    problems.unless(children & set(at_work()), "the attempt's processes died with the daemon")
    problems.unless(wait_until(lambda: drained(run)), "the run was not drained")
    kept = {each["attempt_id"]: each["ending"] for each in attempts(run)}
    for attempt in sorted(before):
        problems.unless(kept.get(attempt) == "succeeded", f"{attempt} ended {kept.get(attempt)}")
    problems.unless(not tried_twice(run), f"tried twice: {tried_twice(run)}")
    tell(check, problems, adopted=len(before), active_again_s=round(ready_s, 2))


def killed() -> None:
    """SIGKILL: started again, and what ran goes on."""
    taken_over("kill", "killed", lambda pid: os.kill(pid, signal.SIGKILL), 60)


def hangs() -> None:
    """A daemon that hangs is ended by systemd's watchdog."""
    place = Path(f"/run/systemd/system/{UNIT}.d")
    place.mkdir(parents=True)
    (place / "soon.conf").write_text(f"[Service]\nWatchdogSec={WATCHDOG_S}\nTimeoutAbortSec=5\n")
    call("systemctl", "daemon-reload")
    call("systemctl", "restart", UNIT)
    taken_over("watchdog", "hung", lambda pid: os.kill(pid, signal.SIGSTOP), 4 * WATCHDOG_S)
    problems = Problems()
    problems.unless("Watchdog timeout" in journal(), "the journal has no watchdog timeout")
    tell("watchdog in the journal", problems)


def greedy() -> None:
    """A child that eats the memory of the whole unit costs its attempt, and nothing else."""
    problems, pid = Problems(), unit("MainPID")
    limit = int(unit("MemoryCurrent")) + GREEDY_BYTES
    narrow = ("systemctl", "set-property", "--runtime", UNIT)
    call(*narrow, f"MemoryMax={limit}", "MemorySwapMax=0")
    problems.unless(seed("greedy", 1, 0, "eat memory").returncode == 0, "it was not seeded")
    over = wait_until(lambda: len(attempts("greedy")) > len(opened("greedy")))
    problems.unless(over, "the attempt went on")
    endings = [each["ending"] for each in attempts("greedy")]
    problems.unless(endings[0] == "failed", f"they ended {endings}")
    problems.unless("OOM killer" in journal(), "nothing ran out of memory")
    call(*narrow, "MemoryMax=infinity")
    seed("frugal", 2, 0)
    problems.unless(wait_until(lambda: drained("frugal")), "nothing was drained after it")
    problems.unless(unit("MainPID") == pid, "the daemon was ended with it")
    tell("out of memory", problems)


def locked_out() -> None:
    """Another program holds the database for longer than the daemon waits: it comes back."""
    problems, pid = Problems(), unit("MainPID")
    seed("locked", 3, LONG_S)
    problems.unless(wait_until(lambda: opened("locked") and at_work()), "no attempt began")
    with closing(sqlite3.connect(HOME / "backlog.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        seed("unheard", 1, 0)  # so that the daemon has something to write
        problems.unless(wait_until(lambda: unit("MainPID") != pid), "it did not end")
        other.execute("ROLLBACK")
    problems.unless(wait_until(lambda: drained("locked")), "the run was not drained")
    problems.unless(not tried_twice("locked"), f"tried twice: {tried_twice('locked')}")
    tell("locked out", problems)


def stops() -> None:
    """``systemctl stop`` ends it within its bound, and leaves nothing running."""
    problems = Problems()
    seed("stopped", 3, LONG_S)
    problems.unless(wait_until(lambda: opened("stopped") and at_work()), "no attempt began")
    begun_s = monotonic()
    problems.unless(call("systemctl", "stop", UNIT).returncode == 0, "stop failed")
    took_s = monotonic() - begun_s
    problems.unless(unit("Result") == "success", f"the result is {unit('Result')}")
    problems.unless(unit("ExecMainStatus") == "0", f"its exit code is {unit('ExecMainStatus')}")
    problems.unless(not of_user(), f"left running: {of_user()}")
    problems.unless(not opened("stopped"), "attempts stayed open")
    tell("stop", problems, seconds=round(took_s, 2))


def refuses() -> None:
    """A wrong setting is no reason to start again and again."""
    problems, good = Problems(), SETTINGS.read_text()
    SETTINGS.write_text("workers = nonsense")
    problems.unless(call("systemctl", "start", UNIT).returncode != 0, "it started")
    failed = wait_until(lambda: unit("ActiveState") == "failed", 60)
    problems.unless(failed, f"the unit is {unit('ActiveState')}")
    wait_until(lambda: unit("NRestarts") != "0", 5)
    problems.unless(unit("NRestarts") == "0", "it was started again")
    problems.unless(unit("ExecMainStatus") == "2", f"its exit code is {unit('ExecMainStatus')}")
    SETTINGS.write_text(good)
    call("systemctl", "reset-failed", UNIT)
    tell("refuse", problems)


def proved(check: str) -> None:
    """The log proves itself."""
    problems = Problems()
    for command in ("audit", "verify"):
        done = runoff(command)
        problems.unless(
            done.returncode == 0, f"{command}: {done.stdout[-400:]}{done.stderr[-400:]}"
        )
    tell(check, problems)


def reset() -> None:
    """The machine is reset, as by its button, while attempts run."""
    problems = Problems()
    problems.unless(call("systemctl", "enable", "--now", UNIT).returncode == 0, "enable failed")
    seed("reset", 3, LONG_S)
    problems.unless(wait_until(lambda: opened("reset") and at_work()), "no attempt began")
    (CHECK / "open").write_text(json.dumps([each["attempt_id"] for each in opened("reset")]))
    tell("reset", problems)
    os.sync()
    wait_until(lambda: False, 1)
    Path("/proc/sysrq-trigger").write_text("b")


def comes_back() -> None:
    """After the reset it is started at boot, and knows that what ran is dead."""
    problems = Problems()
    active = wait_until(lambda: unit("ActiveState") == "active")
    problems.unless(active, f"the unit is {unit('ActiveState')}")
    problems.unless(wait_until(lambda: drained("reset")), "the run was not drained")
    kept = {each["attempt_id"]: each["ending"] for each in attempts("reset")}
    was_open = json.loads((CHECK / "open").read_text())
    for attempt in was_open:
        problems.unless(kept.get(attempt) == "orphaned", f"{attempt} ended {kept.get(attempt)}")
    problems.unless(call("systemctl", "stop", UNIT).returncode == 0, "stop failed")
    tell("boot", problems, orphaned=len(was_open))
