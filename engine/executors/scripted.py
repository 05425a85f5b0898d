"""The scripted executor: outcomes from a file, for demonstrations, simulations and replays.

It starts no process and uses the event loop's own time, so on a loop with a virtual clock an
hour of timeouts passes in an instant.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import anyio
import anyio.lowlevel
import msgspec

from engine.errors import UsageProblem
from engine.events import PhaseState
from engine.executors.port import (
    USAGE_RECORDS_MAX,
    Assignment,
    Output,
    PhaseSheet,
    Report,
    Telemetry,
    Usage,
    Watch,
)
from engine.executors.protocol import UsageFields
from engine.executors.untrusted import NotAFile, read_at_most

SCRIPT_BYTES_MAX = 16 * 1024 * 1024
RULES_MAX = 10_000
NO_RULE = "no rule of the script matches"


class ScriptedUsage(UsageFields, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A usage record of a script, which is checked for misspelt fields."""

    type: Literal["usage"] = "usage"


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule; the first that matches an attempt says how it goes.

    Matching: ``run`` and ``phase`` are shell globs, ``attempt`` is the attempt's number; what is
    absent matches anything.  Outcome: ``rc`` is what the program would pass to ``exit``, so -9
    shows as 247; ``state`` is where the phase then stands, COMPLETE or FAILED by ``rc`` unless
    given.  ``events`` usage records without numbers, or those of ``usage``, and both texts are
    written first, then ``sleep`` seconds pass; a sleep beyond the deadline is a real timeout.
    ``{run}`` and ``{phase}`` in ``reason`` are replaced; null clears the reason that the phase had
    before, and without the key that one stays.
    """

    run: str = "*"
    phase: str = "*"
    attempt: Annotated[int, msgspec.Meta(ge=1)] | None = None
    state: PhaseState | None = None
    rc: Annotated[int, msgspec.Meta(ge=-255, le=255)] = 0
    reason: str | msgspec.UnsetType | None = msgspec.UNSET
    events: Annotated[int, msgspec.Meta(ge=0, le=USAGE_RECORDS_MAX)] = 0
    stdout: str = ""
    stderr: str = ""
    sleep: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 0.0
    usage: (
        Annotated[tuple[ScriptedUsage, ...], msgspec.Meta(max_length=USAGE_RECORDS_MAX)] | None
    ) = None

    def matches(self, sheet: PhaseSheet) -> bool:
        """Whether the rule speaks of this attempt."""
        return (
            fnmatchcase(sheet.run_id, self.run)
            and fnmatchcase(sheet.phase_id, self.phase)
            and self.attempt in {None, sheet.attempt}
        )


class ScriptedExecutor:
    """Executes by the first of ``rules`` that matches; without one the attempt fails and says so.

    Claims success when a rule's phase ends in COMPLETE, as the rule's author plainly means.
    """

    def __init__(self, rules: Sequence[Rule], name: str = "scripted") -> None:
        self._rules = tuple(rules)
        self._name = name

    @property
    def name(self) -> str:
        """As it stands in the log."""
        return self._name

    async def run(self, assignment: Assignment, watch: Watch) -> Report:
        """Play one attempt.  No process exists, so ``watch.spawned`` is never called."""
        rule = next((each for each in self._rules if each.matches(assignment.sheet)), None)
        if rule is None:
            await anyio.lowlevel.checkpoint()
            return Report(ended="exited", duration_ms=0, exit_code=1, reason=NO_RULE)
        began_s = anyio.current_time()
        ended = await _played(rule.sleep, assignment.timeout_s, watch.abandon)
        duration_ms = round((anyio.current_time() - began_s) * 1000)
        written = Report(
            ended=ended,
            duration_ms=duration_ms,
            telemetry=_telemetry(rule),
            stdout=Output.of(rule.stdout.encode("utf-8", "replace")),
            stderr=Output.of(rule.stderr.encode("utf-8", "replace")),
        )
        return written if ended != "exited" else _concluded(written, rule, assignment.sheet)


async def _played(
    sleep_s: float, timeout_s: float, abandon: anyio.Event
) -> Literal["exited", "timed_out", "abandoned"]:
    """Let ``sleep_s`` pass, until the deadline or until told to stop."""
    with anyio.move_on_after(min(sleep_s, timeout_s)):
        await abandon.wait()
    if abandon.is_set():
        return "abandoned"
    return "timed_out" if sleep_s > timeout_s else "exited"


def _concluded(written: Report, rule: Rule, sheet: PhaseSheet) -> Report:
    state: PhaseState = rule.state or ("FAILED" if rule.rc else "COMPLETE")
    reason = rule.reason or None
    if reason is not None:
        reason = reason.replace("{run}", sheet.run_id).replace("{phase}", sheet.phase_id)
    return msgspec.structs.replace(
        written,
        exit_code=rule.rc % 256,
        claimed_success=state == "COMPLETE",
        final_state=state,
        reason=reason,
        clears_reason=rule.reason is not msgspec.UNSET and reason is None,
    )


def _telemetry(rule: Rule) -> Telemetry:
    fields = rule.usage if rule.usage is not None else (ScriptedUsage(),) * rule.events
    usage: tuple[Usage, ...] = tuple(
        each.at(line, "script") for line, each in enumerate(fields, start=1)
    )
    return Telemetry(usage=usage, lines_read=len(usage))


def load_script(path: Path) -> tuple[Rule, ...]:
    """The rules of a script file: a JSON list of them, or an object with the key ``rules``.

    Raises UsageProblem naming the file, the rule (from 1) and the key that is wrong.
    """
    value = _parsed(path)
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("rules")
    if not isinstance(value, list):
        raise UsageProblem(
            f"{path} holds no list of rules.",
            remedy='write a JSON list of rules, or an object {"rules": [...]}.',
        )
    return _rules(path, value)  # pyright: ignore[reportUnknownArgumentType]


def _rules(path: Path, rules: list[Any]) -> tuple[Rule, ...]:
    if len(rules) > RULES_MAX:
        raise UsageProblem(
            f"{path} holds {len(rules)} rules.", remedy=f"use {RULES_MAX} at most, with globs."
        )
    return tuple(_rule(path, number, each) for number, each in enumerate(rules, start=1))


def _parsed(path: Path) -> Any:
    try:
        text = read_at_most(path.resolve(), SCRIPT_BYTES_MAX + 1)
        if len(text) > SCRIPT_BYTES_MAX:
            raise NotAFile(f"longer than {SCRIPT_BYTES_MAX} bytes")
        return msgspec.json.decode(text)
    except OSError as error:
        raise UsageProblem(
            f"{path} cannot be read: {error.strerror or error}.",
            remedy="name a script file that exists and can be read.",
        ) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageProblem(
            f"{path} is not JSON: {error}.",
            remedy="correct it there; a JSON checker shows the place.",
        ) from None


def _rule(path: Path, number: int, value: Any) -> Rule:
    try:
        return msgspec.convert(value, Rule)
    except msgspec.ValidationError as error:
        # "Expected `int`, got `str` - at `$.rc`": the place is what a person looks for first.
        what, _, place = str(error).partition(" - at `$")
        key = place.rstrip("`").lstrip(".")
        where = f", key {key}" if key else ""
        raise UsageProblem(
            f"{path}: rule {number}{where}: {what}.",
            remedy=_remedy(key),
        ) from None


def _remedy(key: str) -> str:
    if key == "state":
        return "a state is one of " + ", ".join(get_args(PhaseState)) + "."
    if key.startswith("usage"):
        return "a usage record has the keys " + ", ".join(ScriptedUsage.__struct_fields__) + "."
    return "a rule has the keys " + ", ".join(Rule.__struct_fields__) + "."
