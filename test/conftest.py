"""What every test may rely on: a ROS environment of its own, and the folders of real data."""

from __future__ import annotations

import ast
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"

# A vehicle has the run-time only: there, files that import one of these are left out, and said so.
DEVELOPMENT_MODULES = (
    "torch",
    "diffusers",
    "onnx",
    "onnxscript",
    "rosbags",
    "psutil",
    "hypothesis",
    "gdown",
    "selenium",
    "aiohttp",
)
ROOMS_WITH_PYTORCH = ("model", "train", "export", "evaluate")
# Modules of those rooms that need NumPy and OpenCV only.
WITHOUT_PYTORCH = (
    "evaluate.metrics",
    "evaluate.classical",
    "evaluate.engine_faults",
    "evaluate.soak",
)
# What reaches ROS's messages through others, in rooms whose other tests need none.
WITH_ROS = (
    "determinism",
    "unirestore_ros.evaluate.camera_bench",
    "unirestore_ros.evaluate.engine_process_bench",
    "unirestore_ros.evaluate.soak",
)
LEFT_OUT = pytest.StashKey[dict[str, str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Set up ROS before any test imports rclpy; processes that tests start inherit it."""
    config.stash[LEFT_OUT] = {}
    # A shell's background job ignores SIGINT, and so would the nodes that tests start, until they
    # handle it: one that came earlier would be lost.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Read when PyTorch is loaded: its threads would spin while they wait, and take the cores from
    # whatever else runs. On two busy cores a forward pass took ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # ROS's pytest plugins import launch, whose class of loggers hides from pytest what they log.
    logging.setLoggerClass(logging.Logger)
    # A domain and host of its own: tests neither hear nor steer a robot, nor each other's runs.
    # Domains over 101 would use ports that Linux hands out to others.
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    # The ROS wheels say nowhere where they are; an overlay that is sourced stays in front.
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    if sys.prefix not in prefixes:
        os.environ["AMENT_PREFIX_PATH"] = os.pathsep.join([*prefixes, sys.prefix])
    if "HOME" not in os.environ:
        os.environ.setdefault("ROS_LOG_DIR", str(REPOSITORY / "out" / "ros_log"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests are in."""
    return REPOSITORY


def _folder(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        pytest.skip(f"there is no {name} folder in {SHARED.name}/ beside the repository")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """`../shared/data`: CamVid, clips and clean images; tests that need them skip without."""
    return _folder("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """`../shared/reference`: outputs of the published network to agree with."""
    return _folder("reference")


def _needs_pytorch(module: str) -> bool:
    """Whether a module of the package, named without the package, is of a room with PyTorch."""
    return module.split(".")[0] in ROOMS_WITH_PYTORCH and not module.startswith(WITHOUT_PYTORCH)


def _modules_it_needs(source: Path) -> set[str]:
    """Development modules that a test file's own imports, outside functions, bring in."""
    needed = set()
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            top, _, rest = name.partition(".")
            if name.startswith(WITH_ROS):
                needed.add("rclpy")
            if top in DEVELOPMENT_MODULES:
                needed.add(top)
            elif top == "unirestore_ros" and _needs_pytorch(rest):
                needed.add("torch")
    return needed


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files, and folders by their conftest, that need what is not installed."""
    source = collection_path / "conftest.py" if collection_path.is_dir() else collection_path
    if source.suffix != ".py" or not source.is_file() or source == Path(__file__):
        return None
    needed = _modules_it_needs(source)
    missing = [name for name in sorted(needed) if importlib.util.find_spec(name) is None]
    if not missing:
        return None
    config.stash[LEFT_OUT][str(collection_path.relative_to(REPOSITORY))] = ", ".join(missing)
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``large`` unless -m names it."""
    if "large" not in config.option.markexpr:
        large = [item for item in items if item.get_closest_marker("large")]
        items[:] = [item for item in items if item not in large]
        config.hook.pytest_deselected(items=large)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for path, missing in config.stash[LEFT_OUT].items():
        terminalreporter.write_line(f"LEFT OUT {path}: {missing} is not installed")
