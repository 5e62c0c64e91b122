"""The package in a colcon workspace: built, run from where it is installed, and tested.

The nested `colcon test` runs the tests marked `smoke`: the whole suite would run itself again.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from unirestore_ros.cli import COMMANDS

PAGE = Path("unirestore_ros/display/web")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("colcon_core") is None, reason="colcon is not installed"
    ),
]


@pytest.fixture(scope="module")
def workspace(
    tmp_path_factory: pytest.TempPathFactory, copy_checkout: Callable[[Path], None]
) -> Path:
    """A workspace in which the package has been built."""
    workspace = tmp_path_factory.mktemp("workspace")
    copy_checkout(workspace / "src" / "unirestore_ros")
    colcon(workspace, "build")
    return workspace


def colcon(workspace: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "colcon", *arguments],
        cwd=workspace,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def sourced(workspace: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user would: in another folder, with the workspace sourced."""
    return subprocess.run(
        ["bash", "-c", f'source "{workspace}/install/setup.bash" && {command}'],
        cwd=workspace.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_everything_is_installed_where_ros_looks(workspace: Path, repository: Path) -> None:
    prefix = workspace / "install" / "unirestore_ros"
    executables = prefix / "lib" / "unirestore_ros"
    assert {path.name for path in executables.iterdir()} == set(COMMANDS)
    share = prefix / "share"
    assert (share / "ament_index/resource_index/packages/unirestore_ros").is_file()
    installed = {
        path.relative_to(share / "unirestore_ros")
        for path in share.rglob("*.*")
        if path.is_relative_to(share / "unirestore_ros")
    }
    for folder in ("launch", "config", "engines"):
        for path in (repository / folder).rglob("*.*"):
            if "__pycache__" not in path.parts:
                assert path.relative_to(repository) in installed


def test_the_page_is_installed(workspace: Path, repository: Path) -> None:
    page = "from importlib import resources; print(*(file.name for file in"
    page += " resources.files('unirestore_ros.display').joinpath('web').iterdir()))"
    names = sourced(workspace, f'{sys.executable} -c "{page}"').stdout.split()
    assert set(names) >= {path.name for path in (repository / PAGE).iterdir()}


def test_an_installed_executable_runs_the_installed_package(workspace: Path) -> None:
    prefix = workspace / "install" / "unirestore_ros"
    result = sourced(workspace, f"{prefix}/lib/unirestore_ros/demo --help")
    assert result.returncode == 0, result.stdout + result.stderr
    where = sourced(
        workspace, f'{sys.executable} -c "import unirestore_ros as u; print(u.__file__)"'
    )
    assert Path(where.stdout.strip()).is_relative_to(workspace), where.stderr


def test_colcon_test_runs_the_tests_and_they_pass(workspace: Path) -> None:
    chosen = ["--pytest-args", "test/package", "-m", "smoke"]
    colcon(workspace, "test", "--return-code-on-test-failure", *chosen)
    summary = colcon(workspace, "test-result", "--all")
    counts = re.search(r"Summary: (\d+) tests?, 0 errors, 0 failures", summary)
    assert counts and int(counts[1]) >= len(COMMANDS), summary
