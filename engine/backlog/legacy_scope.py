"""The scope of a legacy phase: free-form JSON, of which three things have a meaning here.

``deliverables`` is a list of texts, a list of objects with a ``path``, or an object that sorts
texts by kind (code, tests, docs).  ``read_only_context`` is a list of texts or of objects with a
``path``.  ``dependencies``, when it is a list, names phases of the same run.  A text is taken as a
path if it could be one: ``docs/GUIDE.md (what it is for)`` loses its note, and prose is left out.
Everything else stays in the raw scope, which the event keeps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeGuard

import msgspec

from engine.backlog.findings import Findings
from engine.backlog.paths import checked_path
from engine.errors import UsageProblem
from engine.events import Deliverable

SCOPE_BYTES_MAX = 64 * 1024
PARSED_CHARACTERS_MAX = 1024 * 1024
PATHS_MAX = 256
DELIVERABLES_BYTES_MAX = 24 * 1024
READ_BYTES_MAX = 16 * 1024
NAMES_MAX = 64
NAME_BYTES_MAX = 256
_DEPTH_MAX = 4
_PATH_KEYS = ("path", "file", "file_path", "filename")
_NOTED = re.compile(r"(\S+)\s+\(.*\)", re.DOTALL)


class Scope(NamedTuple):
    """What a scope says.  ``dependencies`` are phase ids, not yet looked up."""

    deliverables: tuple[Deliverable, ...] = ()
    read_only_context: tuple[str, ...] = ()
    dependencies: tuple[str, ...] = ()
    goal: str | None = None


def read_scope(text: str | None, findings: Findings) -> Scope:
    """The meaning of a phase's scope, as far as it has one; the rest becomes findings."""
    if text is None or not text.strip():
        return Scope()
    parsed = _parsed(text, findings)
    if parsed is None:
        return Scope()
    goal = parsed.get("goal")
    return Scope(
        _deliverables(parsed, findings),
        _unique_paths(parsed.get("read_only_context"), "read_only_context", findings),
        _dependencies(parsed.get("dependencies")),
        goal if isinstance(goal, str) else None,
    )


def _parsed(text: str, findings: Findings) -> dict[str, Any] | None:
    if len(text) > PARSED_CHARACTERS_MAX:
        findings.note("phases.scope is too long to be read", f"{len(text)} characters")
        return None
    try:
        parsed: object = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        findings.note("phases.scope is not JSON", text)
        return None
    if _is_object(parsed):
        return parsed
    if parsed is not None:
        kind = "plain text" if isinstance(parsed, str) else "a list or a single value"
        findings.note(f"phases.scope is {kind}, not an object", text)
    return None


def _deliverables(scope: Mapping[str, Any], findings: Findings) -> tuple[Deliverable, ...]:
    found: dict[str, tuple[str, ...]] = {}
    for text, names in _leaves(scope.get("deliverables"), "deliverables", findings):
        path = _path(text, "deliverables", findings)
        if path is not None:
            found.setdefault(path, names)
    _add_stated_names(found, scope.get("must_contain"), findings)
    kept: list[Deliverable] = []
    size_bytes = 0
    for path, names in found.items():
        size_bytes += sum(len(part.encode()) for part in (path, *names))
        if len(kept) == PATHS_MAX or size_bytes > DELIVERABLES_BYTES_MAX:
            findings.note("phases.scope.deliverables is too long, the rest left out", path)
            break
        kept.append(Deliverable(path=path, must_contain=names))
    return tuple(kept)


def _add_stated_names(
    found: dict[str, tuple[str, ...]], stated: object, findings: Findings
) -> None:
    """``must_contain`` beside the deliverables: by path, or a list when there is only one."""
    if stated is None:
        return
    if _is_object(stated):
        for path, names in stated.items():
            if path in found:
                found[path] = _names(names)
    elif len(found) == 1:
        found[next(iter(found))] = _names(stated)
    else:
        findings.note("phases.scope.must_contain does not say of which deliverable", stated)


def _unique_paths(value: object, what: str, findings: Findings) -> tuple[str, ...]:
    found: dict[str, None] = {}
    size_bytes = 0
    for text, _ in _leaves(value, what, findings):
        path = _path(text, what, findings)
        if path is None or path in found:
            continue
        size_bytes += len(path.encode())
        if len(found) == PATHS_MAX or size_bytes > READ_BYTES_MAX:
            findings.note(f"phases.scope.{what} is too long, the rest left out", path)
            break
        found[path] = None
    return tuple(found)


def _leaves(
    value: object, what: str, findings: Findings, depth: int = 0
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each text in a list, in objects with a path, or in an object by kind; with its names."""
    if isinstance(value, str):
        yield value, ()
    elif _is_list(value) and depth < _DEPTH_MAX:
        for item in value:
            yield from _leaves(item, what, findings, depth + 1)
    elif _is_object(value) and depth < _DEPTH_MAX:
        path = next((value[key] for key in _PATH_KEYS if isinstance(value.get(key), str)), None)
        if path is not None:
            yield path, _names(value.get("must_contain"))
            return
        for item in value.values():
            yield from _leaves(item, what, findings, depth + 1)
    elif value is not None:
        findings.note(f"phases.scope.{what} holds something that is no path", value)


def _path(text: str, what: str, findings: Findings) -> str | None:
    noted = _NOTED.fullmatch(text.strip())
    candidate = noted.group(1) if noted else text
    if any(c.isspace() for c in candidate):
        findings.note(f"phases.scope.{what} holds prose, left out", text)
        return None
    try:
        path = checked_path(candidate, what)
    except UsageProblem:
        findings.note(f"phases.scope.{what} holds a path that cannot be used, left out", text)
        return None
    if noted:
        findings.note(f"phases.scope.{what} holds a note behind a path, note left out", text)
    return path


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not _is_list(value):
        return ()
    texts = [item for item in value if isinstance(item, str) and item.isprintable()]
    return tuple(text for text in texts if 0 < len(text.encode()) <= NAME_BYTES_MAX)[:NAMES_MAX]


def _dependencies(value: object) -> tuple[str, ...]:
    """Phase ids, when stated as a list; the object form lists libraries and services."""
    if not _is_list(value):
        return ()
    return tuple(dict.fromkeys(item for item in value[:PATHS_MAX] if isinstance(item, str)))


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
