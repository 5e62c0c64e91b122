"""Every method on every image, clean and in every corruption, and what comes of it as rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from tqdm import tqdm

from unirestore_ros.evaluate.conditions import Conditions, degraded
from unirestore_ros.evaluate.methods import CLEAN, Image, Method
from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.evaluate.results import Row, make_row
from unirestore_ros.train.data import Annotation, to_tensor
from unirestore_ros.train.findings import Finding, figures_of, finding
from unirestore_ros.train.losses import STRIDE
from unirestore_ros.train.prepare import read_photograph
from unirestore_ros.train.task_networks import box_crops, load_task_networks


@dataclasses.dataclass
class Score:
    """What one method, with one prompt, reached under one corruption: an entry an image."""

    fidelity: list[dict[str, float]] = dataclasses.field(default_factory=list)
    """``psnr`` and ``ssim`` to the clean image."""
    findings: list[Finding] = dataclasses.field(default_factory=list)
    """What the task networks found in it."""


Key = tuple[str, str | None, str | None]
"""Method, task, corruption."""
Scores = dict[Key, Score]


class TaskEvaluator:
    """Runs frozen segmentation, detection and classification networks on images."""

    def __init__(self, file: Path) -> None:
        self._networks = load_task_networks(file)

    @torch.inference_mode()
    def find(self, image: Image, note: Annotation) -> Finding:
        """Run all three on an RGB image (H, W, 3) uint8 and compare with its annotation."""
        networks = self._networks
        images = to_tensor([image], torch.device("cpu"))
        labels = networks.segmenter(images).argmax(1)[0].numpy()
        heat, boxes = (maps[0].numpy() for maps in networks.detector.detect(images))
        crops, kinds = box_crops(images, [torch.from_numpy(note.boxes)])
        right = networks.classifier(crops).argmax(1) == kinds if len(kinds) else kinds.bool()
        return finding(labels, heat, boxes * STRIDE, note, right.numpy())

    @torch.inference_mode()
    def response(self, image: Image) -> NDArray[np.float32]:
        """Average the absolute last features (h, w) of the segmentation network."""
        images = to_tensor([image], torch.device("cpu"))
        features: NDArray[np.float32] = (
            self._networks.segmenter.backbone(images)[0].abs().mean(0).numpy()
        )
        return features


def score_all(
    files: Sequence[Path],
    methods: Mapping[str, Method],
    conditions: Conditions,
    networks: TaskEvaluator | None,
    notes: Mapping[str, Annotation],
    own_networks: Mapping[str, TaskEvaluator] | None = None,
) -> Scores:
    """Run every method but ``degraded`` on clean input, and every one but ``clean`` on each
    corruption.

    ``networks``: None, or those that judge images for machine tasks; ``own_networks``: by method,
    those that take their place for it.
    """
    scores: Scores = {}
    bar = tqdm(total=len(conditions.corruptions) * len(files), unit="image")
    for corruption in conditions.corruptions:
        left_out = "degraded" if corruption is None else CLEAN
        bar.set_postfix_str(corruption or CLEAN)
        for file in files:
            clean = frame = read_photograph(file).image
            if corruption is not None:
                frame = degraded(clean, corruption, conditions.severity, file.name)
            scorer = _ImageScorer(clean, notes.get(file.stem))
            for name, method in methods.items():
                if name == left_out:
                    continue
                chosen = (own_networks or {}).get(name, networks)
                for task, image in method(frame).items():
                    score = scores.setdefault((name, task, corruption), Score())
                    scorer.add(score, image, chosen)
            bar.update()
    bar.close()
    return scores


class _ImageScorer:
    """Scores what methods make of one frame; equal images are scored once."""

    def __init__(self, clean: Image, note: Annotation | None) -> None:
        self._clean, self._note = clean, note
        self._fidelities: dict[bytes, dict[str, float]] = {}
        self._findings: dict[tuple[TaskEvaluator, bytes], Finding] = {}

    def add(self, score: Score, image: Image, networks: TaskEvaluator | None) -> None:
        pixels = image.tobytes()
        if pixels not in self._fidelities:
            self._fidelities[pixels] = _fidelity(image, self._clean)
        score.fidelity.append(self._fidelities[pixels])
        if networks is None or self._note is None:
            return
        if (networks, pixels) not in self._findings:
            self._findings[networks, pixels] = networks.find(image, self._note)
        score.findings.append(self._findings[networks, pixels])


def _fidelity(image: Image, clean: Image) -> dict[str, float]:
    similarity = structural_similarity(image, clean, channel_axis=2, data_range=255)
    return {"psnr": psnr(image, clean), "ssim": float(similarity)}


def rows_of(scores: Scores, conditions: Conditions) -> list[Row]:
    """Make one row for each method, task and corruption: means over the images."""
    return [
        make_row(
            method,
            task,
            corruption,
            None if corruption is None else conditions.severity,
            score.fidelity,
            figures_of(score.findings),
        )
        for (method, task, corruption), score in scores.items()
    ]
