"""The child's output: straight to files, with bounded memory, however much it is.

Secrets are covered on the way, so that none is ever written down.
"""

import fcntl
import os

from engine.executors.guarding.files import CHUNK_BYTES, first_file, fresh_file, quietly, write_at
from engine.redaction.stream import Redactor

DRAIN_READS_MAX = 64
_buffer = bytearray(CHUNK_BYTES)


class Stream:
    """One output stream of the child: the head goes to its file, the rest through a ring.

    ``head_max`` and ``tail_max`` are bytes.  A full disk stops the keeping, never the counting.
    The last line is only written when it has ended, for it may still become a secret.  The file is
    made for the first of it: most attempts say nothing on one stream or both.
    """

    def __init__(self, name: str, reader: int, head_max: int, tail_max: int) -> None:
        self.name = name
        self.reader = reader
        self.head_max = head_max
        self.tail_max = tail_max
        self.total = self.head = self.past = self.tail = 0
        self.broken = False
        self.redactor = Redactor()
        self.file = self.ring = -1

    def pump(self) -> int:
        """One read, kept; the number of bytes, 0 at the end, -1 when there is nothing now."""
        try:
            count = os.readv(self.reader, [_buffer])
        except BlockingIOError:
            return -1
        except OSError:
            return 0
        self.total += count
        if count and not self.broken:
            self._keep_if_possible(self.redactor.feed(memoryview(_buffer)[:count]))
        return count

    def _keep_if_possible(self, data: bytes) -> None:
        try:
            self._keep(memoryview(data))
        except OSError:
            self.broken = True

    def hear(self) -> bool:
        """One read; false at the end of the stream."""
        return self.pump() != 0

    def _keep(self, data: memoryview) -> None:
        if data and self.file < 0:
            self.file = first_file(self.name)
        head = data[: self.head_max - self.head]
        while head:
            written = os.write(self.file, head)
            self.head += written
            head, data = head[written:], data[written:]
        self.past += len(data)
        if data and self.tail_max:
            self._keep_tail(data[-self.tail_max :])

    def _keep_tail(self, data: memoryview) -> None:
        if self.ring < 0:
            self.ring = fresh_file(self.name + ".tail")
        at = (self.past - len(data)) % self.tail_max
        room = self.tail_max - at
        write_at(self.ring, data[:room], at)
        write_at(self.ring, data[room:], 0)

    def finish(self) -> None:
        """Take what is still in the pipe and put the tail behind the head."""
        reads = 0
        while reads < DRAIN_READS_MAX and self.pump() > 0:
            reads += 1
        if not self.broken:
            self._keep_if_possible(self.redactor.close())
        if self.ring >= 0 and not self.broken:
            kept = min(self.past, self.tail_max)
            start = self.past % self.tail_max if self.past > self.tail_max else 0
            try:
                self._append(start, kept - start)
                self._append(0, start)
            except OSError:
                self.broken = True
        if self.ring >= 0:
            quietly(os.unlink, self.name + ".tail")

    def _append(self, at: int, size: int) -> None:
        while size > 0:
            piece = os.pread(self.ring, min(size, CHUNK_BYTES), at)
            if not piece:
                return
            write_at(self.file, memoryview(piece), self.head + self.tail)
            self.tail += len(piece)
            at, size = at + len(piece), size - len(piece)

    def summary(self) -> str:
        """Its part of the outcome, as JSON."""
        counts = self.redactor.counts.items()
        covered = ",".join(f'"{kind}":{count}' for kind, count in counts)
        redacted = f',"redacted":{{{covered}}}' if covered else ""
        return f'{{"total":{self.total},"head":{self.head},"tail":{self.tail}{redacted}}}'


def pipes() -> "tuple[int, ...]":
    """Read and write ends for output, errors and trouble with the start; all of them or none."""
    opened: tuple[int, ...] = ()
    try:
        for make in (wide_pipe, wide_pipe, os.pipe):
            opened += make()
    except OSError:
        for descriptor in opened:
            os.close(descriptor)
        raise
    return opened


def wide_pipe() -> "tuple[int, int]":
    """A pipe as wide as the system allows, its read end never blocking."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        quietly(fcntl.fcntl, writer, fcntl.F_SETPIPE_SZ, CHUNK_BYTES)
    return reader, writer
