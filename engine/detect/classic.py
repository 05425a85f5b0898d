"""``classic-1``: the original's detectors, with their faults, to reproduce its decisions.

Its quirks are kept on purpose: exit code 143 and SIGHUP count as timeouts, all timeouts share one
fingerprint, and a limit's name in a line of configuration counts as having met that limit.
"""

from __future__ import annotations

import re

from engine.detect.port import (
    WINDOW_CHARS_MAX,
    Boundary,
    Detectors,
    Fingerprint,
    Outcome,
    StreamName,
    ZeroYield,
)

_TIMEOUT_TEXT = "Phase drain timed out after 30 minutes (see logs)"
_TIMEOUT_CODES = (-1, 143)
_TEXT_IN_FINGERPRINT = 200

_NORMALISE = tuple(
    (re.compile(pattern), put)
    for pattern, put in (
        (r"\d{4}-\d{2}-\d{2}", "date"),
        (r"\d{2}:\d{2}:\d{2}", "time"),
        (r"[a-z]:\\[\w\\.\-]+", "path"),
        (r"/[\w/.\-]+", "path"),
        (r"0x[0-9a-f]+", "addr"),
        (r"line \d+", "line num"),
        (r":\d+", ":num"),
        (r"(session|run|batch|drain)-\d{8}-\d{6}", r"\1-id"),
        (r"\b\d+\b", "num"),
        (r"\s+", " "),
    )
)

_LIMITS = (
    "max_turns",
    "message limit",
    "context_length_exceeded",
    "maximum context",
    "token limit exceeded",
    "max tokens",
    "context window exceeded",
    "conversation too long",
    "exceeded maximum",
)

_EARLY_FAILURES = (
    "validation error",
    "schema error",
    "missing required field",
    "invalid phase",
    "phase not found",
    "run not found",
    "database error",
    "connection error",
    "permission denied",
)


def normalise(text: str) -> str:
    """``text`` without dates, times, paths, addresses, line numbers and numbers; lower case."""
    text = text.lower()
    for pattern, put in _NORMALISE:
        text = pattern.sub(put, text)
    return text.strip()


def return_code(outcome: Outcome) -> int | None:
    """The code as the original saw it: −1 at our deadline, −N for signal N."""
    if outcome.ended == "timed_out":
        return -1
    if outcome.signal is not None:
        return -outcome.signal
    return outcome.exit_code


def error_text(outcome: Outcome) -> str | None:
    """The failure in the original's words: the stored reason, else built from code and output.

    It read the reason from the phase's row, so one that the child left as it was counts too.
    The original wrote the log file's absolute path into the text; its directory is cut here,
    because the fingerprint reduces any path to one word.
    """
    if outcome.succeeded:
        return None
    if outcome.ended == "timed_out":
        return _TIMEOUT_TEXT
    return outcome.reason or outcome.stored_reason or _error_from_output(outcome)


def _error_from_output(outcome: Outcome) -> str:
    code = return_code(outcome)
    log = f"/logs/{outcome.run_id}__{outcome.phase_id}"
    stdout, stderr = outcome.stdout.strip(), outcome.stderr.strip()
    if code != 0:
        told = f"subprocess exit {code} (stderr: {log}.stderr.txt)"
        return f"{told[:200]} | {stderr[:300]}" if stderr else told
    if stderr:
        return f"exit 0 but stderr present (see {log}.stderr.txt): {stderr[:500]}"
    if stdout:
        return f"exit 0 but not COMPLETE (see {log}.stdout.txt): {stdout[:500]}"
    return f"exit 0 but not COMPLETE (empty output, see {log}.stdout.txt, {log}.stderr.txt)"


def fingerprint(outcome: Outcome) -> Fingerprint | None:
    """State, code bucket and 200 characters of normalised text, joined by bars."""
    if outcome.succeeded:
        return None
    state, bucket = _state(outcome), _bucket(return_code(outcome))
    template = normalise(error_text(outcome) or "")[:_TEXT_IN_FINGERPRINT]
    family = "|".join(part for part in (state, bucket) if part)
    return Fingerprint(
        fingerprint=f"{family}|{template}" if error_text(outcome) else family,
        family=family,
        template=template,
        exit_class=bucket,
    )


def _state(outcome: Outcome) -> str:
    match outcome.ended:
        case "timed_out":
            return "TIMEOUT"
        case "broke":
            return "ERROR"
        case "exited" | "abandoned" | "lost":
            return outcome.final_state


def _bucket(code: int | None) -> str:
    match code:
        case None:
            return ""
        case -1:
            return "timeout"
        case 143:
            return "timeout143"
        case _:
            return f"rc{code}"


def boundary(outcome: Outcome) -> tuple[Boundary, ...]:
    """The first of nine phrases that stands anywhere in the output; at most one hit."""
    streams: tuple[tuple[StreamName, str], ...] = (
        ("stdout", _lowered(outcome.stdout)),
        ("stderr", _lowered(outcome.stderr)),
    )
    for limit in _LIMITS:
        for name, text in streams:
            start = text.find(limit)
            if start >= 0:
                return (
                    Boundary(
                        kind="unspecified",
                        disposition="encountered" if outcome.succeeded else "stopped_by",
                        pattern=limit,
                        stream=name,
                        start=start,
                        end=start + len(limit),
                    ),
                )
    return ()


def _lowered(text: str) -> str:
    # The only letter whose lower case is longer would shift every offset after it.
    return text[:WINDOW_CHARS_MAX].replace("\u0130", "\0").lower()


def zero_yield(
    outcome: Outcome, boundaries: tuple[Boundary, ...] | None = None, /
) -> ZeroYield | None:
    """The original's ladder; only what it never saw, our own endings, is added in front."""
    if outcome.yield_events > 0:
        return None
    if outcome.ended == "abandoned":
        return ZeroYield(reason="abandoned", evidence="the attempt was stopped by the engine")
    if outcome.ended == "lost":
        return ZeroYield(reason="orphaned", evidence="the attempt left no outcome")
    if outcome.succeeded:
        return ZeroYield(reason="success_no_llm_calls", evidence="the phase succeeded")
    code = return_code(outcome)
    if code in _TIMEOUT_CODES:
        return ZeroYield(reason="timeout", evidence=f"return code {code}")
    hits = boundary(outcome) if boundaries is None else boundaries
    if hits:
        return ZeroYield(reason="llm_boundary_hit", evidence=f"the output says: {hits[0].pattern}")
    output = f"{outcome.stdout}\n{outcome.stderr}".lower()
    for early in _EARLY_FAILURES:
        if early in output:
            return ZeroYield(reason="failed_before_llm", evidence=f"the output says: {early}")
    if code:
        return ZeroYield(reason="execution_error", evidence=f"return code {code}")
    return ZeroYield(reason="unknown", evidence="nothing in code or output explains it")


CLASSIC_1 = Detectors(
    name="classic-1",
    fingerprint=fingerprint,
    boundary=boundary,
    zero_yield=zero_yield,
    error_text=error_text,
)
