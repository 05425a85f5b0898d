"""What a what-if cannot know since it was attempted in another order, or at another time."""

from __future__ import annotations

from msgspec.structs import replace

from engine.audit.lines import commands
from engine.events import AttemptFinished, AttemptStarted, Reason
from engine.executors.scripted import Rule
from tests.audit.test_whatif_really import DEFAULT
from tests.audit.whatif_drains import (
    Drained,
    Run,
    drained,
    fails,
    held_against,
    horizons,
    succeeds,
    times_out,
)

LIMITED = Rule(rc=1, stderr="429 rate limit exceeded", sleep=1.0)


def decisions(log: Drained, run_id: str, phase_id: str) -> list[int]:
    """How many decisions were taken at each end of a phase."""
    return [
        sum(isinstance(getattr(line.event, "reason", None), Reason) for line in lines)
        for lines in commands(log.lines)
        for end in (line.event for line in lines)
        if isinstance(end, AttemptFinished) and (end.run_id, end.phase_id) == (run_id, phase_id)
    ]


def starts(log: Drained) -> list[int]:
    return [line.pos for line in log.lines if isinstance(line.event, AttemptStarted)]


async def test_whether_a_limit_is_met_in_a_longer_pause_or_behind_it_is_unknown() -> None:
    """The second attempt waits for the longer pause to end, and its limit begins another one."""
    runs = [Run("r", "free", [[LIMITED, LIMITED, succeeds()]])]
    other = replace(DEFAULT, provider_pause_ms=600_000)
    recorded, really = await drained(runs, DEFAULT), await drained(runs, other)
    assert decisions(really, "r", "p0") == [2, 2, 2]
    assert horizons(held_against(recorded, other)) == {"r": starts(recorded)[1]}


async def test_what_failed_first_out_of_turn_may_have_failed_second() -> None:
    """Where a limit counts as a failure, b is sampled before a is attempted again."""
    alike = fails("alike")
    runs = [Run("a", "free", [[LIMITED, alike, succeeds()]]), Run("b", "free", [[alike]])]
    one = replace(DEFAULT, fingerprint_repeats_max=2)
    other = replace(one, provider_pause_ms=None)
    recorded, really = await drained(runs, one), await drained(runs, other)
    assert decisions(really, "a", "p0") == [1, 2], "the second is the last"
    ends = [line.pos for line in recorded.lines if isinstance(line.event, AttemptFinished)]
    assert horizons(held_against(recorded, other)) == {"a": starts(recorded)[1], "b": ends[2]}


async def test_a_run_that_another_phase_would_have_sampled_is_unknown() -> None:
    """Out of order its second phase goes first, because the first one had timed out of old."""
    came = {"p0": "timeout"}
    runs = [Run("r", "strict", [[succeeds()], [fails("odd failure"), succeeds()]], came)]
    other = replace(DEFAULT, order_phases=False)
    recorded, really = await drained(runs, DEFAULT), await drained(runs, other)
    assert [decisions(recorded, "r", phase) for phase in ("p0", "p1")] == [[1], [0, 0]]
    assert [decisions(really, "r", phase) for phase in ("p0", "p1")] == [[0], [1, 0]]
    assert horizons(held_against(recorded, other)) == {"r": starts(recorded)[0]}


async def test_a_run_that_is_stopped_out_of_turn_is_unknown_whatever_it_was_stopped_by() -> None:
    """Its first timeout would have come behind its other phase, and that one behind another run."""
    runs = [
        Run("q", "strict", [[fails("odd failure", 7), succeeds()], [succeeds()]]),
        Run("r", "strict", [[fails("ImportError", 7), times_out(), succeeds()], [succeeds()]]),
    ]
    one = replace(DEFAULT, attempts_per_phase_max=3, timeouts_per_run_max=None)
    other = replace(one, timeouts_per_run_max=1, order_phases=False)
    recorded, really = await drained(runs, one), await drained(runs, other)
    assert decisions(really, "r", "p1") == [0]
    assert horizons(held_against(recorded, other)) == {"r": starts(recorded)[2]}


async def test_behind_a_shorter_pause_what_ends_beside_another_attempt_may_end_before_it() -> None:
    """The pause of a ends while b is under way: by the other policy soon enough to fail first."""
    late, later = (replace(fails("alike"), sleep=sleep_s) for sleep_s in (400.0, 800.0))
    runs = [Run("a", "free", [[LIMITED, late, succeeds()]]), Run("b", "free", [[later]])]
    one = replace(DEFAULT, provider_pause_ms=600_000, attempts_per_phase_max=1)
    other = replace(one, provider_pause_ms=5000)
    recorded, really = await drained(runs, one, workers=2), await drained(runs, other, workers=2)
    assert [run_of(log)[-1] for log in (recorded, really)] == ["a", "b"]
    ends = [line.pos for line in recorded.lines if isinstance(line.event, AttemptFinished)]
    assert horizons(held_against(recorded, other)) == {"b": ends[1], "a": ends[2]}


async def test_who_would_have_gone_first_is_unknown_where_what_is_decided_is_over_all_runs() -> (
    None
):
    """At a's second end alike, which the other policy counts, b would have been sampled."""
    runs = [
        Run("a", "free", [[LIMITED, LIMITED, succeeds()]]),
        Run("b", "free", [[succeeds()]]),
    ]
    one = replace(DEFAULT, fingerprint_repeats_max=2)
    other = replace(one, provider_pause_ms=None)
    recorded, really = await drained(runs, one), await drained(runs, other)
    assert (run_of(recorded), run_of(really)) == ([*"aaab"], [*"aba"])
    second = starts(recorded)[1]
    assert horizons(held_against(recorded, other)) == {"a": second, "b": second}


async def test_what_failed_beside_a_run_that_was_shifted_may_have_failed_behind_it() -> None:
    """Without the pause a is done before b has failed once; in the record it fails behind that."""
    odd, other_thing = fails("odd failure"), fails("other thing broke")
    runs = [
        Run("a", "free", [[LIMITED, replace(odd, sleep=300.0)]]),
        Run("b", "free", [[replace(other_thing, sleep=700.0), replace(odd, sleep=300.0)]]),
    ]
    other = replace(DEFAULT, provider_pause_ms=None)
    recorded, really = [await drained(runs, each, workers=2) for each in (DEFAULT, other)]
    assert (run_of(recorded), run_of(really)) == ([*"aaabb"], [*"aabb"])
    ends = [line.pos for line in recorded.lines if isinstance(line.event, AttemptFinished)]
    assert horizons(held_against(recorded, other)) == {"a": starts(recorded)[2], "b": ends[3]}


def run_of(log: Drained) -> list[str]:
    """Whose attempts ended, in that order."""
    return [line.event.run_id for line in log.lines if isinstance(line.event, AttemptFinished)]
