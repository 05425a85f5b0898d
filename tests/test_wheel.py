"""What is shipped: two packages, their data, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

HOME = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="the build backend comes with the dev environment")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=HOME,
        check=True,
        capture_output=True,
    )
    return folder


def test_the_wheel_holds_two_packages_and_their_data(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    top = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert top == {"engine", "projections"}
    for needed in (
        "engine/store/schema/sqlite/0001_log.sql",
        "engine/backlog/plans/telemetry.toml",
        "engine/backlog/plans/sample.sql",
        "engine/detect/rule_sets/boundary-1.toml",
        "engine/detect/rule_sets/zero-yield-1.toml",
        "engine/detect/rule_sets/fp-1.toml",
        "engine/detect/rule_sets/fp-1-tongues.toml",
        "engine/executors/guardian.py",
        "engine/py.typed",
        "projections/py.typed",
    ):
        assert needed in names


def test_the_source_distribution_has_the_agreed_top_level(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        top = {name.split("/")[1] for name in tar.getnames() if "/" in name}
    assert top - {"PKG-INFO", ".gitignore"} == {
        "engine", "projections", "tests", "docs", "pyproject.toml", "README.md",
        "CHANGELOG.md", "LICENSE", "run",
    }  # fmt: skip
