"""Tier one: what machine-readable records in the output say about how the work ended.

A line that is JSON is read as JSON, so that words inside a model's answer are no evidence; in any
other line known keys are looked for with their values, which covers pretty-printed JSON, JSON
inside a string, Python's repr and ``key=value`` logs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Literal, cast

import msgspec

from engine.detect.catalogue import boundary_rules, meanings
from engine.detect.folded import Folded, fold
from engine.detect.tree import Tree
from engine.events.diagnosis import BoundaryKind

Meaning = BoundaryKind | Literal["success"]

_JSON_LINE_CHARS_MAX = 64 * 1024
_DEPTH_MAX = 6
_NODES_MAX = 2000
_ANSWERS = frozenset({"content", "text", "result", "output_text", "arguments", "input", "thinking"})
_MESSAGES = frozenset(
    {"message", "errormessage", "error_message", "detail", "error", "err", "msg", "reason"}
)
_ANSWERS_OF_FAILURES = ("result", "data", "text", "content", "output", "description", "stderr")
_FAILED = frozenset({"error", "fatal", "failed", "failure", "critical", "exception"})


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A key with a telling value, at ``start`` to ``end`` of the folded text.

    ``literal``: found as words in a line that is no JSON.
    """

    meaning: Meaning
    pattern: str
    start: int
    end: int
    literal: bool = False


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """What the records of a stream say, and the stretches that phrases may not be sought in."""

    found: tuple[Found, ...]
    closed: tuple[tuple[int, int], ...]


def read(folded: Folded) -> Records:
    """Every telling record of a stream, in order of place."""
    found: list[Found] = []
    closed: list[tuple[int, int]] = []
    done = 0
    for start, end in _json_lines(folded.text):
        tree = _parsed(folded.raw[start:end])
        if tree is None:
            continue
        found += _literal(folded.text, done, start)
        found += _of_tree(folded.text, start, end, tree)
        closed += _closed_parts(folded.text, start, end, tree)
        done = end
    found += _literal(folded.text, done, len(folded.text))
    return Records(found=tuple(found), closed=tuple(closed))


def _json_lines(text: str) -> Iterator[tuple[int, int]]:
    for line in re.finditer(r"^[ \t]{0,40}(?:data: ?)?(\{[^\n]*)$", text, re.MULTILINE):
        if line.end() - line.start(1) <= _JSON_LINE_CHARS_MAX:
            yield line.start(1), line.end()


def _parsed(line: str) -> Tree:
    try:
        return cast("Tree", msgspec.json.decode(line.strip().encode("utf-8", "replace")))
    except (msgspec.MsgspecError, RecursionError):
        return None


def _literal(text: str, start: int, end: int) -> Iterator[Found]:
    known = meanings()
    for hit in _pairs().finditer(text, start, end):
        meaning = known.get((hit["key"], hit["value"]))
        if meaning is not None:
            pattern = f"{hit['key']}={hit['value']}"
            yield Found(
                meaning=meaning, pattern=pattern, start=hit.start(), end=hit.end(), literal=True
            )


@cache
def _pairs() -> re.Pattern[str]:
    keys = sorted({key.lower() for record in boundary_rules().record for key in record.keys})
    quote = r"\\{0,3}[\"']?"
    return re.compile(
        rf"(?<![a-z_])(?P<key>{'|'.join(keys)}){quote}\s{{0,8}}[:=]\s{{0,8}}{quote}"
        rf"(?P<value>[a-z_]{{2,60}})(?![a-z_(.])"
    )


def _of_tree(text: str, start: int, end: int, tree: Tree) -> Iterator[Found]:
    known = meanings()
    for key, value in _strings(tree):
        meaning = known.get((key.lower(), value.lower()))
        if meaning is None or (meaning == "success" and _is_error(tree)):
            continue
        first, last = _place_of(value.lower(), text, start, end)
        yield Found(
            meaning=meaning, pattern=f"{key.lower()}={value.lower()}", start=first, end=last
        )


def _place_of(value: str, text: str, start: int, end: int) -> tuple[int, int]:
    """Where a value stands in its line: as a whole string, else anywhere, else the whole line."""
    place = text.find(f'"{value}"', start, end)
    if place >= 0:
        return place + 1, place + 1 + len(value)
    place = text.find(value, start, end)
    return (place, place + len(value)) if place >= 0 else (start, end)


def _strings(tree: Tree) -> Iterator[tuple[str, str]]:
    """Every (key, text) of a tree in its order, but nothing of what a model answered."""
    waiting: list[tuple[int, str, Tree]] = [(0, "", tree)]
    if isinstance(tree, dict) and (_is_error(tree) or _is_failure(tree)):
        # An agent that failed puts the provider's words where its answer would stand.
        waiting += [(0, "message", tree.get(key)) for key in _ANSWERS_OF_FAILURES]
    for _ in range(_NODES_MAX):
        if not waiting:
            return
        depth, key, value = waiting.pop()
        match value:
            case str():
                yield key, value
                if key.lower() in _MESSAGES and depth < _DEPTH_MAX:
                    waiting.append((depth + 1, key, _nested(value)))
            case dict() if depth < _DEPTH_MAX:
                inner = value.items()
                waiting += [
                    (depth + 1, *pair) for pair in reversed(inner) if pair[0] not in _ANSWERS
                ]
            case list() if depth < _DEPTH_MAX:
                parts = value[:_NODES_MAX]
                waiting += [(depth + 1, key, part) for part in reversed(parts)]
            case _:
                pass


def _nested(message: str) -> Tree:
    """The record that a message quotes, or None."""
    start, end = message.find("{"), message.rfind("}")
    return _parsed(message[start : end + 1]) if 0 <= start < end else None


def _is_error(tree: Tree) -> bool:
    return isinstance(tree, dict) and tree.get("is_error") is True


def _is_failure(tree: dict[str, Tree]) -> bool:
    said = (tree.get(key) for key in ("type", "level", "status", "event", "severity"))
    return any(isinstance(value, str) and value.lower() in _FAILED for value in said)


def _closed_parts(text: str, start: int, end: int, tree: Tree) -> Iterator[tuple[int, int]]:
    """All of a JSON line but its error messages, which phrases may be sought in."""
    open_parts: list[tuple[int, int]] = []
    for key, value in _strings(tree):
        if key.lower() in _MESSAGES:
            # Some write every character beyond ASCII as an escape, some as it is.
            for written in (msgspec.json.encode(value).decode(), json.dumps(value)):
                piece = fold(written[1:-1])
                place = text.find(piece, start, end) if piece else -1
                if place >= 0:
                    open_parts.append((place, place + len(piece)))
                    break
    for first, last in sorted(open_parts):
        if first > start:
            yield start, first
        start = max(start, last)
    yield start, end
