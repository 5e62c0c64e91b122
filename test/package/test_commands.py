"""The table of commands: each is there, and asking for help imports nothing heavy."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unirestore_ros import __version__, cli
from unirestore_ros.cli import COMMANDS, main

pytestmark = pytest.mark.smoke

HEAVY = {"torch", "rclpy", "numpy", "cv2", "onnxruntime"}


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_its_function(name: str, repository: Path) -> None:
    module, function = COMMANDS[name].target.split(":")
    source = repository.joinpath(*module.split(".")).with_suffix(".py")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    arguments = defined[function].args
    assert [argument.arg for argument in arguments.args] == ["argv"]
    assert len(arguments.defaults) == 1, "argv may be left out"


def test_help_imports_nothing_heavy(repository: Path) -> None:
    script = (
        "import sys; from unirestore_ros.cli import main; status = main(['--help']);"
        " print(*sys.modules, file=sys.stderr); sys.exit(status)"
    )
    result = python("-c", script, cwd=repository)
    assert result.returncode == 0, result.stderr
    assert not HEAVY & set(result.stderr.split())
    assert all(name in result.stdout for name in COMMANDS)


def test_the_module_and_the_function_are_one(repository: Path) -> None:
    result = python("-m", "unirestore_ros", "--version", cwd=repository)
    assert (result.returncode, result.stdout) == (0, f"unirestore_ros {__version__}\n")


def test_a_misspelt_command_is_refused_with_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["restore_nod"]) == 2
    assert "Did you mean restore_node?" in capsys.readouterr().err


def test_no_command_is_an_error_that_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "restore_node" in capsys.readouterr().err


def test_a_missing_module_is_named_with_what_installs_it(repository: Path) -> None:
    # Without site-packages nothing is installed.
    result = python("-S", "-m", "unirestore_ros", "build", "--help", cwd=repository)
    assert result.returncode == 1
    assert "pip install 'unirestore_ros[build]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_opencv_for_another_numpy_is_named_in_one_line(repository: Path, tmp_path: Path) -> None:
    """As apt's is under NumPy 2."""
    text = "numpy.core.multiarray failed to import"
    (tmp_path / "cv2.py").write_text(f"raise ImportError({text!r})\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        " from unirestore_ros.cli import main; sys.exit(main(['restore', '--help']))"
    )
    result = python("-c", code, cwd=repository)
    assert result.returncode == 1
    assert result.stderr == f"restore: {text}: python -m unirestore_ros doctor says what to do\n"


def test_an_executable_runs_the_command_it_is_named_after(tmp_path: Path) -> None:
    script = tmp_path / "demo"
    script.write_text(
        "import sys\nfrom unirestore_ros.cli import executable\nsys.exit(executable())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, script, "--help"], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "usage: unirestore_ros demo" in result.stdout


def test_a_process_that_has_done_its_work_is_not_killed_while_it_ends(repository: Path) -> None:
    script = """
import os, signal, sys
from unirestore_ros.cli import ignore_signals
status = ignore_signals(3)
for number in (signal.SIGINT, signal.SIGTERM):
    os.kill(os.getpid(), number)
sys.exit(status)
"""
    result = python("-c", script, cwd=repository)
    assert (result.returncode, result.stderr) == (3, "")


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere threads have no priority of their own"
)
@pytest.mark.parametrize(("name", "nice"), [("driver_display", 10), ("restore_node", 0)])
def test_what_starts_beside_a_node_is_imported_at_low_priority(
    name: str, nice: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And runs with the priority that the process has."""
    (tmp_path / "niceness_told.py").write_text(
        "import os, threading\n"
        "def now():\n"
        "    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())\n"
        "imported = now()\n"
        "def main(argv):\n"
        "    argv += [imported, now()]\n"
        "    return 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "niceness_told", raising=False)
    monkeypatch.setitem(COMMANDS, name, cli.Command("niceness_told:main", ""))
    told: list[Any] = []
    assert cli.run(name, told) == 0
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert told == [min(own + nice, 19), own]


@pytest.mark.parametrize("name", ["restore_node", "driver_display"])
def test_a_signal_while_a_command_is_imported_ends_it(
    name: str, repository: Path, tmp_path: Path
) -> None:
    """Python only prints a KeyboardInterrupt that is raised in a weak reference's callback, of
    which each import has one, or in `__del__`."""
    (tmp_path / "imported_slowly.py").write_text(
        "import os, signal, time\n"
        "class Imported:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(0.01)\n"
        "Imported()\n"
        "main = print\n"
    )
    script = (
        "import signal, sys\n"
        f"sys.path.append({str(tmp_path)!r})\n"
        "from unirestore_ros import cli\n"
        # Where the tests run in the background of a shell, it is ignored.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"cli.COMMANDS[{name!r}] = cli.Command('imported_slowly:main', '')\n"
        f"cli.run({name!r}, ['it went on'])\n"
    )
    result = python("-c", script, cwd=repository)
    assert (result.returncode, result.stdout, result.stderr) == (-signal.SIGINT, "", "")
