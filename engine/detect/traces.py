"""Exceptions and records: what languages and loggers print when something fails.

Only the line that names the exception is taken, with what goes on with its message.  Frames say
where, which changes with every edit, so they are never part of a failure's identity.
"""

from __future__ import annotations

import re
from typing import cast

import msgspec

from engine.detect.fingerprint_rules import exceptions
from engine.detect.tree import Tree

_CONTINUATIONS_MAX = 3
_HEAD_LINES_MAX = 10
_MESSAGE_CHARS_MAX = 2000
_FRAME = re.compile(r"\s+at \S|\s+\.\.\. \d+ more|\s+from \S+:\d|\s+File \"")
_RUST_PANIC = re.compile(r"thread '[^'\n]{0,200}'(?: \(\d+\))? panicked at ")
_RUST_OLD = re.compile(r"thread '[^'\n]{0,200}' panicked at '(.{0,2000})', \S{1,300}:\d+:\d+$")
_GROUP = re.compile(r"[ ]{0,40}(?:[|+][ -]{0,40}){1,10}")
_RAILS = " |+-"
_NAMED = re.compile(r"[\w.$]{0,200}(?:Error|Exception)\b(?: \[\w{1,60}\])?: ")
_VALIDATION = re.compile(r"\d{1,6} validation errors? for ")
_LOGFMT = re.compile(r"\b(msg|message|error|err|reason)=\"((?:[^\"\\]|\\.){1,1000})\"")
_HINTS = ("rror", "xcept", "raceback", "panic", "    at ", "\tat ", "Exit", "nterrupt", "imeout")
_MORE_HINTS = ("xpired", "ailure", "ault", "NotFound", "Group", "efused", "ancelled", "(")


def record(lines: list[str]) -> str | None:
    """What a structured record says, when all of a text is one line of JSON or logfmt."""
    told = [line for line in lines if line.strip()]
    if len(told) != 1:
        return None
    line = told[0].strip()
    if line.startswith("{") and line.endswith("}"):
        try:
            return _of_tree(cast("Tree", msgspec.json.decode(line.encode("utf-8", "replace"))))
        except (msgspec.MsgspecError, RecursionError):
            return None
    pairs = dict(_LOGFMT.findall(line)) if "level=" in line else {}
    said = [pairs[key] for key in ("msg", "message", "error", "err", "reason") if key in pairs]
    return ": ".join(said) or None


def _of_tree(tree: Tree) -> str | None:
    """The code and the message of an error record, however deep its error object stands."""
    if not isinstance(tree, dict):
        return None
    inner = tree.get("error") or tree.get("err") or tree.get("exception")
    found = _of_tree(inner) if isinstance(inner, dict) else None
    if found is not None:
        return found
    message = _first(tree, "message", "msg", "detail", "error_description", "title", "event")
    detail = inner if isinstance(inner, str) else None
    code = _first(tree, "code", "type", "name", "status", "statusCode", "error_code")
    said = [part for part in (code, message, detail) if part]
    return ": ".join(said) if message or detail else None


def _first(tree: dict[str, Tree], *keys: str) -> str | None:
    for key in keys:
        value = tree.get(key)
        if isinstance(value, str):
            return value[:_MESSAGE_CHARS_MAX]
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{key} {value}"
    return None


def last_exception(raw: list[str], lines: list[str]) -> str | None:
    """The last exception's line of ``lines``, with what goes on with its message.

    ``raw`` are the same lines before loggers' headers were cut off.
    """
    found: int | None = None
    in_python = False
    for number, line in enumerate(lines):
        if in_python and line and not line[0].isspace():
            in_python, found = _is_header(line), number
        elif _is_header(line):
            in_python = True
        elif (named := _named_at(raw, lines, number)) is not None:
            found = named
    return None if found is None else _told(lines, found)


def _is_header(line: str) -> bool:
    return "Traceback (most recent call last)" in line


def _named_at(raw: list[str], lines: list[str], number: int) -> int | None:
    """The line that names an exception, when line ``number`` is or leads to one."""
    line = lines[number]
    if not any(hint in line for hint in _HINTS) and not any(hint in line for hint in _MORE_HINTS):
        return None
    if _FRAME.match(line):
        return _head_of_frames(raw, lines, number)
    if _RUST_PANIC.match(line):
        return number
    start = _start_of(line)
    return number if any(shape.match(line, start) for shape in exceptions()) else None


def _start_of(line: str) -> int:
    """Where a line begins behind the rails of an exception group."""
    rails = _GROUP.match(line) if line[:40].lstrip()[:1] in ("|", "+") else None
    return rails.end() if rails else len(line) - len(line.lstrip(" "))


def _head_of_frames(raw: list[str], lines: list[str], number: int) -> int | None:
    """The line that the first of a block of frames stands under, when it names an exception."""
    if number and _FRAME.match(lines[number - 1]):
        return None
    for above in range(number - 1, max(-1, number - _HEAD_LINES_MAX), -1):
        if _NAMED.search(raw[above]) and not _FRAME.match(lines[above]):
            return above
    return None


def _told(lines: list[str], start: int) -> str:
    line = lines[start][_start_of(lines[start]) :]
    for shape in exceptions():
        found = shape.match(line)
        if found and found.groupdict().get("message") is not None:
            return f"{found['type']}: {found['message']}"
        if found and found.groupdict().get("type") is not None:
            line = line[found.start("type") :]
            break
    if _RUST_PANIC.match(line):
        old = _RUST_OLD.match(line)
        return f"panic: {old[1] if old else ''.join(lines[start + 1 : start + 2])}"
    kept = [line]
    keeps_on = 2 if _VALIDATION.search(line) else 0
    for more in lines[start + 1 : start + 1 + _CONTINUATIONS_MAX]:
        goes_on = more[:1].isspace() or keeps_on > 0
        if not more.strip(_RAILS) or not goes_on or _FRAME.match(more):
            break
        keeps_on -= 1
        kept.append(more)
    return "\n".join(kept)
