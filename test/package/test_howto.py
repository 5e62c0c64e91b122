"""The pages of docs/howto: their programs run as they are written."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def blocks(repository: Path, page: str, language: str) -> list[str]:
    text = (repository / "docs" / "howto" / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_prompt_is_trained_and_added(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (program,) = blocks(repository, "add_a_task.md", "python")
    run(sys.executable, "-c", program, folder=tmp_path)
    shutil.copytree(repository / "engines" / "tiny", tmp_path / "engines" / "tiny")
    command = blocks(repository, "add_a_task.md", "bash")[0].split()
    assert command[0] == "python"
    said = run(sys.executable, *command[1:], folder=tmp_path)
    assert said.rstrip().endswith("detection, lanes")


def test_features_without_ros(repository: Path, tmp_path: Path) -> None:
    program = blocks(repository, "my_own_detector.md", "python")[1]
    said = run(sys.executable, "-c", program + "\n    print(features.shape)", folder=tmp_path)
    assert said.split() == ["(90,", "120,", "48)"]


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("myst_parser")
    pytest.importorskip("torch")
    docs = str(repository / "docs")
    run(sys.executable, "-m", "sphinx", "-q", "-W", docs, str(tmp_path / "html"), folder=repository)
    assert "open_engine" in (tmp_path / "html" / "api.html").read_text(encoding="utf-8")
