"""``runoff attempt output``: what an attempt wrote, as it was kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from engine.cli.attempts import attempt, no_attempt
from engine.cli.context import allow_empty_option, database_option, json_option, run_async
from engine.cli.moment import at_option
from engine.cli.peeking import peeking
from engine.cli.render import asked, clean, clean_lines, print_json
from engine.errors import RunoffError
from engine.events import AnyEvent, AttemptFinished, AttemptSpawned, Stream, event_of
from engine.store.blobs import Blobs
from engine.store.protocol import Query

_TYPES = ("attempt.started", "attempt.spawned", "attempt.finished")


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One stream of an attempt: ``text`` is its first and last bytes, read as UTF-8."""

    attempt_id: str
    stream: str
    total_bytes: int
    head_bytes: int
    tail_bytes: int
    digest: str | None
    text: str


@attempt.command("output")
@click.argument("attempt_id", metavar="ATTEMPT")
@click.option("--stderr", "is_stderr", is_flag=True, help="What it wrote to stderr instead.")
@at_option
@database_option
@allow_empty_option
@json_option
def attempt_output(attempt_id: str, *, is_stderr: bool, **options: Any) -> None:
    """What an attempt wrote to stdout, as it was kept.

    The first and the last of it, secrets covered. A pipe gets the bytes whose sha256 the log has;
    on a terminal what is unprintable is escaped.

    \b
    Examples:
      runoff attempt output att_01M8...
      runoff attempt output att_01M8... --stderr | sha256sum
    """  # noqa: D301
    events, files = _events(attempt_id, options)
    name = "stderr" if is_stderr else "stdout"
    stream: Stream = getattr(_end(attempt_id, events), name)
    data = Blobs(files / "blobs").kept(stream) if stream.digest else b""
    if data is None:
        raise _not_here(name, events, files)
    if options["as_json"]:
        print_json(_as_json(attempt_id, name, stream, data))
        return
    _tell(name, stream)
    _write(data)


def _events(attempt_id: str, options: dict[str, Any]) -> tuple[list[AnyEvent], Path]:
    """What the log says of it that matters here, and where files of the log are."""

    async def work() -> tuple[list[AnyEvent], Path]:
        allow, at = options["allow_empty_db"], options["at"]
        async with peeking(options["database"], allow_empty=allow, at=at) as peek:
            query = Query(attempt=asked(attempt_id, "ATTEMPT"), types=_TYPES, until=peek.end)
            records = await peek.reader.records(query)
            return [event_of(record) for record in records], peek.location.beside("files")

    return run_async(work)


def _end(attempt_id: str, events: list[AnyEvent]) -> AttemptFinished:
    if not events:
        raise no_attempt(attempt_id)
    if isinstance(events[-1], AttemptFinished):
        return events[-1]
    raise RunoffError(
        f"attempt {clean(attempt_id)} has not ended.",
        remedy="its output is kept when it does; until then it is in the attempt's directory.",
    )


def _not_here(name: str, events: list[AnyEvent], files: Path) -> RunoffError:
    hosts = [event.host for event in events if isinstance(event, AttemptSpawned)]
    where = f"; it was kept on {clean(hosts[-1])}" if hosts else ""
    return RunoffError(
        f"its {name} is not in {clean(str(files))}{where}.",
        remedy="ask on the machine that kept it, or put that folder back.",
    )


def _as_json(attempt_id: str, name: str, stream: Stream, data: bytes) -> Kept:
    return Kept(
        attempt_id=attempt_id,
        stream=name,
        total_bytes=stream.total_bytes,
        head_bytes=stream.head_bytes,
        tail_bytes=stream.tail_bytes,
        digest=stream.digest,
        text=data.decode(errors="replace"),
    )


def _tell(name: str, stream: Stream) -> None:
    if not stream.total_bytes:
        click.echo(f"It wrote nothing to {name}.", err=True)
    left_out = stream.total_bytes - stream.head_bytes - stream.tail_bytes
    if left_out > 0:
        behind = f"behind the first {stream.head_bytes} were not kept"
        click.echo(f"{left_out} bytes {behind}; {stream.total_bytes} in all.", err=True)


def _write(data: bytes) -> None:
    if sys.stdout.isatty():
        click.echo(clean_lines(data.decode(errors="backslashreplace")))
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
