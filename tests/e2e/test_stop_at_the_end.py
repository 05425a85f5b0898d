"""A drain that has run all it will, and is told to end while its server is away."""

from __future__ import annotations

import signal
from collections.abc import Generator
from pathlib import Path

import anyio
import pytest

from tests.between import standing_beside
from tests.e2e.test_forgotten_link import Place, ended_within
from tests.servers import Server


@pytest.fixture
def place(postgres: Server, tmp_path: Path) -> Generator[Place, None, None]:
    url = anyio.run(postgres.fresh)
    with standing_beside(postgres.port) as way:
        place = Place(tmp_path, url, way)
        place.run("seed", "--repeat", "3")
        yield place


@pytest.mark.parametrize("word", [b"session.ended", b"AND session = $1"], ids=["end", "summary"])
def test_one_signal_ends_a_drain_that_has_only_words_left(place: Place, word: bytes) -> None:
    """Its last word in the log, or its summary, waits for the server; it is told to end then."""
    with place.engine("drain") as process:
        place.way.cut_next(word, carried=False)
        place.go.touch()
        place.way.is_cut()
        process.send_signal(signal.SIGTERM)
        code, said = ended_within(process, 0.0)
    assert code == 74, said
    assert "cannot be reached" in said
    assert set(place.ends().values()) == {1}
    again = place.run("drain", "--resume", "--", "true")
    assert again.returncode in (0, 4), again.stderr
    assert place.is_sound()
