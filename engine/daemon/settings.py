"""Settings: what a daemon goes by, from a file and a command line, read again on SIGHUP.

Pure but for the zone's own file.  ``docs/reference/daemon.md`` is the same for users.
"""

from __future__ import annotations

import hashlib
import tomllib
from datetime import UTC, tzinfo
from typing import Annotated, Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec

from engine.errors import UsageProblem
from engine.events import NO_BATCH, Budget, Limits
from engine.labels import checked_labels
from engine.toml_text import DOTS_PER_LINE_MAX, has_too_many_dots
from engine.triage.budgets import budget_from
from engine.triage.policy import Policy
from engine.triage.policy_fields import closest
from engine.triage.schedule import WINDOWS_MAX, Window, window_from

SETTINGS_BYTES_MAX = 64 * 1024
_Count = Annotated[int, msgspec.Meta(ge=1, le=1024)]
_Tokens = Annotated[int, msgspec.Meta(ge=1, le=10**15)] | None
_Texts = Annotated[
    tuple[Annotated[str, msgspec.Meta(max_length=512)], ...], msgspec.Meta(max_length=256)
]

_Prefixes = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=512)], ...],
    msgspec.Meta(max_length=256),
]
"""Every run begins with an empty one."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a daemon goes by; keys of its settings file, and flags of its command line.

    ``policy``: a built-in one or a file.  ``stop_seconds``: how long attempts may go on after a
    signal to stop.  ``session_hours``: how long counts and stops of a session last.
    ``windows``: when attempts may start, in ``timezone``; none means always.
    ``labels``: what the machine offers to phases that need it.  ``host_workers``: attempts at once
    on its host, over all engines of the log there.
    """

    policy: Annotated[str, msgspec.Meta(max_length=4096)] = "default"
    workers: _Count = 4
    host_workers: Annotated[int, msgspec.Meta(ge=1, le=65_536)] | None = None
    max_per_run: _Count = 2
    phase_timeout_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=604_800)] = 900.0
    grace_seconds: Annotated[float, msgspec.Meta(ge=0, le=600)] = 5.0
    stop_seconds: Annotated[float, msgspec.Meta(ge=0, le=604_800)] = 1.0
    session_hours: Annotated[float, msgspec.Meta(ge=0.01, le=8784)] = 24.0
    windows: _Texts = ()
    timezone: Annotated[str, msgspec.Meta(max_length=64)] = "UTC"
    max_day_tokens: _Tokens = None
    max_run_tokens: _Tokens = None
    budget: _Texts = ()
    skip_run_prefix: _Prefixes = ()
    labels: _Texts = ()
    account: Annotated[str, msgspec.Meta(min_length=1, max_length=512)] | None = None

    @property
    def json(self) -> str:
        """All of them as canonical JSON."""
        return msgspec.json.encode(self).decode()

    @property
    def sha256(self) -> str:
        """Of the canonical JSON."""
        return hashlib.sha256(self.json.encode()).hexdigest()


class Plan(NamedTuple):
    """Settings with all that they name read: what is in force until the next plan."""

    settings: Settings
    policy: Policy
    limits: Limits
    windows: tuple[Window, ...]
    zone: tzinfo


def table_from(text: str, origin: str) -> dict[str, Any]:
    """The keys of a settings file.  Raises UsageProblem for what is not TOML."""
    if has_too_many_dots(text):
        raise UsageProblem(
            f"{origin} has a line with more than {DOTS_PER_LINE_MAX} dots.",
            remedy="break it; no key of the settings has parts.",
        )
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageProblem(
            f"{origin} is not TOML: {str(error)[:200]!a}.", remedy="correct it at that place."
        ) from None


def settings_from(table: dict[str, Any], origin: str) -> Settings:
    """Settings from keys and values.  Raises UsageProblem naming what cannot be one."""
    known = Settings.__struct_fields__
    for key in table:
        if key not in known:
            near = closest(key, known)
            raise UsageProblem(
                f"{origin}: there is no setting {key[:80]!a}.",
                remedy=f"did you mean {near}?" if near else f"the settings are {', '.join(known)}.",
            )
    try:
        return msgspec.convert(table, Settings)
    except msgspec.ValidationError as error:
        raise UsageProblem(
            f"{origin}: {str(error)[:300]}.",
            remedy="docs/reference/daemon.md says what every setting may hold.",
        ) from None


def plan_of(settings: Settings, policy: Policy) -> Plan:
    """What ``settings`` come to.

    Raises UsageProblem for a window, zone, budget or label that is none.
    """
    if len(settings.windows) > WINDOWS_MAX:
        raise UsageProblem(
            f"there are {len(settings.windows)} windows.", remedy=f"give at most {WINDOWS_MAX}."
        )
    windows = tuple(window_from(text) for text in settings.windows)
    return Plan(settings, policy, _limits(settings), windows, zone_of(settings.timezone))


def zone_of(name: str) -> tzinfo:
    """The time zone of a name such as ``Europe/Berlin``.  Raises UsageProblem for none."""
    if name == "UTC":
        return UTC  # also where there is no database of zones
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise UsageProblem(
            f"there is no time zone {name[:64]!a}.",
            remedy="name one such as Europe/Berlin; the package tzdata has them all.",
        ) from None


def _limits(settings: Settings) -> Limits:
    return Limits(
        batch_size=NO_BATCH,
        workers=settings.workers,
        host_workers=settings.host_workers,
        per_run_max=settings.max_per_run,
        phase_timeout_ms=round(settings.phase_timeout_seconds * 1000),
        grace_ms=round(settings.grace_seconds * 1000),
        total_ms_max=round(settings.session_hours * 3_600_000),
        skip_run_prefixes=settings.skip_run_prefix,
        budgets=_budgets(settings),
        account=settings.account,
        labels=checked_labels(settings.labels, "labels"),
    )


def _budgets(settings: Settings) -> tuple[Budget, ...]:
    given = [budget_from(text) for text in settings.budget]
    if settings.max_day_tokens is not None:
        given.append(Budget(scope="day", measure="tokens", limit=settings.max_day_tokens))
    if settings.max_run_tokens is not None:
        given.append(Budget(scope="run", measure="tokens", limit=settings.max_run_tokens))
    if any(budget.scope == "session" for budget in given):
        raise UsageProblem(
            "a daemon has no use for a budget of its session, which it would begin anew.",
            remedy="give budgets of a phase, a run or a day.",
        )
    found = {(budget.scope, budget.measure): budget for budget in given}
    return tuple(found[key] for key in sorted(found))
