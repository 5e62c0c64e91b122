"""The heads of the shipped bundle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from unirestore_ros.engine import BundleError, Engine, open_engine
from unirestore_ros.engine.head import Head


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with open_engine("tiny", "onnxruntime") as engine:
        yield engine


def test_heads_read_what_the_adapter_gives(engine: Engine) -> None:
    engine.run_trunk(np.full((360, 480, 3), 128, np.uint8))
    shape = engine.feature_shape
    segmentation = Head(engine.bundle, "segmentation")
    made = segmentation.run(engine.adapt("segmentation"))
    assert made["logits"].shape == (*shape[:2], len(segmentation.classes))
    detection = Head(engine.bundle, "detection")
    made = detection.run(engine.adapt("detection"))
    assert made["scores"].shape == (*shape[:2], len(detection.classes))
    assert made["boxes"].shape == (*shape[:2], 4)
    assert all(np.isfinite(array).all() for array in made.values())


def test_features_of_another_shape_are_refused(engine: Engine) -> None:
    head = Head(engine.bundle, "segmentation")
    with pytest.raises(ValueError, match="48 channels, not \\(2, 3, 4\\): give it the bundle"):
        head.run(np.zeros((2, 3, 4), np.float32))


@pytest.mark.parametrize("size", [(64, 64), (322, 200), (1920, 1080)])
def test_maps_of_any_size_are_taken(engine: Engine, size: tuple[int, int]) -> None:
    width, height = size
    engine.run_trunk(np.full((height, width, 3), 128, np.uint8))
    features = engine.adapt("detection")
    made = Head(engine.bundle, "detection").run(features)
    assert made["boxes"].shape == (*features.shape[:2], 4)


def test_a_task_without_a_head_is_named(engine: Engine) -> None:
    with pytest.raises(BundleError, match="no head for classification, but segmentation") as caught:
        Head(engine.bundle, "classification")
    assert "build engines/tiny.yaml" in (caught.value.fix or "")


def test_the_shipped_heads_are_of_the_shipped_weights(repository: Path, engine: Engine) -> None:
    torch = pytest.importorskip("torch")
    assert torch
    from unirestore_ros.model.heads import load_head

    for task in engine.bundle.manifest.heads:
        file = repository / "engines" / "weights" / f"tiny-head-{task}.safetensors"
        _, origin = load_head(file)
        assert origin.weights_sha256 == engine.bundle.manifest.weights_sha256
        assert origin.classes == engine.bundle.manifest.heads[task].classes
