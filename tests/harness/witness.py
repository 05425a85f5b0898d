"""The child of the harness: it proves by a kernel lock that its phase runs once at a time.

Run as ``python -I -S witness.py HOME SECONDS FAMILY``.  The lock is an ``flock``, which everything
that is forked from here holds too: as long as anything of an execution lives, another execution of
the phase is seen.  ``FAMILY`` in a hundred leave behind a process in a session of its own; half of
all print more than stands in an event.
"""

import fcntl
import os
import select
import sys
import zlib

WORDS = 60
"""Output of so many is kept in a file of its own, beside the log."""


def note(folder: str, name: str) -> bool:
    """Leave a file that says so; false when it was there."""
    try:
        os.close(os.open(f"{home}/{folder}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return False
    return True


def take_time(seconds: float) -> None:
    """Work, as far as anybody can tell."""
    select.select([], [], [], seconds)


home, longest_s, family = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
attempt = os.environ["RUNOFF_ATTEMPT_ID"]
phase = f"{os.environ['RUNOFF_RUN_ID']}.{os.environ['RUNOFF_PHASE_ID']}".replace("/", "_")
chance = zlib.crc32(attempt.encode())

lock = os.open(f"{home}/locks/{phase}", os.O_CREAT | os.O_RDWR, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    note("overlaps", attempt)
if not note("ran", attempt):
    note("twice", attempt)
if chance % 2:
    sys.stdout.write(f"{attempt} has much to say:{' and says it' * WORDS}\n")
    sys.stdout.flush()
if chance % 100 < family and os.fork() == 0:
    os.setsid()
    take_time(60)
    os._exit(0)
take_time(longest_s * (0.1 + 0.9 * (chance // 100 % 1000) / 1000))
with open(os.environ["RUNOFF_EVENTS_FILE"], "a") as events:  # noqa: PTH123  starts faster
    events.write('{"type":"usage","input_tokens":2,"output_tokens":1}\n')
note("done", f"{phase}.{attempt}")
