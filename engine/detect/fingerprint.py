"""``fp-1`` fingerprints: exit class and the masked basis of the failure, as a digest."""

from __future__ import annotations

import hashlib
import re

from engine.detect import basis, masks
from engine.detect.known import without_known
from engine.detect.port import ERROR_CHARS_MAX, TEMPLATE_CHARS_MAX, Fingerprint, Outcome
from engine.detect.released import FINGERPRINT
from engine.detect.tongues import in_english, plain_quotes
from engine.redaction.texts import plain_marks

VERSION = FINGERPRINT
_SHOWN_HEX = 16
_SHELL_SIGNAL_BASE = 128
_SIGNAL_MAX = 64
_OWN_CODES = (0, 1, 2, 126, 127)
_NAMED = re.compile(r"([A-Za-z_][\w.$]{0,120}(?:Error|Exception|Exceeded|Interrupt|Exit))\b")
_CODED = re.compile(
    r"\b(panic(?=: )|HTTP \d{3}|[Ee]rrno \d{1,5}|WinError \d{1,6}|[A-Z]{1,8}-?\d{3,6}"
    r"|[45]\d\d(?= [A-Z])|(?<=code: )\d{3}|E[A-Z]{4,20})\b"
)


def exit_class(outcome: Outcome) -> str:
    """``0 1 2 126 127``, ``signal N``, ``timeout`` when our timer fired, else ``other``.

    A shell's 128 + N counts as signal N, but never as our timeout.
    """
    if outcome.ended == "timed_out":
        return "timeout"
    code = -outcome.signal if outcome.signal is not None else outcome.exit_code
    if code in _OWN_CODES:
        return str(code)
    if code is not None and -_SIGNAL_MAX <= code < 0:
        return f"signal {-code}"
    if code is not None and 0 < code - _SHELL_SIGNAL_BASE <= _SIGNAL_MAX:
        return f"signal {code - _SHELL_SIGNAL_BASE}"
    return "other"


def fingerprint(outcome: Outcome) -> Fingerprint | None:
    """The identity of a failure, the same whatever ids, places and times it happened with.

    A timeout says nothing about its cause, so its identity is the run it happened in.
    """
    if outcome.succeeded:
        return None
    ending = exit_class(outcome)
    if ending == "timeout":
        return _told(ending, f"timed out in run {outcome.run_id}", "timeout")
    template = masks.masked(in_english(plain_quotes(_basis(outcome)))) or "no output"
    return _told(ending, template, f"{_name_of(template)}/{ending}")


def error_text(outcome: Outcome) -> str | None:
    """The failure in its own words, unmasked, at most 2000 characters; None for a success."""
    if outcome.succeeded:
        return None
    if outcome.ended == "timed_out":
        return "timed out: the attempt ran into its deadline"
    told = outcome.reason or basis.of_output(outcome.stdout, outcome.stderr)
    return (told.strip() or _ending_in_words(outcome))[:ERROR_CHARS_MAX]


def _basis(outcome: Outcome) -> str:
    if outcome.reason and (said := basis.of_reason(_unknown(outcome, outcome.reason))):
        return said
    stdout, stderr = _unknown(outcome, outcome.stdout), _unknown(outcome, outcome.stderr)
    return basis.of_output(stdout, stderr) if stdout or stderr else ""


def _unknown(outcome: Outcome, text: str) -> str:
    """``text`` without what the engine handed out and without the lengths of secrets.

    Before anything is cut off a line: what looks like a logger's prefix may be an id of ours, and a
    mark may be longer than what is read of a line.
    """
    if not text:
        return text
    ids = (outcome.run_id, outcome.phase_id, outcome.attempt_id)
    text = plain_marks(text[-basis.TEXT_CHARS_MAX :])
    return without_known(text, ids, outcome.workspace)


def _told(ending: str, template: str, family: str) -> Fingerprint:
    if len(template) > TEMPLATE_CHARS_MAX:
        rest = hashlib.sha256(template.encode("utf-8", "replace")).hexdigest()[:_SHOWN_HEX]
        template = f"{template[: TEMPLATE_CHARS_MAX - _SHOWN_HEX - 1]}~{rest}"
    identity = f"{VERSION}|{ending}|{template}".encode("utf-8", "replace")
    return Fingerprint(
        fingerprint=f"{VERSION}:{hashlib.sha256(identity).hexdigest()[:_SHOWN_HEX]}",
        family=family,
        template=template,
        exit_class=ending,
    )


def _name_of(template: str) -> str:
    found = _NAMED.search(template) or _CODED.search(template)
    return found[1] if found else "unnamed"


def _ending_in_words(outcome: Outcome) -> str:
    if outcome.signal is not None:
        return f"ended by signal {outcome.signal} without a word"
    if outcome.exit_code is not None:
        return f"exit code {outcome.exit_code} without a word"
    return f"{outcome.ended} without a word"
