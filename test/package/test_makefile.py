"""What make would run, and how the environment is refused: nothing is installed here."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """The files that make reads, with an environment that is up to date but empty."""
    for name in (
        "Makefile",
        "setup.py",
        ".ci/make-venv",
        ".ci/run-time.lock",
        ".ci/test.lock",
        "unirestore_ros/cli.py",
    ):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / name, target)
    return tmp_path


def make(checkout: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    # The tests themselves may run under make, and on top of a ROS.
    ours = ("ROS_DISTRO", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    return subprocess.run(
        ["make", *arguments],
        cwd=checkout,
        env=environment | variables,
        capture_output=True,
        text=True,
    )


def make_stamps(checkout: Path, ros: str = "pypi") -> None:
    (checkout / ".venv").mkdir(exist_ok=True)
    for level in ("run-time", "test"):
        (checkout / ".venv" / f".{level}-{ros}").touch()


def demo_arguments(checkout: Path, *said: str, **variables: str) -> list[str]:
    """What `make demo` would call the package with."""
    make_stamps(checkout)
    command = make(checkout, "-n", "demo", *said, **variables).stdout.replace("\\\n", " ")
    _, option, package, *arguments = shlex.split(command)
    assert (option, package) == ("-m", "unirestore_ros")
    return arguments


def test_input_and_degrade_reach_the_demo(checkout: Path) -> None:
    arguments = demo_arguments(checkout, "INPUT=my drive.mp4", "DEGRADE=fog")
    assert arguments == ["demo", "--input", "my drive.mp4", "--degrade", "fog"]


def test_the_environment_does_not_choose_for_the_demo(checkout: Path) -> None:
    assert demo_arguments(checkout, OUT="/home/somebody") == ["demo"]


def test_a_second_run_installs_nothing(checkout: Path) -> None:
    make_stamps(checkout)
    assert "make-venv" not in make(checkout, "-n", "demo", "test").stdout


def test_other_requirements_install_again(checkout: Path) -> None:
    make_stamps(checkout)
    later = (checkout / ".venv" / ".test-pypi").stat().st_mtime + 10
    os.utime(checkout / "setup.py", (later, later))
    assert ".ci/make-venv test" in make(checkout, "-n", "test").stdout


def test_jazzy_has_an_environment_and_tests_of_its_own(checkout: Path) -> None:
    make_stamps(checkout)
    said = make(checkout, "-n", "test", "WHEELS=jazzy", "PYTEST_ARGS=-m ros_smoke").stdout
    assert ".ci/make-venv test" in said and "lint" not in said
    assert f"{checkout}/.venv-jazzy/bin/python -m pytest test/msgs test/node" in said
    assert said.splitlines()[-1].endswith("-m ros_smoke")


def test_without_ros_has_an_environment_and_tests_of_its_own(checkout: Path) -> None:
    make_stamps(checkout)
    said = make(checkout, "-n", "test", "WHEELS=none").stdout
    assert ".ci/make-venv test" in said and "lint" not in said
    assert f"{checkout}/.venv-none/bin/python -m pytest test/engine test/synthetic" in said
    assert "test/node" not in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"WHEELS": "humble"}, "WHEELS=humble is not kilted, jazzy or none"),
        ({"WHEELS": "jazzy", "ROS_DISTRO": "kilted"}, "use a shell without ROS"),
    ],
)
def test_wheels_that_cannot_be_had_are_refused(
    checkout: Path, variables: dict[str, str], said: str
) -> None:
    result = make(checkout, "test", f"WHEELS={variables.pop('WHEELS')}", **variables)
    assert result.returncode != 0 and said in result.stderr
    assert not list(checkout.glob(".venv*"))


def test_another_ros_makes_another_environment(checkout: Path) -> None:
    make_stamps(checkout)
    result = make(checkout, "-n", "demo", ROS_DISTRO="jazzy")
    assert ".ci/make-venv run-time" in result.stdout


@pytest.mark.parametrize("failing", ["ruff", "mypy", "python"])
def test_make_test_fails_when_a_check_fails(checkout: Path, failing: str) -> None:
    make_stamps(checkout)
    tools = checkout / ".venv" / "bin"
    tools.mkdir()
    for name in ("ruff", "mypy", "python"):
        status = 3 if name == failing else 0
        (tools / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tools / name).chmod(0o755)
    assert make(checkout, "test").returncode != 0


@pytest.mark.parametrize("failing", ["test/node", "test/engine", "test/train"])
def test_make_test_fails_when_tests_of_any_process_fail(checkout: Path, failing: str) -> None:
    make_stamps(checkout)
    (checkout / "test" / "engine").mkdir(parents=True)
    tools = checkout / ".venv" / "bin"
    tools.mkdir()
    for name in ("ruff", "mypy", "python"):
        script = f'#!/bin/sh\necho "$@"\ncase "$*" in *{failing}*) exit 1;; esac\n'
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    result = make(checkout, "test")
    assert result.returncode != 0
    assert "-m pytest test/engine\n" in result.stdout, "all run to their end"
    assert "-m pytest test/msgs test/node" in result.stdout
    assert "-m pytest test/model test/train" in result.stdout


def test_make_test_names_every_folder_of_tests_once(repository: Path) -> None:
    words = make(repository, "-n", "test").stdout.split()
    folders = [str(path.parent.relative_to(repository)) for path in repository.glob("test/*/*.py")]
    assert sorted(word for word in words if word.startswith("test/")) == sorted({*folders})
    assert make(repository, "-n", "test", "PYTEST_ARGS=-x").stdout.split()[-3:] == [
        "-m",
        "pytest",
        "-x",
    ]


def test_types_are_checked_against_the_wheels_only(checkout: Path) -> None:
    make_stamps(checkout)
    make_stamps(checkout, ros="jazzy")
    assert "bin/mypy" in make(checkout, "-n", "lint").stdout
    on_ros = make(checkout, "-n", "lint", ROS_DISTRO="jazzy").stdout
    assert "bin/mypy" not in on_ros and "bin/ruff" in on_ros


def test_a_python_without_venv_is_refused_with_the_package_to_install(checkout: Path) -> None:
    # The interpreter here, but as Debian ships it: without ensurepip.
    python = checkout / "python3"
    without = "import sys; sys.modules['ensurepip'] = None; exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{without}" "$2"\n')
    python.chmod(0o755)
    result = make(checkout, "demo", f"PYTHON={python}")
    assert result.returncode != 0
    assert "sudo apt install python3-venv" in result.stderr
    assert not (checkout / ".venv").exists()


def test_a_python_that_is_not_there_is_named(checkout: Path) -> None:
    result = make(checkout, "demo", "PYTHON=/nowhere/python3")
    assert result.returncode != 0
    assert "there is no /nowhere/python3" in result.stderr


@pytest.mark.slow
def test_a_half_made_environment_is_made_anew(checkout: Path) -> None:
    unfinished, left_over = checkout / ".venv" / ".unfinished", checkout / ".venv" / "left_over"
    for file in (unfinished, left_over):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    # pip finds nothing to install from, as on a machine whose network went away.
    result = make(checkout, "demo", PYTHON=sys.executable, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert result.returncode != 0
    assert "ERROR: Could not find a version" in result.stdout + result.stderr
    assert not left_over.exists()
    # What it leaves is half-made again, and said to be.
    assert unfinished.exists()
    assert not list((checkout / ".venv").glob(".run-time-*")), "no stamp"


def test_clean_removes_what_was_made_and_nothing_else(checkout: Path) -> None:
    make_stamps(checkout)
    for made in ("out/demo", "build", "install", "log", "unirestore_ros.egg-info"):
        (checkout / made).mkdir(parents=True)
    kept = checkout / "unirestore_ros" / "build"
    kept.mkdir()
    (checkout / "test").mkdir()
    (checkout / "launch").mkdir()
    assert make(checkout, "clean").returncode == 0
    left = {path.name for path in checkout.iterdir()}
    assert left == {"Makefile", "setup.py", ".ci", "unirestore_ros", "test", "launch"}
    assert kept.is_dir()
