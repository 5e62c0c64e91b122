"""Every tracked Python file is linted and typed, and every file with tests is collected."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def tracked(repository: Path) -> set[Path]:
    """The Python files of the checkout, as git knows them."""
    if shutil.which("git") is None or not (repository / ".git").exists():
        pytest.skip("needs git and its checkout")
    command = ["git", "-C", str(repository), "ls-files", "-z", "*.py"]
    names = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    return {path for name in names if name and (path := repository / name).exists()}


def test_ruff_checks_every_file(repository: Path, tracked: set[Path]) -> None:
    command = [sys.executable, "-m", "ruff", "check", "--show-files"]
    done = subprocess.run(command, cwd=repository, capture_output=True, check=True, text=True)
    assert tracked - {Path(line) for line in done.stdout.splitlines()} == set()


def test_mypy_reads_every_file(
    repository: Path, tracked: set[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    main = pytest.importorskip("mypy.main")
    monkeypatch.chdir(repository)
    sources, _ = main.process_options([])
    assert tracked - {Path(source.path).absolute() for source in sources} == set()


def test_pytest_collects_every_file_with_tests(
    repository: Path, tracked: set[Path], request: pytest.FixtureRequest
) -> None:
    pytest.importorskip("torch", reason="what needs it is not collected without it")
    tests = {p for p in tracked if re.search(r"^def test_", p.read_text(encoding="utf-8"), re.M)}
    folder = pytest.Dir.from_parent(request.session, path=repository / "test")
    assert tests - set(_modules(folder)) == set()


def _modules(folder: pytest.Dir | pytest.Package) -> Iterator[Path]:
    """The files that pytest would import from here on down."""
    for node in folder.collect():
        if isinstance(node, pytest.Dir | pytest.Package):
            yield from _modules(node)
        elif isinstance(node, pytest.Module):
            yield node.path
