"""Heads of one size on features, restored image and degraded pixels: the same crops for each."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unirestore_ros.model.weights import SHIPPED_WEIGHTS, load_weights
from unirestore_ros.synthetic.drive import Drive
from unirestore_ros.train import head_compare
from unirestore_ros.train.data import Annotation
from unirestore_ros.train.head_compare import INPUTS, HeadFrame, fresh_head, head_frame, sampler
from unirestore_ros.train.train_command import main

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def frame() -> HeadFrame:
    drive = Drive(5, (240, 180)).frame(3.0)
    network = load_weights(SHIPPED_WEIGHTS / "tiny.safetensors")
    return head_frame(network, drive.image, Annotation.of_drive(drive))


def test_crops_are_of_the_same_places(frame: HeadFrame) -> None:
    near = (False, True)
    drawn = {name: sampler([frame], name, 0, CPU)(16, near) for name in INPUTS}
    batches = {name: (x, truth.labels) for name, (x, truth) in drawn.items()}
    shapes = {name: tuple(x.shape) for name, (x, _) in batches.items()}
    assert shapes == {
        "adapter features": (2, 48, 16, 16),
        "restored image": (2, 3, 64, 64),
        "degraded pixels": (2, 3, 64, 64),
    }
    labels = [labels for _, labels in batches.values()]
    assert torch.equal(labels[0], labels[1]) and torch.equal(labels[0], labels[2])
    restored, degraded = (batches[name][0] for name in INPUTS[1:])
    assert (restored - degraded).abs().mean() < 0.1  # clean input comes back


def test_heads_differ_by_their_stem_alone(frame: HeadFrame) -> None:
    heads = [fresh_head(name, [frame]) for name in INPUTS]
    bodies = [
        {key: value.shape for key, value in head.state_dict().items() if ".stem." not in key}
        for head in heads
    ]
    assert bodies[0] == bodies[1] == bodies[2]
    sizes = [sum(p.numel() for p in head.parameters()) for head in heads]
    assert sizes[0] < sizes[1] == sizes[2] < 1.12 * sizes[0]  # features are read by one layer
    for name, head in zip(INPUTS, heads, strict=True):
        x, _ = sampler([frame], name, 0, CPU)(16, [False])
        assert head(x).shape == (1, 11, 16, 16)


@pytest.mark.slow
def test_the_command_writes_figures_and_curves(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imagecorruptions")
    monkeypatch.setattr(head_compare, "HELD_OUT_BATCHES", 1)
    monkeypatch.setattr(head_compare, "NORM_BATCHES", 2)
    monkeypatch.setattr(head_compare, "NEAR_BOX", (False, True))
    data = tmp_path / "data"
    for name in ("images", "labels"):
        (data / name).mkdir(parents=True)
    drive = Drive(6, (192, 144)).frame(2.0)
    cv2.imwrite(str(data / "images" / "0.png"), np.ascontiguousarray(drive.image[..., ::-1]))
    cv2.imwrite(str(data / "labels" / "0.png"), drive.labels)
    listing = {"images": [{"id": 0, "file_name": "images/0.png"}], "annotations": [],
               "categories": []}  # fmt: skip
    (data / "boxes.json").write_text(json.dumps(listing))
    out = tmp_path / "h.json"
    options = ["--data", str(data), "--iterations", "2", "--out", str(out)]
    assert main(["--threads", "1", "--work", str(work), "head-compare", *options]) == 0
    content = json.loads(out.read_text())
    rows = {entry["on"]: entry for entry in content["heads"]}
    assert set(rows) == set(INPUTS)
    assert all(0 <= entry["miou"] <= 1 for entry in rows.values())
    work_of = [rows[name]["path_gflop"] for name in INPUTS]
    assert work_of[1] > work_of[0] > work_of[2] > 0
    assert {e["less"] for e in content["head_differences"]} == set(INPUTS[1:])
    assert (tmp_path / "h" / "head_curves.png").stat().st_size > 5000
