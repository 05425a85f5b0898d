"""The original's loop once more, straight from its description and from nothing of ours.

It reads a backlog's database and the rules of a script, and predicts what the original would have
recorded.  ``test_original.py`` holds it against the nine recorded drains; then it speaks for the
original on backlogs of which there is no recording.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
FAILED, TIMEOUTS = "FAILED", (-1, 143)
TIMED_OUT = "Phase drain timed out after 30 minutes (see logs)"
BOUNDARIES = (
    "max_turns|message limit|context_length_exceeded|maximum context|token limit exceeded|"
    "max tokens|context window exceeded|conversation too long|exceeded maximum"
)
EARLY = (
    "validation error|schema error|missing required field|invalid phase|phase not found|"
    "run not found|database error|connection error|permission denied"
)
NORMAL = (
    (r"\d{4}-\d\d-\d\d", "date"),
    (r"\d\d:\d\d:\d\d", "time"),
    (r"[a-z]:\\[\w\\.-]+", "path"),
    (r"/[\w/.-]+", "path"),
    (r"0x[0-9a-f]+", "addr"),
    (r"line \d+", "line num"),
    (r":\d+", ":num"),
    (r"(session|run|batch|drain)-\d{8}-\d{6}", r"\1-id"),
    (r"\b\d+\b", "num"),
    (r"\s+", " "),
)
CATEGORIES = (
    ("collection", "collection|import"),
    ("deliverable", "deliverable|missing"),
    ("patch", "patch|no-op|manifest"),
    ("timeout", "timeout|timed out"),
    ("other", ""),
)
PICKED_BY = ("unknown", "collection", "deliverable", "patch", "other", "timeout")


class Drained(NamedTuple):
    """What was decided, and the sets that the original kept of a session."""

    decisions: list[Row]
    final: dict[str, Any]


class Session(NamedTuple):
    sampled: set[str]
    promising: set[str]
    deprioritized: set[str]
    stopped: set[str]
    stopped_fingerprints: set[str]
    counts: dict[str, int]
    processed: list[Row]


def drained(database: Path, rules: list[Row], arguments: list[str]) -> Drained:
    """A whole session on the phases of ``database``, in the order of their rows."""
    phases, given = phases_of(database), options(arguments)
    session = Session(set(), set(), set(), set(), set(), {}, [])
    streak, spent_s, limit_s = 0, 0.0, 60 * given("max-total-minutes", 0)
    for _ in range(given("batch-size", 10)):
        if 0 < limit_s <= spent_s:
            break
        found = picked(phases, session, given)
        if found is None:
            break
        phase, group = found
        rule, timeout_s = rule_for(phase, rules), given("phase-timeout-seconds", 900)
        decision = attempted(phase, rule, timeout_s)
        spent_s += min(rule.get("sleep", 0), timeout_s)
        decision |= {"seq": len(session.processed) + 1, "group": group}
        session.processed.append(decision)
        decision["verdict"] = None
        if phase["run_id"] not in session.sampled:
            decision["verdict"] = judged(decision, session)
        streak = 0 if decision["events"] else streak + 1
        if not decision["events"] and 0 < given("max-consecutive-zero-yield", 0) <= streak:
            break
        count(decision, session, given("max-fingerprint-repeats", 3))
    return Drained(session.processed, final_of(session))


def phases_of(database: Path) -> list[Row]:
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        rows = connection.execute("SELECT * FROM phases ORDER BY id").fetchall()
    return [{"last_failure_reason": None, **dict(row)} for row in rows]


def options(arguments: list[str]) -> Callable[[str, Any], Any]:
    pairs = list(zip(arguments[::2], arguments[1::2], strict=True))

    def given(name: str, default: Any) -> Any:
        values = [value for flag, value in pairs if flag == f"--{name}"]
        if isinstance(default, list):
            return values
        return type(default)(values[0]) if values else default

    return given


def picked(
    phases: list[Row], session: Session, given: Callable[[str, Any], Any]
) -> tuple[Row, str] | None:
    only, prefixes = given("run-id", ""), tuple(given("skip-run-prefix", list[str]()))
    done = {(each["run"], each["phase"]) for each in session.processed}
    timeouts = [each["run"] for each in session.processed if each["returncode"] in TIMEOUTS]
    left = [
        phase
        for phase in phases
        if phase["state"] == FAILED
        and only in ("", phase["run_id"])
        and not phase["run_id"].startswith(prefixes or ("\0",))
        and (phase["run_id"], phase["phase_id"]) not in done
        and phase["run_id"] not in session.deprioritized | session.stopped
        and timeouts.count(phase["run_id"]) < given("max-timeouts-per-run", 2)
    ]
    unsampled = [phase for phase in left if phase["run_id"] not in session.sampled]
    promising = [phase for phase in left if phase["run_id"] in session.promising]
    for group, found in (("unsampled", unsampled), ("promising", promising)):
        if found:
            return min(found, key=place), group
    return None


def place(phase: Row) -> tuple[int, int]:
    return PICKED_BY.index(category(phase["last_failure_reason"])), phase["phase_index"] or 0


def category(reason: str | None) -> str:
    if not reason:
        return "unknown"
    return next(name for name, words in CATEGORIES if said(words, reason.lower()))


def said(words: str, text: str) -> bool:
    return any(word in text for word in words.split("|"))


def rule_for(phase: Row, rules: list[Row]) -> Row:
    run, name = phase["run_id"], phase["phase_id"]
    return next(
        each
        for each in rules
        if fnmatchcase(run, each.get("run", "*")) and fnmatchcase(name, each.get("phase", "*"))
    )


def attempted(phase: Row, rule: Row, timeout_s: float) -> Row:
    decision = {
        "run": phase["run_id"],
        "phase": phase["phase_id"],
        "phase_index": phase["phase_index"] or 0,
        "category": category(phase["last_failure_reason"]),
        "initial_state": FAILED,
    }
    timed_out = rule.get("sleep", 0) > timeout_s
    return decision | (out_of_time(rule) if timed_out else ended(phase, rule))


def out_of_time(rule: Row) -> Row:
    return {
        "final_state": "TIMEOUT",
        "success": False,
        "returncode": -1,
        "error": TIMED_OUT,
        "events": None,
        "boundary": said(BOUNDARIES, output_of(rule)),
        "zero_yield": "timeout",
        "fingerprint": f"TIMEOUT|timeout|{normal(TIMED_OUT)}",
    }


def ended(phase: Row, rule: Row) -> Row:
    code, out, err = rule["rc"] % 256, rule.get("stdout", ""), rule.get("stderr", "")
    reason: str | None = rule.get("reason", phase["last_failure_reason"])
    if reason and "reason" in rule:
        reason = reason.replace("{run}", phase["run_id"]).replace("{phase}", phase["phase_id"])
    success, text = rule["state"] == "COMPLETE", output_of(rule)
    events = rule.get("events", 0)
    log = f"/logs/{phase['run_id']}__{phase['phase_id']}"
    error = None if success else reason or built(code, out.strip(), err.strip(), log)
    return {
        "final_state": rule["state"],
        "success": success,
        "returncode": code,
        "error": error,
        "events": events,
        "boundary": said(BOUNDARIES, text),
        "zero_yield": None if events else why_none(success, code, text),
        "fingerprint": None if success else fingerprint(rule["state"], code, error or ""),
    }


def output_of(rule: Row) -> str:
    return f"{rule.get('stdout', '')}\n{rule.get('stderr', '')}".lower()


def built(code: int, out: str, err: str, log: str) -> str:
    told = f"subprocess exit {code} (stderr: {log}.stderr.txt)"
    if code:
        return f"{told[:200]} | {err[:300]}" if err else told
    if err:
        return f"exit 0 but stderr present (see {log}.stderr.txt): {err[:500]}"
    if out:
        return f"exit 0 but not COMPLETE (see {log}.stdout.txt): {out[:500]}"
    return f"exit 0 but not COMPLETE (empty output, see {log}.stdout.txt, {log}.stderr.txt)"


def why_none(success: bool, code: int, text: str) -> str:
    if success:
        return "success_no_llm_calls"
    if code in TIMEOUTS:
        return "timeout"
    if said(BOUNDARIES, text):
        return "llm_boundary_hit"
    if said(EARLY, text):
        return "failed_before_llm"
    return "execution_error" if code else "unknown"


def fingerprint(state: str, code: int, error: str) -> str:
    bucket = {-1: "timeout", 143: "timeout143"}.get(code, f"rc{code}")
    return f"{state}|{bucket}|{normal(error)}"


def normal(text: str) -> str:
    text = text.lower()
    for pattern, word in NORMAL:
        text = re.sub(pattern, word, text)
    return text.strip()[:200]


def judged(decision: Row, session: Session) -> str:
    run = decision["run"]
    session.sampled.add(run)
    known = session.counts.get(decision["fingerprint"], 0)
    hopeful = decision["success"] or decision["events"] or decision["returncode"] in TIMEOUTS
    if hopeful or known == 0:
        session.promising.add(run)
        return "promising"
    session.deprioritized.add(run)
    return "deprioritized"


def count(decision: Row, session: Session, repeats_max: int) -> None:
    seen = decision["fingerprint"]
    if seen is None:
        return
    session.counts[seen] = session.counts.get(seen, 0) + 1
    if session.counts[seen] >= repeats_max:
        session.stopped_fingerprints.add(seen)
        session.stopped.add(decision["run"])


def final_of(session: Session) -> dict[str, Any]:
    made = session.processed
    return {
        "sampled": sorted(session.sampled),
        "promising": sorted(session.promising),
        "deprioritized": sorted(session.deprioritized),
        "stopped_runs": sorted(session.stopped),
        "stopped_fingerprints": sorted(session.stopped_fingerprints),
        "fingerprints": dict(sorted(session.counts.items())),
        "processed": len(made),
        "success": sum(each["success"] for each in made),
        "failed": sum(not each["success"] for each in made),
        "timeouts": sum(each["returncode"] in TIMEOUTS for each in made),
        "events": sum(each["events"] or 0 for each in made),
    }
