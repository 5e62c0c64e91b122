"""The rooms of the package, and which of them each may import, read from the source.

What runs on a vehicle imports nothing of the workshop and no PyTorch. The tools for recordings and
the demonstration use the workshop's synthetic drive, and two of its modules that need NumPy and
OpenCV only.
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
# Modules at the top that any room may use; they use each other only.
COMMON = {"", "tasks", "files", "memory", "signals", "tables", "decoding"}
# Modules of `evaluate` that need NumPy and OpenCV only, which rooms below it may import by name.
SHARED_MODULES = {"evaluate.metrics", "evaluate.classical"}
VEHICLE = {
    "engine": set[str](),
    "msgs": set[str](),
    "node": {"engine", "msgs"},
    "heads": {"engine", "msgs", "node", "display"},
    "display": {"msgs", "node"},
    "recordings": {"engine", "msgs", "node", "display", "synthetic", "evaluate.metrics"},
    "demo": {
        "engine", "msgs", "node", "display", "recordings", "synthetic",
        "evaluate.metrics", "evaluate.classical",
    },
    "doctor": {"engine", "msgs", "node"},
}  # fmt: skip
WORKSHOP = {
    "synthetic": set[str](),
    "model": set[str](),
    "export": {"model", "engine", "synthetic", "evaluate.metrics"},
    "train": {"model", "synthetic", "evaluate.metrics"},
    "evaluate": {
        "model", "train", "export", "engine", "msgs", "node", "display", "recordings", "synthetic",
    },
}  # fmt: skip
MAY_IMPORT = VEHICLE | WORKSHOP
RUN_TIME = (*VEHICLE, "synthetic", *SHARED_MODULES)
NOT_AT_RUN_TIME = {"torch", "torchvision", "diffusers", "onnx", "onnxscript"}
# The one exception: the backend whose work is PyTorch, which `auto` never imports.
TORCH_BACKEND = {
    f"{PACKAGE}.engine.backends.{name}" for name in ("torch_backend", "torch_programs")
}
# What imports an extra, and is itself imported only once that backend is chosen.
WITH_EXTRAS = {
    f"{PACKAGE}.engine.backends.{name}"
    for name in ("tensorrt_versions", "cuda_memory", "tensorrt_backend", "openvino_backend")
}
# Asked for only when used, with a message where absent: they are extras, or the vehicle's own.
OPTIONAL = {"rosbags", "ray", "imagecorruptions", "PIL", "tensorrt", "tensorrt_lean", "cuda"}
OPTIONAL |= {"openvino", "cv_bridge", "vision_msgs", "bondpy"}
# What the extra `bag` brings beside rosbags; Python 3.14 has zstd as compression.zstd.
OPTIONAL |= {"ruamel", "lz4", "backports", "compression"}

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
    "ruamel": "ruamel.yaml",
    "backports": "backports.zstd",
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


def room(module: str) -> str:
    """`unirestore_ros.node.parameters` -> `node`; the package itself -> the empty name."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def shared_or_room(module: str) -> str:
    """Name of a module that rooms may import by itself; of any other, its room."""
    name = module.removeprefix(f"{PACKAGE}.")
    return name if name in SHARED_MODULES else room(module)


def modules_of(*rooms: str) -> list[str]:
    """Modules of rooms, and single shared modules named as in `SHARED_MODULES`."""
    return [module for module in sources() if {room(module), shared_or_room(module)} & {*rooms}]


def third_party(module: str) -> set[str]:
    """Top-level names imported that are neither ours nor the standard library's."""
    tops = {name.split(".")[0] for name in imports_of(module)}
    return tops - set(sys.stdlib_module_names) - {PACKAGE}


def test_every_room_has_its_rule() -> None:
    rooms = {room(module) for module in sources()} - COMMON - {"__main__", "cli"}
    assert rooms == set(MAY_IMPORT), "a new room needs its line in the table"


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_room_imports_only_what_the_table_permits(name: str) -> None:
    permitted = MAY_IMPORT[name] | COMMON | {name}
    for module in modules_of(name):
        used = {own for imported in imports_of(module) if (own := own_module(imported))}
        beyond = {own for own in used if not {room(own), shared_or_room(own)} & permitted}
        assert not beyond, f"{module} imports {sorted(beyond)}"


def test_shared_modules_import_nothing_of_ours_but_each_other() -> None:
    for module in modules_of(*SHARED_MODULES):
        used = {shared_or_room(own) for name in imports_of(module) if (own := own_module(name))}
        assert used <= SHARED_MODULES | COMMON, f"{module} imports {sorted(used)}"


def test_common_modules_import_nothing_of_ours_but_each_other() -> None:
    for module in modules_of(*COMMON):
        used = {room(own) for name in imports_of(module) if (own := own_module(name))}
        assert used <= COMMON, f"{module} imports {sorted(used - COMMON)}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports within functions and for type checkers only count too."""
    graph = {
        module: {own for name in imports_of(module) if (own := own_module(name))} - {module}
        for module in sources()
    }
    done: set[str] = set()
    trail: list[str] = []

    def visit(module: str) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        trail.append(module)
        for own in sorted(graph[module]):
            visit(own)
        trail.pop()
        done.add(module)

    for module in graph:
        visit(module)


@pytest.mark.parametrize("module", modules_of(*RUN_TIME))
def test_the_run_time_needs_no_pytorch(module: str) -> None:
    if module in TORCH_BACKEND:
        return
    heavy = third_party(module) & NOT_AT_RUN_TIME
    assert not heavy, f"{module} imports {sorted(heavy)}"


def test_importing_the_run_time_loads_no_pytorch() -> None:
    pytest.importorskip("rclpy", reason="ros and demo import rclpy")
    modules = [name for name in modules_of(*RUN_TIME) if name not in TORCH_BACKEND | WITH_EXTRAS]
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
    modules = [module for module in modules_of(*RUN_TIME, *COMMON) if module not in TORCH_BACKEND]
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
    vehicle = {"tensorrt", "tensorrt_lean", "bondpy"}
    ros = declared_dependencies("exec_depend", "test_depend")
    own = {PACKAGE, "cv2", "compression", *sys.stdlib_module_names}
    assert imported - wheels - ros - beside - vehicle - own == set()
