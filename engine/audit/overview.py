"""An overview: why nothing is running, or what is and what would be next, in a sentence."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.amounts import counted
from engine.audit.answers import READY, TAKE_OVER, Answer, in_words
from engine.audit.facts import Rule
from engine.audit.session_view import SessionView
from engine.events import SessionEnd
from engine.store.lock import DAEMON
from engine.triage.end_words import ENDS, HIGHER, LARGER
from engine.triage.hindrance import Hindrance
from engine.triage.typed import quoted

__all__ = ["READY", "Example", "Next", "OpenAttempt", "Overview", "answer_of"]


class OpenAttempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt that has not ended, ``age_us`` old; its deadline is ``timeout_ms`` after start."""

    attempt_id: str
    session_id: str
    run_id: str
    phase_id: str
    number: int
    started_pos: int
    started_us: int
    age_us: int
    timeout_ms: int


class Next(msgspec.Struct, frozen=True, kw_only=True):
    """What would be recorded next.

    An ``attempt``; a run that is sampled again (``cool_down``); or a ``limit`` at which the session
    would start nothing.
    """

    what: Literal["attempt", "cool_down", "limit"]
    run_id: str | None
    phase_id: str | None
    group: str | None
    sentence: str
    rule: Rule


class Example(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of those that a count stands for."""

    run_id: str
    phase_id: str


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """Why nothing is running, or what is, as of ``position`` at ``now_us`` (Unix).

    ``holder``: which process holds the log; empty for none, None when that cannot be told.
    ``seen_from`` says whether ``phases``, ``gates`` and ``next`` are about the newest ``session``,
    which runs, or about one that would begin now.  ``phases`` counts by first hindrance, ``ready``
    without any but the ``gates``, which hold for all; ``examples`` names one phase for each.
    """

    position: int
    now_us: int
    sentence: str
    change: str | None
    session: SessionView | None
    holder: str | None
    open: int
    open_attempts: tuple[OpenAttempt, ...]
    seen_from: Literal["session", "new_session"]
    phases: dict[str, int]
    unfinished: int
    examples: dict[str, Example]
    gates: tuple[Hindrance, ...]
    next: Next | None


KINDS_SHOWN = 5
DRAIN = "`runoff drain -- PROGRAM` begins one."
RESUME = "`runoff drain --resume -- PROGRAM` goes on with it."
REST = "`runoff daemon status` says what it waits for; `runoff daemon resume` ends a pause."
"""While a daemon holds the log every drain is refused, and what it waits for may be a clock."""

_BUSY = frozenset({"workers_full", "host_full"})
"""What lifts as soon as something ends."""

_LEFT_OVER = frozenset({"interrupted", "storage"})
"""Ends after which the same session can go on."""


def answer_of(found: Overview) -> Answer:
    """The sentence, and the most useful next command."""
    session = found.session
    if not found.unfinished:
        total = sum(found.phases.values())
        done = f"Nothing is left to run: {_all(total)} finished."
        return Answer(done if total else "The log holds no phases.", None)
    if session is None:
        begun = f"No drain has begun yet; {_left(found)}{_held(found)}."
        return Answer(begun, _way(found, REST if _held(found) else DRAIN))
    name = f"Session {session.session_id}"
    if session.status != "ended":
        return _of_living(name, session, found)
    because = ENDS[session.because] if session.because else "it was told to"
    ended = f"Nothing is running: {name[0].lower()}{name[1:]} has ended because {because}"
    way = REST if _held(found) else _next_drain(session.because)
    return Answer(f"{ended}; {_left(found)}{_held(found)}.", _way(found, way))


def _held(found: Overview) -> str:
    """That a daemon holds the log, as the end of a sentence; empty when none does."""
    holder = found.holder or ""
    return f"; {holder}, holds the log" if holder.startswith(DAEMON) else ""


def _next_drain(because: SessionEnd | None) -> str:
    """How to drain on behind a session that ended so."""
    larger = LARGER.get(because) if because is not None else None
    if larger is not None:
        resumed = f"`runoff drain --resume {larger} N -- PROGRAM`"
        anew = f"{DRAIN[:-1]} with new counts."
        return f"{resumed} with a larger N than it had goes on with it; {anew}"
    if because == "session_budget":
        resumed = f"`runoff drain --resume -- PROGRAM` {HIGHER[because]}"
        return f"{resumed} goes on with it; {DRAIN[:-1]} with new counts."
    return RESUME if because in _LEFT_OVER else DRAIN


def _of_living(name: str, session: SessionView, found: Overview) -> Answer:
    """A session that has not ended: at work, at its end, or left behind by its engine."""
    if found.holder == "" or session.status == "lost":
        gone = f"Nothing is running: {name[0].lower()}{name[1:]} was left by an engine that is gone"
        looks = f"{gone}, with {_open(found)}; {_left(found)}."
        return Answer(looks, TAKE_OVER)
    if session.status == "draining":
        because = ENDS[session.because] if session.because else "it was told to"
        sentence = f"{name} starts nothing more because {because}, with {_open(found)}"
        then = REST if _held(found) else "`runoff drain --resume -- PROGRAM`."
        return Answer(f"{sentence}{_held(found)}.", f"The end of these; then {then}")
    running = f"{name} is running with {_open(found)}; {_left(found)}"
    return Answer(f"{running}.", _way(found, _turn(found)))


def _turn(found: Overview) -> str | None:
    """What a session that runs waits for, by itself; None for what comes in a moment."""
    if found.open:
        return "The end of an attempt."
    if _goes_on(found):
        return None
    return REST if _held(found) else "`runoff drain -- PROGRAM` begins a new session."


def _goes_on(found: Overview) -> bool:
    """Whether something could be attempted, or comes back to be."""
    return bool(found.phases.get(READY)) or (found.next is not None and found.next.what != "limit")


def _left(found: Overview) -> str:
    """How much could go, and what holds back the rest."""
    ready = found.phases.get(READY, 0)
    held = [(kind, n) for kind, n in found.phases.items() if kind not in (READY, "done")]
    why = ", ".join(f"{count} {in_words(kind)}" for kind, count in held[:KINDS_SHOWN])
    rest = f" ({'the others: ' if ready else ''}{why})" if held else ""
    gates = "; but " + ", and ".join(gate.text for gate in found.gates) if found.gates else ""
    of = f"of {counted(found.unfinished, 'unfinished phase')}"
    if not ready:
        return f"{of} none is ready{rest}{gates}"
    return f"{ready} {of} {'is' if ready == 1 else 'are'} ready{rest}{gates}"


def _all(total: int) -> str:
    return "the one phase is" if total == 1 else f"all {total} phases are"


def _open(found: Overview) -> str:
    return f"{counted(found.open, 'attempt')} open"


def _way(found: Overview, otherwise: str | None) -> str | None:
    """What would get things going."""
    gates = [gate for gate in found.gates if gate.kind not in _BUSY]
    # What holds back samples alone is no matter to what is ready.
    for_all = next((gate for gate in gates if gate.of != "samples"), None)
    if for_all is not None:
        # Where nothing is ready, the end of what holds all back would change nothing by itself.
        waits = _goes_on(found) or found.open or gates != [for_all]
        own = None if waits else _own_way(found)
        return f"{own} Then: {for_all.change}" if own else for_all.change
    if _goes_on(found):
        return otherwise
    if gates:
        return gates[0].change
    if found.seen_from == "session" and found.open:
        return otherwise
    return _own_way(found) or otherwise


def _own_way(found: Overview) -> str | None:
    """What lets phases go that something of their own holds back; None where nothing is known."""
    for kind in found.phases:
        if kind in _WAYS:
            example = found.examples[kind]
            named = (example.run_id, example.phase_id)[: _WAYS[kind][1]]
            verbs, _, options, does = _WAYS[kind]
            return f"`{quoted(verbs, *named, options=options)}` {does}"
    return None


_WHY = "--why TEXT"
_WAYS: dict[str, tuple[str, int, str, str]] = {
    "exhausted": ("phase requeue", 2, _WHY, "gives one of them new attempts."),
    "lost_too_often": ("phase requeue", 2, _WHY, "gives one of them new attempts."),
    "not_drained": ("why", 2, "", "says what would have one of them drained."),
    "over_budget": ("why", 2, "", "says what one of them has used up, and what lets it go."),
    "deprioritized": ("run reinstate", 1, _WHY, "has one of these runs sampled again."),
    "label_missing": ("why", 2, "", "says which label one of them needs."),
    "waits": ("why", 2, "", "says what one of them waits for."),
    "open": ("attempt list", 0, "", "shows the open attempts."),
}
"""By hindrance: the command, how many ids it takes, its options, and what it does."""
