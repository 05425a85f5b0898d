"""Messages on the control socket: one JSON object a line, a request and then its answer.

Pure.  ``docs/reference/daemon.md`` describes them for programs in other languages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, cast

import msgspec

from engine.backlog.batch import Registration
from engine.daemon.answers import Status
from engine.detect.reclassification import Changed
from engine.errors import (
    AppendRefused,
    AuditDifference,
    Fenced,
    LimitReached,
    LogHeld,
    LogUnreadable,
    RunoffError,
    StorageFailed,
    UsageProblem,
    WrongDatabase,
)
from engine.events import (
    AnyEvent,
    EstimateImported,
    ImportFinished,
    PhaseRegistered,
    RunRegistered,
    TierRegistered,
    UsageImported,
    encode,
)
from engine.triage.operating import Operation

LINE_BYTES_MAX = 4 * 1024 * 1024
"""A group of the backlog has at most 512 KiB; all else is short."""

CHANGES_MAX = 512
BATCH_BYTES = 1024 * 1024
"""Where a request of changes ends; one more, of three events at most, has less than 1 MiB."""

TEXT_CHARS_MAX = 2000
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
Named = Annotated[str, msgspec.Meta(pattern="^(run|import)/", max_length=TEXT_CHARS_MAX)]
"""A key or stream of a backlog: no request may write where decisions stand."""

Registered = (
    RunRegistered
    | TierRegistered
    | PhaseRegistered
    | ImportFinished
    | UsageImported
    | EstimateImported
)


class Request(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="do", forbid_unknown_fields=True
):
    """Something asked of the daemon; ``do`` names what."""


class AskStatus(Request, frozen=True, kw_only=True, tag="status"):
    """How it stands."""


class Pause(Request, frozen=True, kw_only=True, tag="pause"):
    """Start no attempt until resumed."""

    by: Text
    why: Text


class Resume(Request, frozen=True, kw_only=True, tag="resume"):
    """Go on after a pause or a halt."""

    by: Text
    why: Text


class Stop(Request, frozen=True, kw_only=True, tag="stop"):
    """End, like SIGTERM; ``now`` also ends attempts at once."""

    now: bool = False


class Reload(Request, frozen=True, kw_only=True, tag="reload"):
    """Read policy and settings again, like SIGHUP."""


class Register(Request, frozen=True, kw_only=True, tag="register"):
    """Take in one group of the backlog; the same key again is answered, not repeated."""

    key: Named
    stream: Named
    events: Annotated[tuple[Registered, ...], msgspec.Meta(min_length=1, max_length=512)]

    @property
    def group(self) -> Registration:
        """The group as the recorder takes it."""
        return Registration(key=self.key, stream=self.stream, events=self.events)


class Operate(Request, frozen=True, kw_only=True, tag="operate"):
    """Something that is decided at the head and recorded as one event."""

    operation: Operation


class Reclassify(Request, frozen=True, kw_only=True, tag="reclassify"):
    """Take in what a rule set says of some attempts; said again, it is answered, not repeated."""

    changes: Annotated[tuple[Changed, ...], msgspec.Meta(min_length=1, max_length=CHANGES_MAX)]


Requested = AskStatus | Pause | Resume | Stop | Reload | Register | Operate | Reclassify


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What every request is answered with.

    ``ok`` False: ``problem``, ``remedy`` and ``exit_code`` say why.  ``status`` goes with all but
    ``register``, ``operate`` and ``reclassify``; ``position`` is the end of what was recorded;
    ``event`` is what an operation came to.
    """

    ok: bool
    problem: str | None = None
    remedy: str | None = None
    exit_code: int = 0
    status: Status | None = None
    position: int | None = None
    event: msgspec.Raw = msgspec.Raw(b"null")


_requests: msgspec.json.Decoder[Requested] = msgspec.json.Decoder(Requested)
_answers: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
_events: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_UNHEARD = "the request cannot be read:"
_UNREAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def request_from(line: bytes) -> Requested:
    """The request in a line.  Raises UsageProblem for whatever is none."""
    try:
        return _requests.decode(line)
    except _UNREAD as error:
        raise UsageProblem(
            f"{_UNHEARD} {str(error)[:200]}.",
            remedy="docs/reference/daemon.md lists the requests.",
        ) from None


def line_of(message: Requested | Answer) -> bytes:
    """A message as it goes over the socket."""
    return msgspec.json.encode(message) + b"\n"


def answer_from(line: bytes) -> Answer:
    """The answer in a line.  Raises UsageProblem for whatever is none."""
    try:
        return _answers.decode(line)
    except _UNREAD as error:
        raise _no_answer(error) from None


def event_in(answer: Answer) -> AnyEvent:
    """What an operation came to.  Raises UsageProblem where the answer holds no event."""
    try:
        return _events.decode(answer.event)
    except _UNREAD as error:
        raise _no_answer(error) from None


def status_in(answer: Answer) -> Status:
    """How the daemon stands.  Raises UsageProblem where the answer does not say."""
    if answer.status is None:
        raise _no_answer("it has no status")
    return answer.status


def _no_answer(why: Exception | str) -> UsageProblem:
    return UsageProblem(
        f"the daemon's answer cannot be read: {str(why)[:200]}.",
        remedy="use the same version of runoff as the daemon; `runoff daemon status` names it.",
    )


def register_of(group: Registration) -> Register:
    """The request that hands a group over.  Raises UsageProblem for events of another kind."""
    if not all(isinstance(event, Registered) for event in group.events):
        raise UsageProblem("only a backlog can be registered.", remedy="use `runoff seed`.")
    events = cast("tuple[Registered, ...]", group.events)
    return Register(key=group.key, stream=group.stream, events=events)


def reclassify_of(changes: Sequence[Changed]) -> Iterator[Reclassify]:
    """The requests that hand changes over, each of a size that a line may have."""
    batch: list[Changed] = []
    size = 0
    for change in changes:
        batch.append(change)
        size += len(msgspec.json.encode(change))
        if size >= BATCH_BYTES or len(batch) == CHANGES_MAX:
            yield Reclassify(changes=tuple(batch))
            batch, size = [], 0
    if batch:
        yield Reclassify(changes=tuple(batch))


def refusal(error: RunoffError) -> Answer:
    """The answer that says what went wrong."""
    return Answer(ok=False, problem=error.problem, remedy=error.remedy, exit_code=error.exit_code)


_KINDS: dict[int, type[RunoffError]] = {
    kind.exit_code: kind
    for kind in (
        UsageProblem,
        WrongDatabase,
        LimitReached,
        LogUnreadable,
        AuditDifference,
        StorageFailed,
        LogHeld,
        Fenced,
    )
}


def error_of(answer: Answer) -> RunoffError:
    """The error that a refusal stands for, with its exit code."""
    kind = _KINDS.get(answer.exit_code, AppendRefused)
    problem = answer.problem or "the daemon refused."
    if problem.startswith(f"{_UNHEARD} Invalid value"):  # a request, or a part of one, by name
        return kind(
            problem,
            remedy="the daemon was started by an earlier version of runoff: start it again with"
            " this one, then ask again; nothing of this was recorded.",
        )
    return kind(problem, remedy=answer.remedy or "ask again.")


def event_answer(event: Any, position: int) -> Answer:
    """The answer to an operation that was recorded."""
    return Answer(ok=True, position=position, event=msgspec.Raw(encode(event).encode()))


__all__ = [
    "LINE_BYTES_MAX",
    "Answer",
    "AskStatus",
    "Operate",
    "Pause",
    "Reclassify",
    "Register",
    "Reload",
    "Request",
    "Requested",
    "Resume",
    "Stop",
    "answer_from",
    "error_of",
    "event_answer",
    "event_in",
    "line_of",
    "reclassify_of",
    "refusal",
    "register_of",
    "request_from",
    "status_in",
]
