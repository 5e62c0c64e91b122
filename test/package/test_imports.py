"""Who may import whom, read from the source: demo -> ros -> engine; train, build -> model.

A vehicle runs `ros` and `engine` without PyTorch, so nothing that they reach may import it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = "unirestore_ros"
# Modules at the top that any layer may use; they use each other only.
COMMON = {"", "tasks", "files", "signals", "cameras", "launching"}
MAY_IMPORT = {
    "engine": set[str](),
    "ros": {"engine"},
    "consumers": {"ros", "engine", "lettering"},
    "degrade": set[str](),
    "drive": {"degrade"},
    "classical": {"metrics"},
    "metrics": set[str](),
    "lettering": set[str](),
    "display": {"ros", "lettering"},
    "media": {"ros", "degrade", "lettering"},
    "bag": {"media", "ros", "engine", "metrics"},
    "restore": {"media", "ros", "engine"},
    "demo": {"media", "ros", "engine", "drive", "degrade", "classical", "metrics", "lettering"},
    "doctor": {"engine", "ros", "demo"},
    "model": set[str](),
    "build": {"model", "engine", "drive"},
    "train": {"model", "drive", "degrade", "metrics"},
    "evaluate": {"model", "train", "drive", "degrade", "classical", "metrics", "media"},
    "fetch": {"model"},
    "bench": {"display", "model", "build", "engine", "drive"},
}
RUN_TIME = (
    "consumers",
    "engine",
    "ros",
    "display",
    "drive",
    "degrade",
    "classical",
    "metrics",
    "lettering",
    "media",
    "bag",
    "restore",
    "demo",
    "doctor",
)
NOT_AT_RUN_TIME = {"torch", "torchvision", "diffusers", "onnx", "onnxscript"}
# The one exception: the backend whose work is PyTorch, which `auto` never imports.
TORCH_BACKEND = f"{PACKAGE}.engine.backends.torch_backend"
# What imports an extra, and is itself imported only once that backend is chosen.
WITH_EXTRAS = {
    f"{PACKAGE}.engine.backends.{name}"
    for name in ("tensorrt_versions", "cuda_memory", "tensorrt_backend", "openvino_backend")
}
# Asked for only when used, with a message where absent: they are extras, or the vehicle's own.
OPTIONAL = {"rosbags", "ray", "imagecorruptions", "PIL", "tensorrt", "tensorrt_lean", "cuda"}
OPTIONAL |= {"openvino", "cv_bridge", "vision_msgs"}

# What setup.py or a vehicle's apt installs, by the name that is imported.
PACKAGE_XML_NAMES = {
    "numpy": "python3-numpy",
    "cv2": "python3-opencv",
    "yaml": "python3-yaml",
    "tqdm": "python3-tqdm",
    "aiohttp": "python3-aiohttp",
    "onnxruntime": "python3-onnxruntime-pip",
}
# Wheels that are not called what is imported from them.
WHEELS = {
    "PIL": "Pillow",
    "imagecorruptions": "imagecorruptions-imaug",
    "skimage": "scikit-image",
    "yaml": "PyYAML",
    "cuda": "cuda-python",
}
NO_ROSDEP_KEY = {"safetensors"}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, Path]:
    """Every module of the package, by its dotted name."""
    return {module_name(path): path for path in sorted((REPOSITORY / PACKAGE).rglob("*.py"))}


def imported_names(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere: in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}:{node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _named(node.func) in ("import_module", "__import__"):
            yield from (
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            )


def _named(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


@cache
def imports_of(module: str) -> frozenset[str]:
    return frozenset(imported_names(sources()[module]))


def own_module(name: str) -> str | None:
    """Module of ours that an imported name is, or is in; None for anything else."""
    while name:
        if name in sources():
            return name
        name = name.rpartition(".")[0]
    return None


def layer(module: str) -> str:
    """`unirestore_ros.ros.parameters` -> `ros`; the package itself -> the empty name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def modules_of(*layers: str) -> list[str]:
    return [module for module in sources() if layer(module) in layers]


def third_party(module: str) -> set[str]:
    """Top-level names imported that are neither ours nor the standard library's."""
    tops = {name.split(".")[0] for name in imports_of(module)}
    return tops - set(sys.stdlib_module_names) - {PACKAGE}


def test_every_part_has_its_rule() -> None:
    parts = {layer(module) for module in sources()} - COMMON - {"__main__", "commands"}
    assert parts <= set(MAY_IMPORT), "a new part needs its line in MAY_IMPORT"


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_a_part_imports_only_the_parts_below_it(part: str) -> None:
    for module in modules_of(part):
        used = {layer(own) for name in imports_of(module) if (own := own_module(name))}
        beyond = used - MAY_IMPORT[part] - COMMON - {part}
        assert not beyond, f"{module} imports {sorted(beyond)}"


def test_common_modules_import_nothing_of_ours_but_each_other() -> None:
    for module in modules_of(*COMMON):
        used = {layer(own) for name in imports_of(module) if (own := own_module(name))}
        assert used <= COMMON, f"{module} imports {sorted(used - COMMON)}"


@pytest.mark.parametrize("module", modules_of(*RUN_TIME))
def test_the_run_time_needs_no_pytorch(module: str) -> None:
    if module == TORCH_BACKEND:
        return
    heavy = third_party(module) & NOT_AT_RUN_TIME
    assert not heavy, f"{module} imports {sorted(heavy)}"


def test_importing_the_run_time_loads_no_pytorch() -> None:
    pytest.importorskip("rclpy", reason="ros and demo import rclpy")
    modules = [name for name in modules_of(*RUN_TIME) if name not in {TORCH_BACKEND, *WITH_EXTRAS}]
    script = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*sorted({NOT_AT_RUN_TIME!r} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def declared_dependencies(*kinds: str) -> set[str]:
    root = ElementTree.parse(REPOSITORY / "package.xml").getroot()
    return {entry.text or "" for kind in kinds for entry in root.iter(kind)}


def used_at_run_time() -> set[str]:
    launch = {
        name.split(".")[0]
        for path in (REPOSITORY / "launch").glob("*.py")
        for name in imported_names(path)
    }
    modules = [module for module in modules_of(*RUN_TIME, *COMMON) if module != TORCH_BACKEND]
    used = launch.union(*(third_party(module) for module in modules))
    return used - set(sys.stdlib_module_names) - OPTIONAL - NO_ROSDEP_KEY - {PACKAGE}


def test_package_xml_names_what_is_imported_and_nothing_else() -> None:
    used = {PACKAGE_XML_NAMES.get(name, name) for name in used_at_run_time()}
    assert used == declared_dependencies("exec_depend")


def test_setup_or_package_xml_names_what_development_imports() -> None:
    """What all parts and tests import: another repository's package, or one of ROS's."""
    beside = {path.stem for path in (REPOSITORY / "test").rglob("*.py")}
    imported = {
        name.split(".")[0]
        for folder in (PACKAGE, "test")
        for path in (REPOSITORY / folder).rglob("*.py")
        for name in imported_names(path)
    }
    setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8").lower()
    wheels = {name for name in imported if f'"{WHEELS.get(name, name).lower()}' in setup}
    vehicle = {"tensorrt", "tensorrt_lean"}
    ros = declared_dependencies("exec_depend", "test_depend")
    own = {PACKAGE, "cv2", *sys.stdlib_module_names}
    assert imported - wheels - ros - beside - vehicle - own == set()
