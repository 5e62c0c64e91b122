"""Results of the task networks: what was found in each image, and the figures over many."""

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
    """What the task networks found in one image, compared with its annotation."""

    confusion: NDArray[np.int64]
    """Pixels (11, 11), rows the true class."""
    scores: tuple[NDArray[np.float32], ...]
    """For each class of box, the score of every detection, highest first."""
    hits: tuple[NDArray[np.bool_], ...]
    """For each class of box, which of the detections are right."""
    boxes: tuple[int, ...]
    """For each class of box, how many are annotated."""
    right: int = 0
    """Box crops that were classified right."""
    crops: int = 0


def finding(
    labels: NDArray[np.integer],
    heat: NDArray[np.float32],
    boxes: NDArray[np.float32],
    note: Annotation,
    right: NDArray[np.bool_],
) -> Finding:
    """Compare results with an annotation.

    ``labels`` (H, W): classes; ``heat`` (4, h, w): scores at the centres of detections; ``boxes``
    (4, h, w): left, top, right, bottom in pixels; ``right`` (N,): crops classified right.
    """
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
    return Finding(matrix, tuple(scores), tuple(hits), tuple(counts), int(right.sum()), len(right))


def corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert boxes (N, 4) from left, top, width, height to left, top, right, bottom."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


Findings = Sequence[Finding]
Weights = NDArray[np.int64]  # how often each image counts, (N,)


def miou(findings: Findings, weights: Weights) -> float:
    matrices = np.stack([finding.confusion for finding in findings])
    return mean_iou(np.tensordot(weights, matrices, axes=1))


def map50(findings: Findings, weights: Weights) -> float:
    """Average precision at an overlap of a half, averaged over the classes that occur."""
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
    """Return the figures of machine tasks; None where nothing was annotated."""
    if not findings:
        return dict.fromkeys(FIGURES)
    once = np.ones(len(findings), np.int64)
    return {name: round(figure(findings, once), 4) for name, figure in FIGURES.items()}
