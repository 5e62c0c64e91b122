"""How good feature heads are on labelled images: mIoU and mAP50, clean and degraded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from unirestore_ros.degrade.corruptions import COMMON, corrupt
from unirestore_ros.metrics import ScoredBox, average_precision, confusion, mean_iou
from unirestore_ros.model.heads import (
    DetectionNetwork,
    SegmentationNetwork,
    enlarged,
    load_head,
)
from unirestore_ros.model.weights import load_weights
from unirestore_ros.train.features import STRIDE, features_of
from unirestore_ros.train.heads import head_file
from unirestore_ros.train.labelled import Annotation, read_camvid
from unirestore_ros.train.pairs import Image, to_tensor
from unirestore_ros.train.prepare import photographs, read_photograph

SEVERITY = 3
_LEAST_SCORE = 0.02


@dataclasses.dataclass
class Tally:
    """What was found and what is there, over images."""

    matrix: NDArray[np.int64]
    found: list[list[ScoredBox]]
    """By class."""
    truth: list[list[NDArray[np.float32]]]
    """By class, then image: left, top, right, bottom."""

    def line(self, name: str) -> str:
        pairs = zip(self.found, self.truth, strict=True)
        precisions = [average_precision(f, t) for f, t in pairs]
        listed = " ".join(f"{p:.3f}" for p in precisions)
        miou = mean_iou(self.matrix)
        return f"{name}: mIoU {miou:.3f}, mAP50 {np.mean(precisions):.3f} ({listed})"


def score_heads(weights: Path, data: Path, limit: int | None) -> list[str]:
    """A line for clean images and one for degraded ones, each by one of the 15 common corruptions
    in turn, at severity 3. ``data``: images/, labels/, boxes.json."""
    network = load_weights(weights)
    segmenter, _ = load_head(head_file(weights, "segmentation"))
    detector, origin = load_head(head_file(weights, "detection"))
    assert isinstance(segmenter, SegmentationNetwork) and isinstance(detector, DetectionNetwork)
    notes = read_camvid(data)
    files = _spread(photographs([data / "images"]), limit)
    kinds = len(origin.classes)
    tallies = {name: _empty(segmenter.head.out_channels, kinds) for name in ("clean", "degraded")}
    for i, file in enumerate(tqdm(files, unit="image")):
        clean = read_photograph(file).image
        name = COMMON[i % len(COMMON)]
        versions = {"clean": clean, "degraded": corrupt(clean, name, SEVERITY, file.name)}
        for condition, image in versions.items():
            maps = features_of(network, to_tensor([image], torch.device("cpu")))
            seg, det = (torch.from_numpy(one).float()[None] for one in maps)
            _count(tallies[condition], segmenter, detector, seg, det, image, notes[file.stem])
    return [tally.line(f"{name}, {len(files)} images") for name, tally in tallies.items()]


def _spread(files: Sequence[Path], limit: int | None) -> list[Path]:
    picks = np.linspace(0, len(files) - 1, min(limit or len(files), len(files))).round()
    return [files[int(i)] for i in picks]


def _empty(classes: int, kinds: int) -> Tally:
    matrix = np.zeros((classes, classes), np.int64)
    return Tally(matrix, [[] for _ in range(kinds)], [[] for _ in range(kinds)])


@torch.inference_mode()
def _count(
    tally: Tally,
    segmenter: SegmentationNetwork,
    detector: DetectionNetwork,
    seg: Tensor,
    det: Tensor,
    image: Image,
    note: Annotation,
) -> None:
    size = torch.empty(1, 1, *image.shape[:2])
    labels = enlarged(segmenter.logits(seg), size).argmax(1)[0].numpy()
    tally.matrix += confusion(labels, note.labels, len(tally.matrix))
    scores, boxes = (maps[0].numpy() for maps in detector.detect(det))
    number = len(tally.truth[0])
    for kind, listed in enumerate(tally.truth):
        mine = note.boxes[note.boxes[:, 0] == kind][:, 1:]
        listed.append(np.concatenate([mine[:, :2], mine[:, :2] + mine[:, 2:]], axis=1))
        for v, u in np.argwhere(scores[kind] >= _LEAST_SCORE):
            corners = (float(value) * STRIDE for value in boxes[:, v, u])
            tally.found[kind].append(ScoredBox(number, float(scores[kind, v, u]), *corners))
