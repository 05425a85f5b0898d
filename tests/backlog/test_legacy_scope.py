"""Legacy import: scopes that lie at the edge of what can be read at all."""

from __future__ import annotations

import sys

from engine.backlog.findings import Findings
from engine.backlog.legacy_scope import read_scope


def test_a_scope_is_read_or_told_however_deep_it_is_nested() -> None:
    # What can just be parsed may be too deep to be shown; where that is depends on the stack.
    for depth in range(1, sys.getrecursionlimit() + 20):
        findings = Findings()
        scope = read_scope(f'{{"deliverables": {"[" * depth}7{"]" * depth}}}', findings)
        assert scope.deliverables == ()
        (told,) = findings.listed()
        assert told.what.startswith("phases.scope")
        assert told.example
