"""Loading needs little more memory than the weights that it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from published_files import narrow_config, write_published

from unirestore_ros.model import SD_TURBO, UniRestore
from unirestore_ros.model.published import from_released
from unirestore_ros.model.weights import save_weights

BOUND = 1.3
FULL_SIZE = "UNIRESTORE_FULL_SIZE"

# Each in a process of its own, whose peak is its loading's; every weight is read once, so that
# mapped files count too. The first, narrow load brings in what torch and diffusers load when used.
MEASURE = """
import json, re, sys
from pathlib import Path
from unirestore_ros.model.published import from_released
from unirestore_ros.model.weights import load_weights

def load(files):
    return from_released(*files) if len(files) > 1 else load_weights(*files)

def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(field + r":\\s+(\\d+)", status).group(1)) * 1024

def read(network):
    tensors = network.state_dict().values()
    return sum(float(t.sum()) for t in tensors), sum(t.numel() * t.element_size() for t in tensors)

files = [Path(argument) for argument in sys.argv[1:]]
half = len(files) // 2
read(load(files[:half]))
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
_, weights = read(load(files[half:]))
print(json.dumps([memory("VmHWM") - before, weights]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_sizes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Path], UniRestore]]:
    """A narrow network to warm up with, and one of 75 M parameters (300 MB)."""
    folder = tmp_path_factory.mktemp("sizes")
    made = [write_published(folder / str(w), narrow_config(w)) for w in (1, 4)]
    return [(list(vars(files).values()), network) for files, network in made]


def peak_over_weights(files: list[Path], at_least: float = 200e6) -> float:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *map(str, files)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    grown, weights = json.loads(done.stdout)
    assert weights > at_least
    return float(grown / weights)


def test_published_files(two_sizes: list[tuple[list[Path], UniRestore]]) -> None:
    assert peak_over_weights([path for files, _ in two_sizes for path in files]) <= BOUND


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_our_own_file(
    two_sizes: list[tuple[list[Path], UniRestore]], tmp_path: Path, dtype: torch.dtype
) -> None:
    paths = [tmp_path / name for name in ("narrow.safetensors", "wide.safetensors")]
    for path, (_, network) in zip(paths, two_sizes, strict=True):
        save_weights(network, path, dtype)
    assert peak_over_weights(paths) <= BOUND


@pytest.mark.skipif(
    FULL_SIZE not in os.environ, reason=f"{FULL_SIZE} is not set: 10 GB of memory, 5 of disk"
)
def test_the_published_size(tmp_path: Path) -> None:
    """Every width is the published one; the files are random. Then one image goes through."""
    narrow, _ = write_published(tmp_path / "narrow")
    whole, written = write_published(tmp_path / "whole", SD_TURBO)
    del written
    both = [*vars(narrow).values(), *vars(whole).values()]
    ratio = peak_over_weights(both, at_least=4e9)
    network = from_released(**vars(whole))
    assert network.config.to_dict() == {**SD_TURBO.to_dict(), "tasks": ("cls", "ir", "seg")}
    image = torch.rand(1, 3, 400, 500)
    with torch.inference_mode():
        restored = network.restore(image, "seg")
    assert restored.shape == image.shape and restored.isfinite().all()
    sys.stdout.write(f"peak over weights: {ratio:.3f}\n")
    assert ratio <= BOUND
