"""`pip install .`: a wheel with everything in it, which runs in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from unirestore_ros import __version__
from unirestore_ros.cli import COMMANDS

pytestmark = pytest.mark.slow

STEM = f"unirestore_ros-{__version__}"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, copy_checkout: Callable[[Path], None]) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    copy_checkout(folder / "checkout")
    # Without isolation: the setuptools that is here, and no network.
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", "."]
    result = run(*PIP, "wheel", *options, "./checkout", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_package_and_shared_files_but_no_tests(
    wheel: Path, repository: Path
) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"unirestore_ros", f"{STEM}.dist-info", f"{STEM}.data"}
    share = f"{STEM}.data/data/share"
    assert f"{share}/ament_index/resource_index/packages/unirestore_ros" in names
    for folder in ("launch", "config", "engines"):
        for path in (repository / folder).rglob("*.*"):
            if "__pycache__" not in path.parts:
                assert f"{share}/unirestore_ros/{path.relative_to(repository)}" in names
    modules = {
        str(path.relative_to(repository)) for path in repository.glob("unirestore_ros/**/*.py")
    }
    page = repository.glob("unirestore_ros/display/web/*")
    assert modules | {str(path.relative_to(repository)) for path in page} <= set(names)


def test_it_installs_and_runs_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    bin_folder = environment / "bin"
    options = ["--no-deps", "--no-index", wheel]
    installed = run(*PIP, "--python", bin_folder / "python", "install", *options, cwd=tmp_path)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    assert {path.name for path in bin_folder.iterdir()} >= set(COMMANDS)
    helped = run(bin_folder / "python", "-m", "unirestore_ros", "--help", cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    # --no-deps left NumPy out, and the executable says so in a line.
    started = run(bin_folder / "demo", "--help", cwd=tmp_path)
    assert started.returncode == 1
    assert "pip install 'unirestore_ros[bag]'" in started.stderr
