"""What comes into a log from outside its sessions: who says it, under which id, and if it may."""

from __future__ import annotations

from itertools import combinations

import pytest
from msgspec.structs import replace

from engine.backlog.batch import Registration
from engine.detect.reclassification import Changed
from engine.drain.intake import operating, reclassifying, registering
from engine.errors import UsageProblem
from engine.events import Reclassified, RunRegistered
from engine.store.command import Command, Moment
from engine.triage.operating import ReinstateRun
from tests.rules.standings import BASIS, NOW_US, board

HEAD = Moment(now_us=NOW_US, next_pos=BASIS + 1)
RUN = RunRegistered(run_id="r", origin="test", state="NEW")
GROUP = Registration(key="run/r", stream="run/r", events=(RUN,))
WORD = Reclassified(
    session_id="s", run_id="r", phase_id="p", attempt_id="a", what="fingerprint",
    detector="standard-1", timeouts="run", before=None, after=None, by="me", why="so",
)  # fmt: skip
CHANGED = Changed(pos=5, basis=7, events=(WORD,))
REINSTATED = ReinstateRun(run_id="r", by="me", why="so")


def test_whoever_says_it_is_named_with_its_stream_and_may_have_been_heard_before() -> None:
    found = [
        (each.actor, each.stream, each.is_fresh)
        for each in (registering(GROUP), operating("c", REINSTATED), reclassifying(CHANGED))
    ]
    assert found == [
        ("cli", "run/r", False),
        ("cli", "operator/r", False),
        ("operator", "reclassification", False),
    ]


@pytest.mark.parametrize(
    ("one", "others"),
    [
        (registering(GROUP), [registering(replace(GROUP, key="other"))]),
        (
            reclassifying(CHANGED),
            [
                reclassifying(replace(CHANGED, basis=8)),
                reclassifying(replace(CHANGED, events=(replace(WORD, attempt_id="b"),))),
            ],
        ),
    ],
)
def test_what_is_told_apart_has_ids_of_its_own(one: Command, others: list[Command]) -> None:
    for each, other in combinations([one, *others], 2):
        assert each.command_id != other.command_id


def test_the_same_id_with_other_words_is_another_request() -> None:
    more = replace(GROUP, events=(RUN, replace(RUN, run_id="r2")))
    other = replace(CHANGED, events=(replace(WORD, why="not so"),))
    for one, two in (
        (registering(GROUP), registering(more)),
        (reclassifying(CHANGED), reclassifying(other)),
    ):
        assert one.command_id == two.command_id
        assert one.request != two.request


@pytest.mark.parametrize(
    ("pos", "basis", "attempts", "is_taken"),
    [
        (5, 7, "a", True),
        (7, 7, "aa", True),
        (1, BASIS, "a", True),
        (0, 7, "a", False),
        (8, 7, "a", False),
        (5, BASIS + 1, "a", False),
        (5, 7, "ab", False),
    ],
)
def test_a_word_is_taken_in_of_one_attempt_of_this_log(
    pos: int, basis: int, attempts: str, *, is_taken: bool
) -> None:
    words = tuple(replace(WORD, attempt_id=name) for name in attempts)
    command = reclassifying(Changed(pos=pos, basis=basis, events=words))
    if is_taken:
        drafts = list(command.decide(board(), HEAD))
        assert [(each.event, each.cause) for each in drafts] == [(word, pos) for word in words]
    else:
        with pytest.raises(UsageProblem, match="no attempt of this log"):
            list(command.decide(board(), HEAD))
