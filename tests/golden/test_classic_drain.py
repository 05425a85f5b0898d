"""The policy ``classic`` at one worker against nine recorded drains of the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.golden.drains import LEGACY, drain, final_of, needs_golden, scenarios

pytestmark = needs_golden


@pytest.mark.parametrize("scenario", scenarios())
async def test_every_decision_is_the_recorded_one(scenario: Any, tmp_path: Path) -> None:
    made = await drain(LEGACY, scenario["rules"], scenario["args"], tmp_path)
    expected = scenario["decisions"]
    asked = [sorted(each) for each in expected]
    found = [
        {key: each.get(key) for key in keys}
        for each, keys in zip(made.decisions, asked, strict=True)
    ]
    assert found == expected
    final = final_of(made.decisions, made.board)
    assert final == {key: scenario["final"][key] for key in final}
