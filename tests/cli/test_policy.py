"""``runoff policy`` and ``runoff drain --policy`` as a person uses them, with bad files too."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from engine.cli.policies import with_settings
from engine.errors import UsageProblem
from engine.triage.policy import POLICIES, Policy
from engine.triage.policy_toml import value_in_toml
from tests.program import runoff

HOME = Path(__file__).parent.parent.parent
OWN = 'name = "careful"\nversion = 3\nattempts_per_phase_max = 1\nfingerprint_repeats_max = 0\n'


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions: one by a policy of its own with a flag on top, then one by the default."""
    folder = tmp_path_factory.mktemp("policies")
    (folder / "careful.toml").write_text(OWN)
    (folder / "script.json").write_text('[{"state": "FAILED", "rc": 1, "reason": "down"}]')
    assert runoff(folder, "seed").returncode == 0
    drain = ("drain", "--script", "script.json", "--virtual-time", "--batch-size", "1")
    for more in (("--policy", "./careful.toml", "--max-timeouts-per-run", "7"), ()):
        assert runoff(folder, *drain, *more).returncode in (0, 4)
    return folder


def shown(folder: Path, *arguments: str) -> Any:
    found = runoff(folder, "policy", *arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_a_drain_goes_by_a_policy_of_ones_own_and_the_log_holds_all_of_it(drained: Path) -> None:
    adopted = runoff(drained, "log", "show", "--type", "session.policy_adopted")
    assert "policy careful@3" in adopted.stdout
    assert "policy default@2" in adopted.stdout
    first, second = shown(drained, "list")[2], shown(drained, "list")[0]
    fields = {
        f["field"]: f["value"] for f in shown(drained, "show", first["sessions"][0])["fields"]
    }
    assert (first["name"], first["version"], first["built_in"]) == ("careful", 3, False)
    assert (fields["attempts_per_phase_max"], fields["fingerprint_repeats_max"]) == (1, None)
    assert fields["timeouts_per_run_max"] == 7
    assert (second["name"], len(second["sessions"])) == ("default", 1)
    started = runoff(drained, "log", "show", "--type", "attempt.started", "--json").stdout
    cited = [json.loads(line)["data"]["reason"]["policy"] for line in started.splitlines()]
    assert cited == ["careful@3", "default@2"]
    assert runoff(drained, "verify").returncode == 0


def test_a_policy_of_the_log_differs_from_its_file_only_by_the_flags(drained: Path) -> None:
    session = shown(drained, "list")[2]["sessions"][0]
    diff = shown(drained, "diff", "careful.toml", session)
    assert [(d["field"], d["old"], d["new"]) for d in diff["differs"]] == [
        ("timeouts_per_run_max", 2, 7)
    ]
    assert diff["old"]["sha256"] != diff["new"]["sha256"]
    words = runoff(drained, "policy", "diff", "careful.toml", session).stdout
    assert re.search(r"timeouts_per_run_max +2 +7 +At the Nth timeout", words)
    alike = runoff(drained, "policy", "diff", "careful.toml", "./careful.toml")
    assert "They differ in no field." in alike.stdout


def test_built_in_policies_are_listed_without_a_database(tmp_path: Path) -> None:
    for found in (runoff(tmp_path, "policy"), runoff(tmp_path, "policy", "list")):
        assert found.returncode == 0, found.stderr
        assert POLICIES["classic"].sha256[:12] in found.stdout
        assert list(tmp_path.iterdir()) == []
    missing = runoff(tmp_path, "policy", "list", "--database", "sqlite:///nope.db")
    assert missing.returncode == 3
    assert [row["sessions"] for row in shown(tmp_path, "list")] == [[], []]


@pytest.mark.parametrize("name", POLICIES)
def test_a_shown_policy_is_a_file_with_the_same_thresholds(tmp_path: Path, name: str) -> None:
    text = runoff(tmp_path, "policy", "show", name, "--toml")
    assert text.returncode == 0, text.stderr
    (tmp_path / "own.toml").write_text(text.stdout)
    assert shown(tmp_path, "diff", name, "own.toml")["differs"] == []
    checked = shown(tmp_path, "check", "own.toml")
    assert (checked["name"], checked["version"]) == (f"my-{name}", POLICIES[name].version)
    assert (checked["warnings"] == []) is (name == "default")


def test_a_shown_policy_says_of_every_field_what_it_means(tmp_path: Path) -> None:
    found = shown(tmp_path, "show", "classic")
    assert [field["field"] for field in found["fields"]] == list(Policy.__struct_fields__)
    assert all(field["meaning"] for field in found["fields"])
    differing = {field["field"] for field in found["fields"] if field["differs"]}
    assert {"name", "verdict_rule", "drains", "attempts_per_phase_max"} <= differing
    words = runoff(tmp_path, "policy", "show", "classic").stdout
    assert re.search(r"^attempts_per_phase_max +none +attempts +2 +After", words, re.MULTILINE)
    assert re.search(r"^timeouts_per_run_max +2 +timeouts +At", words, re.MULTILINE)


def test_a_check_says_what_a_file_changes_and_warns(tmp_path: Path) -> None:
    (tmp_path / "own").write_text(OWN)
    checked = runoff(tmp_path, "policy", "check", "own")
    assert checked.returncode == 0, checked.stderr
    assert checked.stdout.startswith("careful@3, sha256 ")
    assert re.search(r"^attempts_per_phase_max +2 +1 ", checked.stdout, re.MULTILINE)
    assert "warning: fingerprint_repeats_max is none (default: 3)" in checked.stdout
    assert len(shown(tmp_path, "check", "own")["differs"]) == 2


def test_a_linked_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "careful-3").write_text(OWN)
    (tmp_path / "now.toml").symlink_to("careful-3")
    assert shown(tmp_path, "check", "now.toml")["version"] == 3


def _bad_files(folder: Path) -> None:
    (folder / "binary.toml").write_bytes(bytes(range(256)))
    (folder / "huge.toml").write_text(OWN + "#" * 64 * 1024)
    (folder / "folder.toml").mkdir()
    (folder / "circle.toml").symlink_to("circle.toml")
    (folder / "hostile.toml").write_text(OWN + '"\\u001b[31m\\u202e" = 1\n')
    (folder / "detectors.toml").write_text(OWN + 'detectors = "standard"\n')
    (folder / "misspelt.toml").write_text(OWN + "timeouts_per_run = 1\n")
    (folder / "empty.toml").write_text("")
    os.mkfifo(folder / "pipe.toml")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("binary.toml", "is not UTF-8 (byte 128)"),
        ("huge.toml", "has more than 65536 bytes"),
        ("folder.toml", "is not a regular file"),
        ("circle.toml", "cannot be read"),
        ("pipe.toml", "is not a regular file"),
        ("/dev/zero", "is not a regular file"),
        ("missing.toml", "there is no file missing.toml"),
        ("x" * 5000 + ".toml", "cannot be read"),
        ("hostile.toml", r"there is no key '\x1b[31m\u202e'"),
        ("\x1b[31m/\u202e", r"there is no file \x1b[31m/\u202e"),
        ("detectors.toml", "did you mean standard-1?"),
        ("misspelt.toml", "did you mean timeouts_per_run_max?"),
        ("empty.toml", "name: is missing"),
    ],
)
def test_what_is_no_policy_file_is_refused_at_once(tmp_path: Path, name: str, says: str) -> None:
    _bad_files(tmp_path)
    refused = runoff(tmp_path, "policy", "check", name)
    assert refused.returncode == 2, refused.stderr
    assert says in refused.stderr
    assert "try:" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "\x1b" not in refused.stderr


@pytest.mark.parametrize("name", ["pipe.toml", "missing.toml", "misspelt.toml"])
def test_a_drain_refuses_a_bad_policy_before_it_looks_for_a_database(
    tmp_path: Path, name: str
) -> None:
    _bad_files(tmp_path)
    before = set(tmp_path.iterdir())
    refused = runoff(tmp_path, "drain", "--policy", name, "--", "true")
    assert refused.returncode == 2, refused.stderr
    assert name in refused.stderr
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("show", "clasic"), "did you mean classic?"),
        (("show", "x" * 3000), "3000 characters"),
        (("show", "\x1b[31m"), r"'\x1b[31m'"),
        (("diff", "default", "ses_none"), "no policy and no session 'ses_none'"),
        (("show", "default", "--toml", "--json"), "two forms"),
        (("show", "./nope"), "there is no file"),
    ],
)
def test_an_unknown_policy_is_refused_with_a_remedy(
    drained: Path, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    for folder in (tmp_path, drained):
        refused = runoff(folder, "policy", *arguments)
        assert refused.returncode == 2, refused.stderr
        assert says in refused.stderr
        assert "Traceback" not in refused.stderr


def test_settings_change_a_policy_and_keep_its_name() -> None:
    default = POLICIES["default"]
    changed = with_settings(default, ["attempts_per_phase_max=none", "detectors=classic-1"])
    assert (changed.attempts_per_phase_max, changed.detectors) == (None, "classic-1")
    assert changed.label == default.label
    assert changed.sha256 != default.sha256
    assert with_settings(default, []) == default


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["detectors=plain"], "--set: detectors: there is no set 'plain'"),
        (["attempts_per_phase_max=1", "attempts_per_phase_max=2"], "gives attempts_per_phase_max"),
        (["attempts_per_phase_max=\udcff"], "not valid Unicode"),
        (["x=" + "1" * 3000], "3002 characters"),
        (["order_tiers=true"] * 300, "300 times"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings: list[str], says: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        with_settings(POLICIES["default"], settings)
    assert says in str(refused.value)


def test_the_reference_has_every_field_with_the_values_it_has() -> None:
    page = (HOME / "docs" / "reference" / "policy-file.md").read_text(encoding="utf-8")
    for name in Policy.__struct_fields__:
        if name in {"name", "version", "why"}:
            assert f"| `{name}` |" in page
            continue
        values = [value_in_toml(getattr(POLICIES[of], name)) for of in ("default", "classic")]
        row = "".join(f"| `{cell}` " for cell in [name, *values])
        assert f"{row}| " in page, f"the row in docs/reference/policy-file.md begins: {row}"


def test_the_files_in_the_pages_are_policies(tmp_path: Path) -> None:
    for page in ("reference/policy-file.md", "how-to/write-a-policy.md"):
        text = (HOME / "docs" / page).read_text(encoding="utf-8")
        (example,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
        (tmp_path / "example.toml").write_text(example)
        assert shown(tmp_path, "check", "example.toml")["name"] == "careful"
