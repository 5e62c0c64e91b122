"""Feature heads as graphs: what ONNX Runtime makes of them, and which are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from unirestore_ros.export.heads import export_heads
from unirestore_ros.export.recipe import Recipe, RecipeError, read_recipe
from unirestore_ros.files import sha256_of
from unirestore_ros.model.heads import (
    DetectionNetwork,
    Head,
    HeadOrigin,
    SegmentationNetwork,
    load_head,
    make_head,
    save_head,
)

TINY = Path(__file__).parents[2] / "engines" / "tiny.yaml"
SHAPE = (12, 16, 48)
CLASSES = {"segmentation": ("road", "sky", "car"), "detection": ("car", "sign")}


def stirred(task: str) -> Head:
    """A head whose every weight and statistic differs from its start."""
    torch.manual_seed(0)
    head = make_head(task, len(CLASSES[task]), SHAPE[2])
    for name, value in head.state_dict().items():
        if value.is_floating_point():
            noise = torch.rand_like(value)
            value.copy_(0.5 + noise if "var" in name or "deviation" in name else 0.3 * noise - 0.15)
    return head.eval()


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    """The shipped one with heads of its own."""
    recipe = read_recipe(TINY)
    heads = {}
    for task, classes in CLASSES.items():
        heads[task] = tmp_path / f"{task}.safetensors"
        origin = HeadOrigin(task, classes, 4, SHAPE[2], sha256_of(recipe.weights))
        save_head(stirred(task), origin, heads[task])
    return dataclasses.replace(recipe, heads=heads)


def run(folder: Path, task: str, features: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(folder / f"{task}.onnx")
    return session.run(None, {"features": features})


def test_the_graphs_give_what_the_networks_give(recipe: Recipe, tmp_path: Path) -> None:
    infos = export_heads(recipe, sha256_of(recipe.weights), SHAPE[2], tmp_path / "heads")
    assert {task: info.classes for task, info in infos.items()} == CLASSES
    features = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)
    planes = torch.from_numpy(features).permute(0, 3, 1, 2)

    segmenter, _ = load_head(recipe.heads["segmentation"])
    assert isinstance(segmenter, SegmentationNetwork)
    (logits,) = run(tmp_path / "heads", "segmentation", features)
    assert logits.shape == (1, *SHAPE[:2], 3)
    expected = segmenter.logits(planes).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)

    detector, _ = load_head(recipe.heads["detection"])
    assert isinstance(detector, DetectionNetwork)
    made = run(tmp_path / "heads", "detection", features)
    for array, tensor in zip(made, detector.detect(planes), strict=True):
        expected = tensor.permute(0, 2, 3, 1).numpy()
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-3)
    scores, boxes = made
    assert 0 < np.count_nonzero(scores) < scores.size / 4
    assert (boxes[..., 2:] > boxes[..., :2]).all()


def test_a_peak_is_a_peak_and_its_box_lies_around_it() -> None:
    head = make_head("detection", 1, 4)
    assert isinstance(head, DetectionNetwork)
    heat, shape = torch.full((1, 1, 5, 6), -4.0), torch.zeros(1, 4, 5, 6)
    heat[0, 0, 2, 3], heat[0, 0, 2, 4] = 3.0, 2.0
    shape[0, :, 2, 3] = torch.tensor([0.5, 0.25, np.log(2.0), np.log(4.0)])
    head.forward = lambda x: (heat, shape)  # type: ignore[method-assign]
    scores, boxes = head.detect(torch.zeros(1, 4, 5, 6))
    assert scores[0, 0, 2, 3] == pytest.approx(torch.tensor(3.0).sigmoid())
    assert scores[0, 0, 2, 4] == 0
    assert boxes[0, :, 2, 3].tolist() == pytest.approx([2.5, 0.25, 4.5, 4.25])


def refused(recipe: Recipe, folder: Path, channels: int = SHAPE[2]) -> str:
    with pytest.raises(RecipeError) as caught:
        export_heads(recipe, sha256_of(recipe.weights), channels, folder)
    assert not folder.exists()
    return str(caught.value)


def test_heads_that_do_not_fit_are_refused_by_name(recipe: Recipe, tmp_path: Path) -> None:
    out = tmp_path / "heads"
    assert "48 channels" in refused(recipe, out, 24)
    assert "stride 4" in refused(dataclasses.replace(recipe, stride=8), out)
    swapped = dict(zip(recipe.heads, reversed(recipe.heads.values()), strict=True))
    assert "for detection" in refused(dataclasses.replace(recipe, heads=swapped), out)
    absent = {"segmentation": tmp_path / "none.safetensors"}
    assert "there is no" in refused(dataclasses.replace(recipe, heads=absent), out)


def test_a_head_of_other_weights_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    other = HeadOrigin("segmentation", CLASSES["segmentation"], 4, SHAPE[2], "ab" * 32)
    save_head(stirred("segmentation"), other, recipe.heads["segmentation"])
    assert "other weights" in refused(recipe, tmp_path / "heads")


def test_restorer_weights_are_no_head() -> None:
    with pytest.raises(ValueError, match="is not a head"):
        load_head(read_recipe(TINY).weights)
    with pytest.raises(ValueError, match="there is no head for classification"):
        make_head("classification", 3, 48)


@pytest.mark.parametrize("value", ["yes", "[a]", "{segmentation: 3}"])
def test_heads_in_a_recipe_are_a_mapping(value: str, tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    text = TINY.read_text().split("heads:")[0]
    file.write_text(f"{text}\nheads: {value}\n")
    with pytest.raises(RecipeError, match="heads must be a mapping"):
        read_recipe(file)
    file.write_text(text)
    assert read_recipe(file).heads == {}
