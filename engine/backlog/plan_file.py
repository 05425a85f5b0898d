"""Plan files: a backlog written down by a person, in TOML or JSON.

The schema is the structs below; fields that they do not name are refused, and every error says
where in the file it stands (``phases[3].category``).  ``docs/reference/plan-file.md`` is the same
for users.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from engine.backlog.findings import printable
from engine.errors import UsageProblem
from engine.events import Order
from engine.prebuilt import prebuilt

PLAN_BYTES_MAX = 4 * 1024 * 1024
PHASES_MAX = 10_000
TIERS_MAX = 1_000
PHASE_BYTES_MAX = 192 * 1024
_EXACT_MAX = 2**53
# The standard library's parser takes minutes for a key such as a.a.a.a… of a megabyte.
_LONG_KEY = re.compile(r"""(?:(?:(?<![\w-])[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")

Count = Annotated[int, Meta(ge=0, le=_EXACT_MAX)]
Word = Annotated[str, Meta(min_length=1, max_length=256)]
Title = Annotated[str, Meta(max_length=1024)]
Prose = Annotated[str, Meta(max_length=16 * 1024)]
Names = Annotated[tuple[Word, ...], Meta(max_length=256)]
Ids = Annotated[tuple[str, ...], Meta(max_length=256)]


class Entry(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """A table of a plan file; it may hold nothing but its fields."""


class DeliverableEntry(Entry, frozen=True, kw_only=True):
    """A file to produce, and names that must appear in it."""

    path: str
    must_contain: Names = ()


class TierEntry(Entry, frozen=True, kw_only=True):
    """An ordered group of phases.  ``ci_run_cap``: CI runs the tier may use."""

    tier_id: str
    name: Title = ""
    description: Prose | None = None
    ci_run_cap: Count | None = None
    order: Order = "strict"


class DefaultsEntry(Entry, frozen=True, kw_only=True):
    """What holds for each phase that does not say otherwise."""

    builder_attempts_max: Count | None = None
    auditor_attempts_max: Count | None = None
    incident_token_cap: Count | None = None


class PhaseEntry(Entry, frozen=True, kw_only=True):
    """A unit of work.  ``tier`` may be left out when the plan has only one."""

    phase_id: str
    name: Title = ""
    goal: Prose | None = None
    tier: str | None = None
    category: Word | None = None
    complexity: Word | None = None
    after: Ids = ()
    needs: Ids = ()
    deliverables: Annotated[tuple[str | DeliverableEntry, ...], Meta(max_length=256)] = ()
    read_only_context: Ids = ()
    builder_attempts_max: Count | None = None
    auditor_attempts_max: Count | None = None
    incident_token_cap: Count | None = None


class PlanEntry(Entry, frozen=True, kw_only=True):
    """A whole plan file.  ``path`` is put in front of every path that the phases name."""

    run_id: str
    path: str = ""
    token_cap: Count | None = None
    phases_max: Count | None = None
    duration_minutes_max: Count | None = None
    defaults: DefaultsEntry = DefaultsEntry()
    tiers: Annotated[tuple[TierEntry, ...], Meta(max_length=TIERS_MAX)] = ()
    phases: Annotated[tuple[PhaseEntry, ...], Meta(min_length=1, max_length=PHASES_MAX)]


class Place(msgspec.Struct, frozen=True):
    """Where in a plan file something stands, for errors."""

    file: str
    inside: str = ""

    @classmethod
    def of(cls, path: Path) -> Place:
        """A whole file, its name made fit to be shown."""
        return cls(printable(str(path), 512))

    def at(self, inside: str) -> Place:
        """A place within this one."""
        glue = "." if self.inside and not inside.startswith("[") else ""
        return Place(self.file, f"{self.inside}{glue}{inside}")

    def problem(self, text: str, *, remedy: str) -> UsageProblem:
        """An error that names this place."""
        return UsageProblem(f"{self}: {printable(text, 300)}", remedy=remedy)

    def __str__(self) -> str:
        return f"{self.file}: {self.inside}" if self.inside else self.file


def read_entry(path: Path) -> PlanEntry:
    """The file's content, of the right shape but not yet checked for sense.

    Raises UsageProblem, naming the file and the place in it.
    """
    place = Place.of(path)
    text = _text(path, place)
    try:
        if path.suffix.lower() == ".json":
            json.loads(text, object_pairs_hook=_each_once)
            return msgspec.json.decode(text, type=PlanEntry)
        if _LONG_KEY.search(text):
            raise place.problem("has a dotted key of many parts.", remedy="write it flat.")
        return msgspec.convert(tomllib.loads(text), type=PlanEntry)
    except msgspec.ValidationError as error:
        message, inside = _located(str(error))
        raise place.at(inside).problem(
            message, remedy="see docs/reference/plan-file.md for what a plan may hold."
        ) from None
    except RecursionError:
        raise place.problem("is nested too deeply.", remedy="write it flat.") from None
    except ValueError as error:
        raise place.problem(
            f"cannot be read: {error}.", remedy="correct the file at that place."
        ) from None


def _each_once(pairs: list[tuple[str, object]]) -> None:
    """As in TOML, since of two values nobody could tell which one is meant."""
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {key[:80]!a} stands twice in one object")
        seen.add(key)


def _text(path: Path, place: Place) -> str:
    if path.suffix.lower() not in {".toml", ".json"}:
        raise place.problem(
            "is neither a .toml nor a .json file.", remedy="name the plan file PLAN.toml."
        )
    if path.exists() and not path.is_file():
        raise place.problem("is no regular file.", remedy="name the plan file PLAN.toml.")
    if not path.is_file():
        raise place.problem("there is no such file.", remedy="check the path of the plan file.")
    try:
        with path.open("rb") as file:
            data = file.read(PLAN_BYTES_MAX + 1)
    except OSError as error:
        raise place.problem(
            f"cannot be opened: {error.strerror}.", remedy="check its permissions."
        ) from error
    if len(data) > PLAN_BYTES_MAX:
        raise place.problem(
            f"has more than {PLAN_BYTES_MAX} bytes.", remedy="split it into several plans."
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise place.problem(
            f"is not UTF-8 (byte {error.start}).", remedy="save it as UTF-8."
        ) from None


def _located(message: str) -> tuple[str, str]:
    """A message of msgspec's in two: what is wrong, and where (``phases[3].category``)."""
    match = re.fullmatch(r"(.*?) - at `\$?\.?(.*?)`", message, re.DOTALL)
    text, inside = match.groups() if match else (message, "")
    return text + ".", inside


prebuilt(PlanEntry)
