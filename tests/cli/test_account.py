"""``runoff account``: which accounts rest, until when, and how to end that."""

from __future__ import annotations

import getpass
import json
import os
from pathlib import Path
from typing import Any

import pytest

from engine.cli.operating import your_name
from engine.errors import UsageProblem
from tests.program import runoff

LIMIT = {"rc": 1, "stderr": "429 rate limit exceeded. Please try again in 20s."}
DRAIN = ("drain", "--script", "script.json", "--virtual-time", "--workers", "1")


def paused(folder: Path, *more: str) -> Path:
    """One attempt that meets a limit, and then the session is over."""
    (folder / "script.json").write_text(json.dumps([LIMIT]))
    assert runoff(folder, "seed").returncode == 0
    ended = runoff(folder, *DRAIN, "--batch-size", "1", *more)
    assert ended.returncode == 4, ended.stderr
    return folder


def shown(folder: Path, *arguments: str) -> Any:
    found = runoff(folder, *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_a_paused_account_is_listed_with_its_end_and_who_named_it(tmp_path: Path) -> None:
    paused(tmp_path, "--account", "team-a")
    (found,) = shown(tmp_path, "account")
    assert (found["account"], found["kind"]) == ("team-a", "rate_limit")
    assert (found["stated"], found["consecutive"], found["pauses"]) == (True, 1, 1)
    (at_once,) = shown(tmp_path, "account", "list", "--at", str(found["pos"]))
    assert (at_once["state"], at_once["until_us"] - at_once["now_us"]) == ("paused", 20_000_000)
    assert shown(tmp_path, "account", "list", "--at", str(found["pos"] - 1)) == []
    words = runoff(tmp_path, "account", "list", "--at", str(found["pos"])).stdout
    assert "paused" in words
    assert "by the provider" in words


def test_why_says_until_when_the_account_is_paused_and_resuming_it_ends_that(
    tmp_path: Path,
) -> None:
    paused(tmp_path, "--account", "team-a")
    phase = ("why", "telemetry-collection-v4", "telemetry-p1-string-util")
    pos = shown(tmp_path, "account")[0]["pos"]
    then = shown(tmp_path, *phase, "--at", str(pos))
    (pause,) = [h for h in then["hindrances"] if h["of"] == "account"]
    assert (pause["kind"], pause["id"], pause["pos"]) == ("account_paused", "team-a", pos)
    assert pause["until_us"] == then["now_us"] + 20_000_000
    assert "as the provider said" in pause["text"]
    assert "runoff account resume team-a --why TEXT" in pause["change"]
    assert any(fact["type"] == "triage.attempt_deferred" for fact in then["facts"])
    assert (
        "account team-a met its rate_limit" in shown(tmp_path, "why", "--at", str(pos))["sentence"]
    )
    said = runoff(tmp_path, "account", "resume", "team-a", "--why", "new plan", "--json")
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["account"] == "team-a"
    (found,) = shown(tmp_path, "account")
    assert (found["state"], found["until_us"], found["consecutive"]) == ("free", 0, 0)
    assert shown(tmp_path, *phase)["new_session"] == []
    assert runoff(tmp_path, "audit").returncode == 0


def test_the_account_is_the_executors_unless_one_is_named(tmp_path: Path) -> None:
    paused(tmp_path)
    assert [each["account"] for each in shown(tmp_path, "account")] == ["scripted"]


def test_only_a_paused_account_can_be_resumed(tmp_path: Path) -> None:
    paused(tmp_path)
    resume = ("account", "resume", "scripted", "--why", "x")
    assert runoff(tmp_path, *resume).returncode == 0
    refused = runoff(tmp_path, *resume)
    assert refused.returncode == UsageProblem.exit_code
    assert "the account 'scripted' is not paused" in refused.stderr


@pytest.mark.parametrize("error", [KeyError("uid not found"), OSError("no username set")])
def test_a_user_whom_the_system_has_no_name_for_speaks_by_number(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def unknown() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", unknown)
    assert your_name() == f"uid {os.getuid()}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("nope", "--why", "x"), "the account 'nope' never met a limit"),
        (("nope", "--why", ""), "--why is empty"),
        (("nope", "--why", "x", "--by", "\udce4"), "not valid Unicode"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], text: str
) -> None:
    assert runoff(tmp_path, "seed").returncode == 0
    refused = runoff(tmp_path, "account", "resume", *arguments)
    assert refused.returncode == UsageProblem.exit_code
    assert text in refused.stderr
    assert "Traceback" not in refused.stderr
