"""What a machine found in an image beside the truth, and the figures over many images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unirestore_ros.evaluate.metrics import average_precision, confusion, match_boxes, mean_iou
from unirestore_ros.tasks import DETECTION_CLASSES, SEGMENTATION_CLASSES
from unirestore_ros.train.data import Annotation

LEAST_SCORE = 0.02
"""Detections under it change average precision by next to nothing and cost time."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found in one image, beside the truth."""

    confusion: NDArray[np.int64]
    """Pixels (11, 11), rows the true class."""
    scores: tuple[NDArray[np.float32], ...]
    """For each kind of box, of every detection."""
    hits: tuple[NDArray[np.bool_], ...]
    """Which of them are right."""
    boxes: tuple[int, ...]
    """How many there are of each kind."""
    right: int = 0
    """Box crops whose kind was told right."""
    crops: int = 0


def finding(
    labels: NDArray[np.integer],
    heat: NDArray[np.float32],
    boxes: NDArray[np.float32],
    note: Annotation,
    told: NDArray[np.bool_],
) -> Finding:
    """``labels`` (H, W); ``heat`` (4, h, w) holds scores at the centres of what was found,
    ``boxes`` (4, h, w) left, top, right, bottom in pixels; ``told``: which crops were right."""
    scores, hits, counts = [], [], []
    for kind in range(len(DETECTION_CLASSES)):
        rows, columns = np.nonzero(heat[kind] >= LEAST_SCORE)
        found = heat[kind][rows, columns]
        order = np.argsort(-found, kind="stable")
        truth = corners(note.boxes[note.boxes[:, 0] == kind][:, 1:])
        scores.append(found[order])
        hits.append(match_boxes(boxes[:, rows, columns].T[order], truth))
        counts.append(len(truth))
    matrix = confusion(labels, note.labels, len(SEGMENTATION_CLASSES))
    return Finding(matrix, tuple(scores), tuple(hits), tuple(counts), int(told.sum()), len(told))


def corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 4) left, top, width, height -> left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


Findings = Sequence[Finding]
Weights = NDArray[np.int64]
"""How often each image counts."""


def miou(findings: Findings, weights: Weights) -> float:
    matrices = np.stack([finding.confusion for finding in findings])
    return mean_iou(np.tensordot(weights, matrices, axes=1))


def map50(findings: Findings, weights: Weights) -> float:
    """Mean over the kinds of box that occur of average precision at an overlap of a half."""
    precisions = []
    for kind in range(len(DETECTION_CLASSES)):
        total = int(np.dot(weights, [finding.boxes[kind] for finding in findings]))
        if total:
            scores = np.concatenate([finding.scores[kind] for finding in findings])
            hits = np.concatenate([finding.hits[kind] for finding in findings])
            lengths = [len(finding.scores[kind]) for finding in findings]
            precisions.append(average_precision(scores, hits, total, np.repeat(weights, lengths)))
    return float(np.mean(precisions)) if precisions else 0.0


def top1(findings: Findings, weights: Weights) -> float:
    right = np.dot(weights, [finding.right for finding in findings])
    return float(right / max(np.dot(weights, [finding.crops for finding in findings]), 1))


FIGURES: dict[str, Callable[[Findings, Weights], float]] = {
    "miou": miou,
    "map50": map50,
    "top1": top1,
}


def figures_of(findings: Findings) -> dict[str, float | None]:
    """The machine's columns of a row; null where nothing was annotated."""
    if not findings:
        return dict.fromkeys(FIGURES)
    once = np.ones(len(findings), np.int64)
    return {name: round(figure(findings, once), 4) for name, figure in FIGURES.items()}
