"""How good feature heads are on labelled images: mIoU and mAP50, clean and degraded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from unirestore_ros.model import UniRestore
from unirestore_ros.model.heads import (
    DetectionNetwork,
    SegmentationNetwork,
    enlarged,
    load_head,
)
from unirestore_ros.model.weights import load_weights
from unirestore_ros.synthetic.corruptions import COMMON, corrupt
from unirestore_ros.train.dataset import read_labelled
from unirestore_ros.train.features import STRIDE, features_of
from unirestore_ros.train.findings import Finding, figures_of, finding
from unirestore_ros.train.head_inputs import spread
from unirestore_ros.train.heads import head_file
from unirestore_ros.train.labelled import Annotation
from unirestore_ros.train.pairs import Image, to_tensor
from unirestore_ros.train.prepare import photographs, read_photograph

SEVERITY = 3


class Heads:
    """The heads of some weights, and the network that gives them features."""

    def __init__(self, weights: Path) -> None:
        self._network: UniRestore = load_weights(weights)
        segmenter, _ = load_head(head_file(weights, "segmentation"))
        detector, _ = load_head(head_file(weights, "detection"))
        assert isinstance(segmenter, SegmentationNetwork) and isinstance(detector, DetectionNetwork)
        self._segmenter, self._detector = segmenter, detector

    @torch.inference_mode()
    def look(self, image: Image, note: Annotation) -> Finding:
        """RGB (H, W, 3) uint8 and its annotation."""
        maps = features_of(self._network, to_tensor([image], torch.device("cpu")))
        seg, det = (torch.from_numpy(one).float()[None] for one in maps)
        size = torch.empty(1, 1, *image.shape[:2])
        labels = enlarged(self._segmenter.logits(seg), size).argmax(1)[0].numpy()
        heat, boxes = (found[0].numpy() for found in self._detector.detect(det))
        return finding(labels, heat, boxes * STRIDE, note, np.zeros(0, bool))


def score_heads(weights: Path, data: Path, limit: int | None) -> list[str]:
    """A line for clean images and one for degraded ones, each by one of the 15 common corruptions
    in turn, at severity 3. ``data``: images/, labels/, boxes.json."""
    heads, notes = Heads(weights), read_labelled(data)
    files = spread(photographs([data / "images"]), limit)
    found: dict[str, list[Finding]] = {"clean": [], "degraded": []}
    for i, file in enumerate(tqdm(files, unit="image")):
        clean = read_photograph(file).image
        degraded = corrupt(clean, COMMON[i % len(COMMON)], SEVERITY, file.name)
        found["clean"].append(heads.look(clean, notes[file.stem]))
        found["degraded"].append(heads.look(degraded, notes[file.stem]))
    lines = []
    for name, findings in found.items():
        figures = figures_of(findings)
        lines.append(
            f"{name}, {len(files)} images: mIoU {figures['miou']:.3f}, mAP50 {figures['map50']:.3f}"
        )
    return lines
