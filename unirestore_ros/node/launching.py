"""Launch files that build on one another: what one defines, for another to use."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def load_launch_file(path: Path) -> ModuleType:
    """A launch file as a module; its name has dots, so that `import` does not find it."""
    spec = importlib.util.spec_from_file_location(path.name.replace(".", "_"), path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no launch file in Python", path=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
