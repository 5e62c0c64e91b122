"""What machines make of an image: frozen downstream networks, and how sure a difference is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from unirestore_ros.train.downstream import STRIDE, box_crops, load_downstream
from unirestore_ros.train.findings import FIGURES, Finding, Findings, Weights, finding
from unirestore_ros.train.labelled import Annotation
from unirestore_ros.train.pairs import Image, to_tensor


class Machine:
    """Segmentation, detection and classification networks, trained on clean images."""

    def __init__(self, file: Path) -> None:
        self._networks = load_downstream(file)

    @torch.inference_mode()
    def look(self, image: Image, note: Annotation) -> Finding:
        """RGB (H, W, 3) uint8 and its annotation."""
        networks = self._networks
        images = to_tensor([image], torch.device("cpu"))
        labels = networks.segmenter(images).argmax(1)[0].numpy()
        heat, boxes = (maps[0].numpy() for maps in networks.detector.detect(images))
        crops, kinds = box_crops(images, [torch.from_numpy(note.boxes)])
        told = networks.classifier(crops).argmax(1) == kinds if len(kinds) else kinds.bool()
        return finding(labels, heat, boxes * STRIDE, note, told.numpy())


@dataclasses.dataclass(frozen=True)
class Difference:
    """Mean over corruptions of a figure of one method less another's, and the central 95 % of what
    it is when the images are drawn again with replacement."""

    figure: str
    value: float
    low: float
    high: float


def difference(
    figure: str, ours: Sequence[Findings], others: Sequence[Findings], draws: int = 500
) -> Difference:
    """``ours`` and ``others``: for each corruption the findings in the same images, in order."""
    rng = np.random.default_rng(0)
    count = len(ours[0])

    def value(weights: Weights) -> float:
        pairs = zip(ours, others, strict=True)
        measure = FIGURES[figure]
        return float(np.mean([measure(a, weights) - measure(b, weights) for a, b in pairs]))

    drawn = [value(np.bincount(rng.integers(count, size=count), minlength=count))
             for _ in range(draws)]  # fmt: skip
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Difference(figure, value(np.ones(count, np.int64)), float(low), float(high))
