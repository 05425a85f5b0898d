"""``--at``: every command that reads a board shows what it would have shown then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from engine.backlog.sample import write_sample
from engine.cli.main import runoff as tree
from engine.cli.moment import Moment, moment
from engine.errors import UsageProblem, WrongDatabase
from engine.events import Record
from engine.iso_time import iso
from engine.store.database import open_reader, open_writer
from engine.store.location import locate
from engine.store.protocol import Query
from tests.program import runoff

RUN = "telemetry-collection-v4"
PHASE = "telemetry-p1-string-util"
OTHER_NOUNS = (
    ("phase", "list"),
    ("session", "list"),
    ("attempt", "list"),
    ("run", "show", f"{RUN}-r2"),
    ("phase", "show", RUN, PHASE),
    ("why", f"{RUN}-r2"),
    ("why",),
    ("breaker", "list"),
    ("account", "list"),
    ("replay",),
    ("identity",),
    ("whatif", "--policy", "classic", "--simulate"),
)
BY_THE_CLOCK = {("why", f"{RUN}-r2"), ("why",)}
"""What speaks of times to come goes by the clock, and with ``--at`` by the last event."""


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drained")
    rules = [{"run": "*-r2", "state": "FAILED", "rc": 1, "reason": "boom"}, {"events": 1}]
    (folder / "script.json").write_text(json.dumps(rules))
    assert runoff(folder, "seed", "--repeat", "2").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "4")
    assert runoff(folder, *drain).returncode in (0, 4)
    return folder


@pytest.fixture(scope="module")
def records(drained: Path) -> list[dict[str, Any]]:
    shown = runoff(drained, "log", "show", "--after", "0", "--limit", "1000", "--json").stdout
    return [json.loads(line) for line in shown.splitlines()]


def invoked(database: Path, *arguments: str) -> Result:
    """A command that reads, in this process, because there are many."""
    return CliRunner().invoke(tree, [*arguments, "--database", f"sqlite:///{database}"])


def told(database: Path, *arguments: str) -> Any:
    """What a command prints as JSON, or the problem it has with the request."""
    found = invoked(database, *arguments, "--allow-empty-db", "--json")
    if isinstance(found.exception, UsageProblem):
        return found.exception.problem
    assert found.exit_code == 0, found.output
    return json.loads(found.stdout)


async def prefixes(drained: Path, database: Path) -> list[Record]:
    """An empty log at ``database`` and the records to be put there one by one."""
    await (await open_writer(locate(f"sqlite:///{database}"), create=True)).close()
    reader = await open_reader(locate(f"sqlite:///{drained}/b.db"))
    found = await reader.records(Query())
    await reader.close()
    return found


async def put(database: Path, record: Record) -> None:
    store = await open_writer(locate(f"sqlite:///{database}"), create=False)
    async with store.transaction() as transaction:
        await transaction.append([record])
    await store.close()


def same_log(shown: Any) -> Any:
    """Without what says which file it was read from."""
    if not isinstance(shown, dict):
        return shown
    named = cast("dict[str, Any]", shown)
    return {name: named[name] for name in named if name not in ("url", "file", "modified")}


def test_as_of_every_position_it_shows_what_it_showed_when_the_log_ended_there(
    drained: Path, tmp_path: Path
) -> None:
    import anyio  # noqa: PLC0415  commands start event loops of their own

    cut = tmp_path / "cut.db"
    whole = drained / "b.db"
    for record in anyio.run(prefixes, drained, cut):
        anyio.run(put, cut, record)
        then: tuple[str, ...] = ("--at", str(record.pos))
        assert told(whole, "run", "list", *then) == told(cut, "run", "list")
        noun: tuple[str, ...] = OTHER_NOUNS[record.pos % len(OTHER_NOUNS)]
        also = then if noun in BY_THE_CLOCK else ()
        assert same_log(told(whole, *noun, *then)) == same_log(told(cut, *noun, *also)), noun
    for noun in set(OTHER_NOUNS) - BY_THE_CLOCK:
        assert same_log(told(whole, *noun)) == same_log(told(cut, *noun))


def test_an_attempt_is_open_as_of_a_time_before_its_end(
    drained: Path, records: list[dict[str, Any]]
) -> None:
    end = next(record for record in records if record["type"] == "attempt.finished")
    at = str(end["pos"] - 1)
    rows = told(drained / "b.db", "attempt", "list", "--at", at)
    (row,) = [row for row in rows if row["attempt_id"] == end["attempt"]]
    assert (row["ending"], row["finished_pos"]) == (None, None)
    shown = told(drained / "b.db", "attempt", "show", end["attempt"], "--at", at)
    assert "attempt.finished" not in {event["type"] for event in shown}


def test_a_session_is_unknown_before_it_began(drained: Path, records: list[dict[str, Any]]) -> None:
    began = next(record for record in records if record["session"])
    command = ("session", "show", began["session"], "--at")
    assert told(drained / "b.db", *command, str(began["pos"]))["status"] == "running"
    assert "there is no session" in told(drained / "b.db", *command, str(began["pos"] - 1))


def gaps(records: list[dict[str, Any]]) -> Iterator[tuple[int, str]]:
    """Every position that is followed by later time, and a time in between."""
    for earlier, later in pairwise(records):
        if earlier["recorded_us"] < later["recorded_us"]:
            yield earlier["pos"], iso((earlier["recorded_us"] + later["recorded_us"]) // 2)


def test_a_time_between_two_events_means_the_earlier_one(
    drained: Path, records: list[dict[str, Any]]
) -> None:
    found = list(gaps(records))
    assert found
    for pos, time in found:
        for spelling in (time, time.removesuffix("Z"), time.replace("Z", "+00:00")):
            shown = told(drained / "b.db", "identity", "--at", spelling)
            assert (shown["head"], shown["digest"]) == (pos, records[pos - 1]["hash"])


def test_the_banner_names_the_moment_and_its_time_leads_back_there(
    drained: Path, records: list[dict[str, Any]]
) -> None:
    pos, _ = next(gaps(records))
    found = runoff(drained, "run", "list", "--at", str(pos))
    time = iso(records[pos - 1]["recorded_us"])
    assert f"as of position {pos} ({time})\n" in found.stderr
    assert f"head {len(records)} " in found.stderr
    again = runoff(drained, "run", "list", "--at", time)
    assert again.stdout == found.stdout
    assert "as of" not in runoff(drained, "run", "list").stderr


@pytest.mark.parametrize("at", ["0", "-5m", "-1d", "1999-12-31", "0001-01-01T00:00+23:59"])
def test_before_the_first_event_nothing_was_there_and_the_guardrail_looks_at_today(
    drained: Path, at: str
) -> None:
    found = invoked(drained / "b.db", "run", "list", "--json", "--at", at)
    assert (found.exit_code, json.loads(found.stdout)) == (0, [])
    assert "as of position 0 (before the first event)" in found.stderr
    assert "there is no run" in told(drained / "b.db", "run", "show", RUN, "--at", at)


@pytest.mark.parametrize("at", ["-0s", "2999-01-01", "9999-12-31T23:59:59.999999-23:59"])
def test_a_time_beyond_the_last_event_means_now(drained: Path, at: str) -> None:
    assert told(drained / "b.db", "run", "list", "--at", at) == told(
        drained / "b.db", "run", "list"
    )


async def test_an_empty_log_is_refused_as_of_any_moment(tmp_path: Path) -> None:
    await (await open_writer(locate(f"sqlite:///{tmp_path}/b.db"), create=True)).close()
    for noun in (("run", "list"), ("identity",), ("replay",)):
        refused = runoff(tmp_path, *noun, "--at", "-5m")
        assert (refused.returncode, refused.stdout) == (WrongDatabase.exit_code, "")
    allowed = runoff(tmp_path, "run", "list", "--at", "-5m", "--allow-empty-db", "--json")
    assert (allowed.returncode, json.loads(allowed.stdout)) == (0, [])


@pytest.mark.parametrize(
    "at",
    [
        "", " ", "x", "-5", "-m", "-5y", "- 5m", "1.5", "1e3", "+3", "٣", "0x10", "2026-13-01",
        "2026-11-26T25:00", "2026-11-26T03:00:00Q", "-99999999999m", "\x1b[31m", "7" * 500,
        "\udce4", "2026-11-26" * 50, "--5m", "@3", "head",
    ],
)  # fmt: skip
def test_what_is_no_moment_is_one_clear_line(at: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        moment(at)
    assert refused.value.problem.isascii()
    assert refused.value.problem.isprintable()
    assert len(refused.value.problem) < 500
    assert "\n" not in refused.value.remedy


@pytest.mark.parametrize("at", ["nonsense", "99999", "9" * 40, "-5"])
@pytest.mark.parametrize("noun", [("run", "list"), ("why", RUN), ("replay",), ("identity",)])
def test_a_moment_that_cannot_be_meant_is_refused(
    drained: Path, noun: tuple[str, ...], at: str
) -> None:
    refused = invoked(drained / "b.db", *noun, "--at", at)
    assert isinstance(refused.exception, UsageProblem)
    assert refused.stdout == ""


def test_a_position_beyond_the_head_names_the_head(
    drained: Path, records: list[dict[str, Any]]
) -> None:
    refused = runoff(drained, "run", "list", "--at", str(len(records) + 1))
    assert refused.returncode == 2
    assert f"the log ends at position {len(records)}." in refused.stderr
    assert runoff(drained, "run", "list", "--at", str(len(records))).returncode == 0


def test_moments_are_read_to_the_microsecond_and_in_any_zone() -> None:
    noon_us = 1_795_694_400_000_000
    assert moment("120") == Moment(pos=120)
    for text in ("2026-11-26T12:00:00Z", "2026-11-26T12:00", "2026-11-26 13:00+01:00"):
        assert moment(text) == Moment(at_us=noon_us)
    assert moment("2026-11-26") == Moment(at_us=noon_us - 12 * 3600 * 1_000_000)
    assert moment(iso(noon_us + 1)) == Moment(at_us=noon_us + 1)


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("-90s", timedelta(seconds=90)),
        ("-15m", timedelta(minutes=15)),
        ("-2h", timedelta(hours=2)),
        ("-1d", timedelta(days=1)),
    ],
)
def test_a_time_ago_counts_from_now(text: str, ago: timedelta) -> None:
    before = datetime.now(UTC) - ago
    at_us = moment(text).at_us
    assert at_us is not None
    found = datetime.fromtimestamp(at_us / 1e6, UTC)
    assert before - timedelta(seconds=1) < found < datetime.now(UTC) - ago + timedelta(seconds=1)


def test_the_log_may_be_listed_up_to_a_moment(drained: Path, records: list[dict[str, Any]]) -> None:
    def positions(*arguments: str) -> list[int]:
        lines = invoked(drained / "b.db", "log", "show", *arguments, "--json").stdout.splitlines()
        return [json.loads(line)["pos"] for line in lines]

    assert positions("--until", "9", "--limit", "3") == [7, 8, 9]
    assert positions("--until", "9", "--after", "6") == [7, 8, 9]
    assert positions("--until", "9", "--raw", "--limit", "1") == [9]
    assert positions("--until", "-1d") == []
    pos, time = next(gaps(records))
    assert positions("--until", time, "--limit", "1") == [pos]
    for wrong in (("--until", "9", "--follow"), ("--until", "9", "--at", "3"), ("--until", "999")):
        assert isinstance(told(drained / "b.db", "log", "show", *wrong), str)


def test_reading_as_of_a_moment_changes_no_byte(drained: Path) -> None:
    before = {path.name: path.read_bytes() for path in drained.glob("b.db*") if path.is_file()}
    for noun in (("run", "list"), ("log", "show", "--until", "5"), *OTHER_NOUNS):
        at = () if "--until" in noun else ("--at", "20")
        assert invoked(drained / "b.db", *noun, *at).exit_code == 0
    after = {path.name: path.read_bytes() for path in drained.glob("b.db*") if path.is_file()}
    assert after["b.db"] == before["b.db"]
    assert after.get("b.db-wal", b"") == before.get("b.db-wal", b"")


def test_an_imported_log_has_its_moments_too(tmp_path: Path) -> None:
    write_sample(tmp_path / "old.db")
    assert runoff(tmp_path, "import", "old.db").returncode == 0
    whole = told(tmp_path / "b.db", "phase", "list")
    assert whole
    head = told(tmp_path / "b.db", "identity")["head"]
    assert told(tmp_path / "b.db", "phase", "list", "--at", str(head)) == whole
    assert told(tmp_path / "b.db", "phase", "list", "--at", "-1h") == []
