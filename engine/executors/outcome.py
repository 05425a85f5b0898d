"""What an attempt's directory says when the attempt is over.

The engine that started an attempt and one that found it after a crash read it by the same code,
so both come to the same report.
"""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from engine.events import Deliverable
from engine.executors import protocol
from engine.executors.deliverables import missing_deliverables
from engine.executors.guarding.files import TELLING, size_bytes
from engine.executors.port import Output, Report
from engine.executors.untrusted import read_at_most
from engine.prebuilt import prebuilt

SPEC_FILE = "spec.json"
OUTCOME_FILE = "outcome.json"
PHASE_FILE = "phase.json"
EVENTS_FILE = "events.ndjson"
RESULT_FILE = "result.json"
SAID_BY_CHILDREN = (EVENTS_FILE, RESULT_FILE)
GUARDIAN_LOCK = "guardian.lock"
"""What a guardian makes first, and holds until it ends."""

OUTPUT_BYTES_KEPT = 1024 * 1024

MUCH_BYTES = 64 * 1024
"""What a child said is read at once up to here: hundreds of usage records, a megabyte at most."""

_OUTCOME_BYTES_MAX = 64 * 1024
_SPEC_BYTES_MAX = 16 * 1024 * 1024

_Count = Annotated[int, msgspec.Meta(ge=0)]


def put(directory: Path, name: str, data: bytes) -> None:
    """A new file of an attempt.  Each needs one, so it goes without the layers of a file."""
    descriptor = os.open(
        f"{directory}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """What a guardian is told; durations in seconds, ``head_max`` and ``tail_max`` in bytes.

    ``phase``: the text of the child's phase file.  ``deliverables`` are those whose absence must be
    reported.
    """

    attempt_id: str
    argv: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    phase: str = ""
    cwd: str
    timeout_s: float
    grace_s: float
    kill_budget_s: float
    head_max: _Count = OUTPUT_BYTES_KEPT
    tail_max: _Count = OUTPUT_BYTES_KEPT
    on_engine_death: Literal["adopt", "end"] = "adopt"
    deliverables: tuple[Deliverable, ...] = ()

    def write(self, directory: Path) -> None:
        """Put it where the guardian looks for it."""
        # ASCII keeps what the environment holds beside Unicode; msgspec would refuse it.
        text = json.dumps(msgspec.to_builtins(self), ensure_ascii=True)
        put(directory, SPEC_FILE, text.encode("ascii"))

    @classmethod
    def read(cls, directory: Path) -> Spec:
        """The spec of an attempt.  Raises OSError without one, ValueError when it is garbage."""
        try:
            value = json.loads(read_at_most(directory / SPEC_FILE, _SPEC_BYTES_MAX))
            return msgspec.convert(value, cls)
        except (msgspec.ValidationError, RecursionError) as error:
            raise ValueError(str(error)) from None


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes written by the child to one stream, and how many of them were kept.

    ``redacted``: how many secrets of each kind were covered in it.
    """

    total: _Count = 0
    head: _Count = 0
    tail: _Count = 0
    redacted: dict[str, _Count] = {}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """The guardian's last word: the contents of ``outcome.json``.

    ``files``: how many bytes each of the attempt's files held by then, of those that held any.
    ``at_a_limit``: nothing began, since the machine gave no process or file for the child.
    """

    ended: Literal["exited", "timed_out", "abandoned", "never_spawned", "at_a_limit"]
    exit_code: int | None
    signal: int | None
    spawn_error: str | None
    duration_ms: _Count
    killed: _Count
    survivors: _Count
    stdout: Kept = Kept()
    stderr: Kept = Kept()
    files: dict[str, _Count] = {}


def read_outcome(directory: Path) -> Outcome:
    """A guardian's last word.  Raises OSError without one, ValueError when it is garbage."""
    raw = read_at_most(directory / OUTCOME_FILE, _OUTCOME_BYTES_MAX)
    return msgspec.json.decode(raw, type=Outcome)


def read_report(directory: Path) -> Report | None:
    """The report of an attempt whose guardian has finished; None when it left no outcome.

    What a child said is read later (``Report.rest``) when it is much.  An outcome that cannot be
    understood proves nothing: the attempt is then ``lost``, and the reason says so.  Reads files
    and may take a moment; call it in a thread.
    """
    try:
        outcome = read_outcome(directory)
        spec = Spec.read(directory)
    except FileNotFoundError as error:
        if str(error.filename).endswith(OUTCOME_FILE):
            return None
        return lost_report(directory, reason="its spec file is gone")
    except (OSError, ValueError, RecursionError) as error:
        why = protocol.excerpt(str(error).encode("utf-8", "replace"))
        return lost_report(directory, reason=f"its outcome cannot be understood: {why}")
    short = _cut_short(directory, outcome)
    if short is not None:
        return lost_report(directory, reason=f"its file {short} has not reached the disk whole")
    rest = partial(_finished, directory, outcome, spec)
    if said_bytes(directory) <= MUCH_BYTES:
        return rest()
    return msgspec.structs.replace(_ended(outcome), rest=rest)


def said_bytes(directory: Path) -> int:
    """How much a child said in its own words, in bytes."""
    return sum(size_bytes(f"{directory}/{name}") for name in SAID_BY_CHILDREN)


def _cut_short(directory: Path, outcome: Outcome) -> str | None:
    """A file that holds less than it did: a power cut takes what a child wrote and nobody synced.

    What the child said of its end may be gone then, and its exit code alone proves little.
    """
    for name in filter(outcome.files.get, TELLING):
        if size_bytes(f"{directory}/{name}") < outcome.files[name]:
            return name
    return None


def _ended(outcome: Outcome) -> Report:
    """The part of a report that is the guardian's word."""
    return Report(
        ended=_ending(outcome),
        limit=outcome.spawn_error if outcome.ended == "at_a_limit" else None,
        duration_ms=outcome.duration_ms,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        reason=outcome.spawn_error,
        killed=outcome.killed,
    )


def _ending(outcome: Outcome) -> Literal["exited", "timed_out", "abandoned"]:
    match outcome.ended:
        case "never_spawned" | "at_a_limit":
            return "abandoned"
        case ended:
            return ended


def _finished(directory: Path, outcome: Outcome, spec: Spec) -> Report:
    told = _told(directory, _ended(outcome))
    never = outcome.ended == "never_spawned"
    return msgspec.structs.replace(
        told,
        reason=told.reason
        or ("it was told to end before it began" if never else _left_over(outcome.survivors)),
        stdout=_output(directory / "stdout", outcome.stdout, spec),
        stderr=_output(directory / "stderr", outcome.stderr, spec),
        missing_deliverables=missing_deliverables(Path(spec.cwd), spec.deliverables),
    )


def _left_over(survivors: int) -> str | None:
    return f"{survivors} of its processes could not be ended" if survivors else None


def _output(path: Path, kept: Kept, spec: Spec) -> Output:
    size = size_bytes(path)
    head = min(kept.head, spec.head_max, size)
    tail = min(kept.tail, spec.tail_max, size - head)
    return Output(
        total_bytes=max(kept.total, head + tail),
        head_bytes=head,
        tail_bytes=tail,
        path=path if size else None,
        redacted=tuple(sorted(kept.redacted.items())),
    )


def lost_report(
    directory: Path,
    *,
    reason: str | None,
    ended: Literal["timed_out", "abandoned", "lost"] = "lost",
    duration_ms: int = 0,
    killed: int = 0,
) -> Report:
    """The report of an attempt without an outcome: what its files tell, and no more.

    Usage that the child had written counts, and the output as far as it got; its totals are then
    what was kept.  ``duration_ms`` is 0 when nobody watched.  Much is read later, as of others.
    """
    known = Report(ended=ended, duration_ms=duration_ms, reason=reason, killed=killed)
    rest = partial(_left_by, directory, known)
    is_much = said_bytes(directory) > MUCH_BYTES
    return msgspec.structs.replace(known, rest=rest) if is_much else rest()


def _left_by(directory: Path, known: Report) -> Report:
    return msgspec.structs.replace(
        _told(directory, known),
        reason=known.reason,
        stdout=_begun(directory / "stdout"),
        stderr=_begun(directory / "stderr"),
    )


def _begun(path: Path) -> Output:
    size = min(size_bytes(path), OUTPUT_BYTES_KEPT)
    return Output(total_bytes=size, head_bytes=size, path=path if size else None)


def _told(directory: Path, known: Report) -> Report:
    """What is ``known`` of an attempt, with what the child itself said."""
    result = protocol.read_result(directory / RESULT_FILE)
    events = protocol.read_telemetry(directory / EVENTS_FILE)
    return msgspec.structs.replace(
        known,
        claimed_success=result.success,
        final_state=result.state,
        reason=known.reason or result.reason or result.trouble,
        telemetry=protocol.with_usage_of(result, events),
        declared=protocol.declared(known.exit_code, result, events),
    )


prebuilt(Spec, Outcome)
