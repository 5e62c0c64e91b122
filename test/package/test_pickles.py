"""Nothing of the package unpickles: pickles can run any command."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "unirestore_ros"
VEHICLE = ("engine", "node", "msgs", "display", "heads", "recordings", "demo", "doctor")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NAMES_AN_ERROR_ONLY = {"model/published.py"}
"""It catches pickle.UnpicklingError."""


def calls_of(path: Path) -> list[tuple[str, ast.Call]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in nodes]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_torch_load_takes_weights_only_and_never_on_the_vehicle(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    for called, call in calls_of(path):
        assert called != "torch.export.load", f"{name}: see engine/backends/torch_programs.py"
        if called == "torch.load":
            assert not name.startswith(VEHICLE), f"{name} runs on the vehicle"
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            assert given.get("weights_only") == "True", f"{name}, line {call.lineno}"
        if called in ("np.load", "numpy.load"):
            assert not any(word.arg == "allow_pickle" for word in call.keywords), name


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_no_module_of_pickles_is_imported(path: Path) -> None:
    if path.relative_to(PACKAGE).as_posix() in NAMES_AN_ERROR_ONLY:
        assert not any(called.startswith("pickle.") for called, _ in calls_of(path))
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not {name.split(".")[0] for name in names} & PICKLES
