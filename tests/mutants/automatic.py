"""Mutants made from the syntax of a file, one small change each.

What is changed: comparisons, numbers, texts, truth values, ``not``, ``and`` and ``or`` with their
operands, conditions, arithmetic, keywords of calls, names that are alike, whole statements and
their order.  Annotations, docstrings and imports mean nothing to a rule and are left alone.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tests.mutants.catalogue import HOME, Mutant

EQUIVALENT = Path(__file__).parent / "equivalent.md"

_COMPARED: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_COMPUTED: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.LShift: ("<<", ">>"),
    ast.BitOr: ("|", "&"),
}
_ALIKE: tuple[tuple[str, ...], ...] = (
    ("opened_us", "last_probe_us"),
    ("opened_pos", "closed_pos"),
    ("part_started_us", "started_us", "last_us"),
    ("attempts", "number", "orphans", "deferrals", "attempts_total"),
    ("spent_tokens", "spent_ms", "spent_attempts", "tokens", "busy_ms", "duration_ms"),
    ("tier_index", "phase_index", "registered_pos"),
    ("state", "state_before", "initial_state", "final_state"),
    ("succeeded", "failed", "timed_out", "abandoned", "orphaned", "deferred"),
    ("fingerprint", "template", "family"),
    ("seen_before", "timeouts_before", "zero_streak_before"),
    ("run_stopped", "fingerprint_stopped", "session_stopping"),
    ("verdict_us", "verdict_pos"),
    ("ending", "last_ending"),
    ("min", "max"),
    ("any", "all"),
    ("stdout", "stderr"),
    ("byte_start", "byte_end"),
    ("start", "end"),
)
_IDS = ("session_id", "run_id", "phase_id", "attempt_id")
_FUNCTIONS = {"min", "max", "any", "all"}


class Edit(NamedTuple):
    """Between two offsets of the source, ``new`` instead."""

    start: int
    end: int
    new: str


class _Source:
    """A file's text, and where its syntax stands in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (HOME / path).read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self._lines = self.text.splitlines(keepends=True)
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """From a line, counted from 1, and a column in UTF-8."""
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

    def start(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.offset(node.lineno, node.col_offset)

    def end(self, node: ast.expr | ast.stmt | ast.keyword) -> int:
        return self.offset(node.end_lineno or 0, node.end_col_offset or 0)

    def of(self, node: ast.expr | ast.stmt | ast.keyword) -> str:
        return self.text[self.start(node) : self.end(node)]

    def line_at(self, offset: int) -> str:
        begin = self.text.rfind("\n", 0, offset) + 1
        return self.text[begin : self.text.find("\n", offset)].strip()


def mutants_of(path: str, tests: tuple[str, ...]) -> list[Mutant]:
    """Every mutant of a file that this module knows to make."""
    source, found = _Source(path), list[Mutant]()
    names: Counter[str] = Counter()
    seen: set[Edit] = set()
    for place, edit in _edits(source):
        old = source.text[edit.start : edit.end]
        if edit in seen or old == edit.new or not _compiles(source, edit):
            continue
        seen.add(edit)
        said = f"{_short(old)} → {_short(edit.new)}"
        name = f"{path} {place}: {source.line_at(edit.start)[:70]} | {said}"
        names[name] += 1
        name += f" #{names[name]}" if names[name] > 1 else ""
        found.append(Mutant(name, path, old, edit.new, tests, edit.start))
    return found


def known_as_equivalent() -> frozenset[str]:
    """The names of mutants that change nothing anybody could see, each with its reason there."""
    text = EQUIVALENT.read_text(encoding="utf-8") if EQUIVALENT.exists() else ""
    return frozenset(re.findall(r"^- ``(.+?)``$", text, re.MULTILINE))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 50 else f"{line[:36]}…{line[-12:]}"


def _compiles(source: _Source, edit: Edit) -> bool:
    text = source.text[: edit.start] + edit.new + source.text[edit.end :]
    try:
        compile(text, source.path, "exec")
    except SyntaxError:
        return False
    return True


def _edits(source: _Source) -> Iterator[tuple[str, Edit]]:
    yield from _within(source, source.tree, "module")


def _within(source: _Source, node: ast.AST, place: str) -> Iterator[tuple[str, Edit]]:
    """The edits of a node and what it holds, each with the function it stands in."""
    for edit in _of_node(source, node):
        yield place, edit
    for child in _children(node):
        inner = place
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            inner = child.name if place == "module" else f"{place}.{child.name}"
        yield from _within(source, child, inner)


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Without annotations, docstrings, imports and the names of types."""
    alone: list[object] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        alone += node.decorator_list
    if isinstance(node, ast.ClassDef):
        alone += [*node.bases, *node.keywords]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cast":
        alone += node.args[:1]
    for child in ast.iter_child_nodes(node):
        if child not in alone and not _means_nothing(child):
            yield child


def _means_nothing(node: ast.AST) -> bool:
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript):
        return isinstance(node.value.value, ast.Name) and node.value.value.id == "Literal"
    return False


def _of_node(source: _Source, node: ast.AST) -> Iterator[Edit]:
    for kind, made in _MAKERS:
        if isinstance(node, kind):
            yield from made(source, node)
    for body in _bodies(node):
        yield from _statements(source, body)


def _unary(source: _Source, node: ast.UnaryOp) -> Iterator[Edit]:
    if isinstance(node.op, ast.Not):
        yield Edit(source.start(node), source.end(node), source.of(node.operand))


def _branch(source: _Source, node: ast.If | ast.IfExp | ast.While) -> Iterator[Edit]:
    yield from _condition(source, node.test)


def _sifted(source: _Source, node: ast.comprehension) -> Iterator[Edit]:
    for condition in node.ifs:
        yield from _condition(source, condition)


def _returned(source: _Source, node: ast.Return) -> Iterator[Edit]:
    if node.value is not None and not isinstance(node.value, ast.Constant):
        yield Edit(source.start(node.value), source.end(node.value), "None")


def _compare(source: _Source, node: ast.Compare) -> Iterator[Edit]:
    left = node.left
    for operator, right in zip(node.ops, node.comparators, strict=True):
        start, end = source.end(left), source.start(right)
        gap = source.text[start:end]
        lead = re.match(r"[\s)]*", gap)
        tail = re.search(r"[\s(]*$", gap)
        assert lead is not None
        assert tail is not None
        for new in _COMPARED[type(operator)]:
            yield Edit(start + lead.end(), start + tail.start(), new)
        left = right


def _operator(source: _Source, node: ast.BinOp) -> Iterator[Edit]:
    known = _COMPUTED.get(type(node.op))
    if known is not None:
        old, new = known
        at = source.text.index(old, source.end(node.left))
        yield Edit(at, at + len(old), new)


def _truth(source: _Source, node: ast.BoolOp) -> Iterator[Edit]:
    word, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
    for left, right in pairwise(node.values):
        gap = source.text[source.end(left) : source.start(right)]
        at = source.end(left) + gap.index(word)
        yield Edit(at, at + len(word), other)
    for value in node.values:
        # The whole without this operand: whatever is neutral stands in its place.
        if isinstance(value, ast.Constant):
            continue
        yield Edit(source.start(value), source.end(value), str(word == "and"))


def _constant(source: _Source, node: ast.Constant) -> Iterator[Edit]:
    value, start, end = node.value, source.start(node), source.end(node)
    if isinstance(value, bool):
        yield Edit(start, end, str(not value))
    elif isinstance(value, float):
        yield Edit(start, end, str(value * 2))
    elif isinstance(value, int):
        yield Edit(start, end, str(value + 1))
        yield Edit(start, end, f"({value - 1})" if value < 1 else str(value - 1))
    elif isinstance(value, str) and end > start:
        text = source.text[start:end]
        opened = re.match(r"[a-zA-Z]*(\"\"\"|'''|\"|')", text)
        if opened is not None:
            yield Edit(start + opened.end(), start + opened.end(), "~")


def _joined(source: _Source, node: ast.JoinedStr) -> Iterator[Edit]:
    """The texts of an f-string; where they stand is not told before Python 3.12."""
    text, start = source.of(node), source.start(node)
    for piece in re.finditer(r"f?\"", text):
        if piece.group() == 'f"':
            yield Edit(start + piece.end(), start + piece.end(), "~")
    for value in node.values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            for word in re.findall(r"[a-z]{3,}", value.value):
                if text.count(word) == 1:
                    at = start + text.index(word)
                    yield Edit(at, at + len(word), word[::-1])


def _condition(source: _Source, test: ast.expr) -> Iterator[Edit]:
    start, end = source.start(test), source.end(test)
    yield Edit(start, end, f"(True or ({source.of(test)}))")
    yield Edit(start, end, f"(False and ({source.of(test)}))")


def _call(source: _Source, node: ast.Call) -> Iterator[Edit]:
    """Without one of its keywords, and with two neighbouring arguments swapped."""
    for keyword in node.keywords:
        if keyword.arg is not None:
            end = source.end(keyword)
            comma = re.match(r"\s*,", source.text[end:])
            yield Edit(source.start(keyword), end + (comma.end() if comma else 0), "")
    if isinstance(node.func, ast.Name) and node.func.id in {"min", "max"}:
        return
    for left, right in pairwise(node.args):
        between = source.text[source.end(left) : source.start(right)]
        swapped = source.of(right) + between + source.of(left)
        yield Edit(source.start(left), source.end(right), swapped)


def _alike(source: _Source, node: ast.Attribute | ast.Name) -> Iterator[Edit]:
    if not isinstance(node.ctx, ast.Load):
        return
    name = node.attr if isinstance(node, ast.Attribute) else node.id
    if isinstance(node, ast.Name) and name not in _FUNCTIONS:
        return
    end = source.end(node)
    others = [other for group in _ALIKE if name in group for other in group if other != name]
    if name in _IDS:
        others = [_IDS[_IDS.index(name) - 1]]
    for other in others:
        yield Edit(end - len(name), end, other)


def _bodies(node: ast.AST) -> Iterator[Sequence[ast.stmt]]:
    if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While):
        yield node.body
        if not isinstance(node, ast.FunctionDef):
            yield node.orelse


def _is_none(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def _statements(source: _Source, body: Sequence[ast.stmt]) -> Iterator[Edit]:
    """Each statement gone, and each two neighbours swapped."""
    told = [each for each in body if not _means_nothing(each)]
    for each in told:
        if each is told[-1] and isinstance(each, ast.Return) and _is_none(each.value):
            continue
        if isinstance(each, ast.Expr | ast.AugAssign | ast.If | ast.For | ast.Return):
            yield Edit(source.start(each), source.end(each), "pass")
    for left, right in pairwise(told):
        if isinstance(left, ast.Expr | ast.If) and isinstance(right, ast.Expr | ast.If):
            between = source.text[source.end(left) : source.start(right)]
            swapped = source.of(right) + between + source.of(left)
            yield Edit(source.start(left), source.end(right), swapped)


_MAKERS: tuple[tuple[type[ast.AST], Callable[[_Source, Any], Iterator[Edit]]], ...] = (
    (ast.Compare, _compare),
    (ast.BinOp, _operator),
    (ast.BoolOp, _truth),
    (ast.UnaryOp, _unary),
    (ast.Constant, _constant),
    (ast.JoinedStr, _joined),
    (ast.If, _branch),
    (ast.IfExp, _branch),
    (ast.While, _branch),
    (ast.comprehension, _sifted),
    (ast.Call, _call),
    (ast.Attribute, _alike),
    (ast.Name, _alike),
    (ast.Return, _returned),
)
