"""A disk that fills up while something is written: one line, exit status 1, nothing half-made.

A limit on the size of files stands for the disk: writing past it fails as it does on a full one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from ros_miniature import write_miniature

PROMPT_BYTES, IMAGE_BYTES = 64, 4096


def run(limit: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the package that may write no file larger than ``limit`` bytes."""
    program = (
        f"import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2);"
        "sys.argv = ['unirestore_ros', *sys.argv[1:]];"
        "runpy.run_module('unirestore_ros', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=300
    )


def check_refused(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    said = ("too large", "space", "could not be written", "disk is full", "disk I/O error")
    assert any(words in result.stderr for words in said), result.stderr


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), noise)
    return folder


def test_restoring_a_folder(tmp_path: Path, frames: Path) -> None:
    bundle, out = write_miniature(tmp_path / "miniature"), tmp_path / "out"
    check_refused(run(IMAGE_BYTES, "restore", "--bundle", str(bundle), str(frames), str(out)))
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_building(tmp_path: Path) -> None:
    bundle = write_miniature(tmp_path / "miniature")
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    prompt = tmp_path / "prompt.npy"
    np.save(prompt, np.zeros((1, 1), np.float32))
    words = ("build", "--add-prompt", f"lane_marks={prompt}", str(bundle))
    check_refused(run(PROMPT_BYTES, *words))
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_recording(tmp_path: Path, frames: Path, storage: str) -> None:
    out = tmp_path / "drive"
    check_refused(run(20_000, "bag", "make", str(frames), str(out), "--storage", storage))
    assert not out.exists()


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_restoring_a_bag(tmp_path: Path, frames: Path, storage: str) -> None:
    bundle, bag, out = write_miniature(tmp_path / "miniature"), tmp_path / "bag", tmp_path / "out"
    assert run(1 << 30, "bag", "make", str(frames), str(bag), "--storage", storage).returncode == 0
    words = ("bag", "restore", "--bundle", str(bundle), str(bag), str(out))
    check_refused(run(20_000, *words))
    assert not out.exists()
