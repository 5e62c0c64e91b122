"""Bundles that are truncated or flipped anywhere: each is refused in one line, none is loaded.

Each mutation has a seed, so that one that fails can be made again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from random import Random

import pytest
from ros_miniature import write_miniature

from unirestore_ros.engine import BundleError
from unirestore_ros.engine.bundle import read_bundle

MUTATIONS = 2000 if os.environ.get("UNIRESTORE_FAULTS") == "long" else 200


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_miniature(tmp_path_factory.mktemp("bundles") / "miniature")


def mutate(bundle: Path, random: Random) -> str:
    """Damage one file of the bundle; returns what was done."""
    file = random.choice(sorted(path for path in bundle.rglob("*") if path.is_file()))
    data = bytearray(file.read_bytes())
    at = random.randrange(len(data))
    kind = random.choice(("flip", "truncate", "zero", "grow", "remove"))
    if kind == "flip":
        data[at] ^= 1 << random.randrange(8)
    elif kind == "truncate":
        del data[at:]
    elif kind == "zero":
        end = min(len(data), at + 64)
        if not any(data[at:end]):
            data[at] = 1
        else:
            data[at:end] = bytes(end - at)
    elif kind == "grow":
        data += random.randbytes(1 + at % 64)
    if kind == "remove":
        file.unlink()
    else:
        file.write_bytes(data)
    return f"{kind} {file.name} at {at}"


@pytest.mark.parametrize("part", range(4))
def test_every_mutation_is_refused(sound: Path, tmp_path: Path, part: int) -> None:
    for seed in range(part, MUTATIONS, 4):
        bundle = tmp_path / str(seed)
        shutil.copytree(sound, bundle)
        done = mutate(bundle, Random(seed))
        try:
            read = read_bundle(bundle)
            for graph in ("trunk", "decoder", "adapter"):
                read.read_graph(f"onnxruntime/{graph}.onnx")
        except BundleError as error:
            assert "\n" not in str(error), f"{done} (seed {seed})"
        else:
            pytest.fail(f"not refused: {done} (seed {seed})")
        shutil.rmtree(bundle)
