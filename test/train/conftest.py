"""One work folder for all tests of training, in which every stage has run for three steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unirestore_ros.train import baselines, heads, task_networks
from unirestore_ros.train.train_command import main

# Two threads would wait for each other wherever another process takes a core.
ONE_THREAD = ("--threads", "1")
ORDER = ("seg", "det", "cls", "stage0", "stage1", "stage2", "stage3")
SMALL = ("--batch", "1", "--crop", "96")


@pytest.fixture(scope="session", autouse=True)
def small_batches() -> Iterator[None]:
    """Train in a few steps of small batches: tests ask whether a stage works, not how well."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (heads, task_networks):
            patch.setattr(module, "NORM_BATCHES", 2)
        for module in (baselines, heads, task_networks):
            patch.setattr(module, "BATCH", 2)
        patch.setattr(baselines, "CROP", 96)
        yield


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory, small_batches: None) -> Path:
    folder = tmp_path_factory.mktemp("train")
    start = [*ONE_THREAD, "--work", str(folder)]
    assert main([*start, "prepare", "--drive", "2"]) == 0
    for stage in ORDER:
        size = SMALL if stage.startswith("stage") else ()
        assert main([*start, stage, "--iterations", "3", *size]) == 0
    return folder
