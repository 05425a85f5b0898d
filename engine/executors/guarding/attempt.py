"""One attempt as its guardian sees it: start, deadline, ending, and the proof of the end.

Its standard input and output are one socket, with the engine at the other end.  The engine says the
attempt's directory, ended by a NUL, which holds ``spec.json``; the guardian puts there what the
child finds when it begins, then ``stdout``, ``stderr`` and at the very end ``outcome.json``.  Once
it waits for the word it says so in a line: ``R`` and which process it is, or why not: ``L`` (a
limit of the machine), ``F`` (a full disk), ``D`` (a failing one), ``X`` (anything else).  ``G``
then starts the child, ``E`` ends it.  Its last word, when all is written, is ``.``, or such a line.
The end of the socket means to each that the other is gone.
"""

import os
import select
import time

from engine.executors.guarding.child import (
    AT_A_LIMIT,
    NOTHING_LEFT,
    PR_SET_CHILD_SUBREAPER,
    become_child,
    prctl,
)
from engine.executors.guarding.files import (
    TELLING,
    hold_lock,
    make_room,
    parsed,
    publish,
    quietly,
    quoted,
    read,
    size_bytes,
)
from engine.executors.guarding.streams import Stream, pipes
from engine.executors.guarding.tree import (
    carriers,
    descendants,
    listing,
    parent_and_group,
    tree_in_listing,
)
from engine.executors.guarding.words import (
    LINUX,
    called_to,
    heard,
    start_ticks,
    tell_trouble,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from typing import Any
else:
    import _signal as signal  # the public module pulls in enum, a third of the start-up time

ORPHAN_GRACE_NS = 200_000_000
KILL_PAUSE_MS = 10
BEGUN_MODE = 0o700
CLOSED = "another engine took it for one that never began, and closed it"
"""In the outcome that keeps an attempt from beginning; an earlier guardian's of it does not."""
FREEZE_ROUNDS_MAX = 8
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Guardian:
    """One attempt from its start to the proof that nothing of it is left."""

    def __init__(self, spec: "dict[str, Any]") -> None:
        self.spec = spec
        self.marker = "RUNOFF_ATTEMPT_ID=" + spec["environment"].get("RUNOFF_ATTEMPT_ID", "\n")
        self.child = 0
        self.status: int | None = None
        self.spawn_error = ""
        self.ended = ""
        self.stage = "running"
        self.alone = False
        self.touched: set[int] = set()
        self.poller = select.poll()
        self.handlers: dict[int, Callable[[], bool]] = {}
        self.streams: list[Stream] = []
        self.started_ns = self.finished_ns = time.monotonic_ns()
        self.until_ns = self.started_ns + round(spec["timeout_s"] * 1e9)
        self.signals = _signal_pipe()
        self.trouble = -1
        # Daemons come to it then; elsewhere they are looked for.
        self.adopts = LINUX and prctl(PR_SET_CHILD_SUBREAPER, 1)

    def listen(self, descriptor: int, handler: "Callable[[], bool]") -> None:
        """Call ``handler`` when ``descriptor`` can be read, until it returns false: the end."""
        self.handlers[descriptor] = handler
        self.poller.register(descriptor, select.POLLIN)

    def hear(self, wait_ms: int) -> None:
        """Wait for news, at most ``wait_ms``, and handle it."""
        for descriptor, _ in self.poller.poll(min(wait_ms, 3_600_000)):
            if not self.handlers[descriptor]():
                del self.handlers[descriptor]
                self.poller.unregister(descriptor)

    def may_start(self) -> bool:
        """Wait for the engine's ``G``; false when anything else comes first."""
        wait = select.poll()
        wait.register(0, select.POLLIN)
        wait.register(self.signals, select.POLLIN)
        ready = wait.poll()
        return all(descriptor == 0 for descriptor, _ in ready) and heard(1) == b"G"

    def guard(self) -> None:
        """Start the child and stay until nothing of it is left, unless the machine forbids it."""
        try:
            self.start()
            self.watch()
        except BaseException as error:
            if self.child or not isinstance(error, OSError) or error.errno not in NOTHING_LEFT:
                self.kill_all()
                raise
            self.spawn_error = f"{AT_A_LIMIT}cannot begin: {error.strerror}"
        self.finish()
        if self.spawn_error.startswith(AT_A_LIMIT):
            self.spawn_error = self.spawn_error[len(AT_A_LIMIT) :]
            self.ended, self.status = "at_a_limit", None

    def start(self) -> None:
        """Fork the child and begin to listen to it; the clock of the deadline starts here."""
        out_read, out_write, err_read, err_write, trouble_read, trouble_write = pipes()
        self.started_ns = self.finished_ns = time.monotonic_ns()
        self.until_ns = self.started_ns + round(self.spec["timeout_s"] * 1e9)
        # Signals wait until the child has shed our handlers, or it would answer for us.
        usual = signal.pthread_sigmask(signal.SIG_BLOCK, (*ENDING_SIGNALS, signal.SIGCHLD))
        guardian = os.getpid()
        self.child = os.fork()
        if self.child == 0:
            become_child(self.spec, guardian, out_write, err_write, trouble_write)
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)
        for descriptor in (out_write, err_write, trouble_write):
            os.close(descriptor)
        for name, reader in (("stdout", out_read), ("stderr", err_read)):
            stream = Stream(name, reader, self.spec["head_max"], self.spec["tail_max"])
            self.streams.append(stream)
            self.listen(reader, stream.hear)
        self.trouble = trouble_read
        self.listen(trouble_read, self._hear_trouble)
        self.listen(self.signals, self._hear_signals)
        self.listen(0, self._hear_engine)

    def _hear_trouble(self) -> bool:
        # Its end without a word means that the program has been started.
        said = os.read(self.trouble, 4096)
        self.spawn_error += said.decode("utf-8", "replace")
        return bool(said)

    def _hear_signals(self) -> bool:
        if any(number in ENDING_SIGNALS for number in os.read(self.signals, 512)):
            self.end("abandoned", round(self.spec["grace_s"] * 1e9))
        return True

    def _hear_engine(self) -> bool:
        said = heard(64)
        if b"E" in said or (not said and self.spec["on_engine_death"] == "end"):
            self.end("abandoned", round(self.spec["grace_s"] * 1e9))
        return bool(said)

    def watch(self) -> None:
        """Run until nothing of the attempt is left, or the time to kill it is used up."""
        while True:
            self.reap()
            now_ns = time.monotonic_ns()
            if self.status is not None and self.alone:
                self.ended = self.ended or "exited"
                break
            self.advance(now_ns)
            if self.stage == "given up":
                break
            if self.stage == "killing":
                self.hear(KILL_PAUSE_MS)
            else:
                self.hear(max(0, self.until_ns - now_ns) // 1_000_000 + 1)
        if self.ended != "exited":
            self.finished_ns = now_ns

    def reap(self) -> None:
        """Collect the dead.  Where a subreaper has no child left, no descendant is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.alone = self.adopts or not self.living()
                return
            if pid == 0:
                self.alone = False
                return
            if pid == self.child:
                self.status = status
                self.finished_ns = time.monotonic_ns()
            elif self.stage != "running":
                self.touched.add(pid)

    def advance(self, now_ns: int) -> None:
        """Go on to the next stage when it is time."""
        if self.stage == "running" and self.status is not None:
            self.end("exited", ORPHAN_GRACE_NS)
        elif now_ns < self.until_ns:
            if self.stage == "killing":
                self.kill_all()
        elif self.stage == "running":
            self.end("timed_out", round(self.spec["grace_s"] * 1e9))
        elif self.stage == "asked":
            self.stage = "killing"
            self.until_ns = now_ns + round(self.spec["kill_budget_s"] * 1e9)
            self.kill_all()
        else:
            self.stage = "given up"

    def end(self, ended: str, grace_ns: int) -> None:
        """Ask the whole tree to end, unless that has happened already."""
        if self.stage != "running":
            return
        self.ended = ended
        self.stage = "asked"
        self.until_ns = time.monotonic_ns() + grace_ns
        for pid, _ in self.living():
            # To each process once: a second TERM means "hurry" to many programs.
            self.signal(pid, signal.SIGTERM)
            self.signal(pid, signal.SIGCONT)

    def kill_all(self) -> None:
        """Freeze what there is until nothing new appears, then kill it, groups at one stroke."""
        frozen: set[int] = set()
        for _ in range(FREEZE_ROUNDS_MAX):
            fresh = [row for row in self.living() if row[0] not in frozen]
            if not fresh:
                break
            self._strike(fresh, signal.SIGSTOP)
            frozen.update(pid for pid, _ in fresh)
        self._strike(self.living(), signal.SIGKILL)

    def _strike(self, rows: "list[tuple[int, int]]", number: int) -> None:
        for group in {group for _, group in rows} - {os.getpgrp(), 0, 1}:
            quietly(os.killpg, group, number)
        for pid, _ in rows:
            self.signal(pid, number)

    def signal(self, pid: int, number: int) -> None:
        """Signal one process and remember that it had to be ended."""
        if pid != self.child or self.ended != "exited":
            self.touched.add(pid)
        quietly(os.kill, pid, number)

    def living(self) -> "list[tuple[int, int]]":
        """Every descendant that is not yet dead, as (pid, process group)."""
        if LINUX:
            pids = descendants(os.getpid())
            if not self.adopts:
                pids += [pid for pid in carriers(self.marker) if pid not in pids]
            return [(pid, row[1]) for pid in pids if (row := parent_and_group(pid))]
        return tree_in_listing(listing(), os.getpid(), self.child, self.marker)

    def finish(self) -> None:
        """Take what is left in the pipes; no one writes to them any more."""
        if self.trouble in self.handlers:
            while self._hear_trouble():
                pass
        for stream in self.streams:
            stream.finish()

    def outcome(self) -> str:
        """What happened, as JSON; the shape is described in ``outcome.py``."""
        code: int | str = "null"
        number: int | str = "null"
        if self.status is not None and os.WIFEXITED(self.status):
            code = os.WEXITSTATUS(self.status)
        elif self.status is not None:
            number = os.WTERMSIG(self.status)
        survivors = len(self.living()) if self.stage == "given up" else 0
        streams = "".join(f',"{stream.name}":{stream.summary()}' for stream in self.streams)
        sizes = ",".join(f'"{name}":{size}' for name in TELLING if (size := size_bytes(name)))
        return (
            f'{{"ended":"{self.ended}","exit_code":{code},"signal":{number},'
            f'"spawn_error":{quoted(self.spawn_error) if self.spawn_error else "null"},'
            f'"duration_ms":{(self.finished_ns - self.started_ns) // 1_000_000},'
            f'"killed":{len(self.touched)},"survivors":{survivors}{streams},"files":{{{sizes}}}}}'
        )


def _signal_pipe() -> int:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*ENDING_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    return reader


def prepared() -> "Guardian":
    """A guardian in its attempt's directory, ready but for the word; the engine knows."""
    os.chdir(called_to())
    held = hold_lock("guardian.lock")  # before all else: who comes too late must touch nothing
    os.dup2(held, 2)  # our own trouble, if any, is written there; each file costs each attempt
    guardian = Guardian(parsed(read("spec.json")))
    make_room(guardian.spec.get("phase"))
    quietly(os.write, 1, f"R {os.getpid()} {start_ticks()}\n".encode())
    return guardian


def begun() -> bool:
    """Mark the attempt as begun; false where another engine has closed it for good meanwhile.

    The mark is a mode of the lock, since that finds room on a full disk, too.  An outcome that was
    left by an earlier guardian goes: it must not tell of the child that begins now.
    """
    if os.path.exists("outcome.json"):  # noqa: PTH110
        if CLOSED in read("outcome.json"):
            return False
        quietly(os.unlink, "outcome.json")
    quietly(os.fchmod, 2, BEGUN_MODE)
    return True


def main() -> None:
    """Guard one attempt; ends the process when its outcome is written."""
    try:
        guardian = prepared()
    except OSError as error:
        tell_trouble("prepare", error)
        os._exit(1)
    if guardian.may_start() and begun():
        guardian.guard()
    else:
        guardian.ended = "never_spawned"
    if guardian.child or not os.path.exists("outcome.json"):  # noqa: PTH110
        try:
            publish("outcome.json", guardian.outcome())
        except OSError as error:
            tell_trouble("write its outcome", error)
            raise
    quietly(os.write, 1, b".")
    os._exit(0)  # tidying up an interpreter takes longer than all of the above
