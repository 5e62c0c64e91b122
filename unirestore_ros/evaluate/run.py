"""Every method on every image, clean and in every corruption, and what comes of it as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from unirestore_ros.evaluate.conditions import Conditions, degraded
from unirestore_ros.evaluate.machine import Machine
from unirestore_ros.evaluate.methods import CLEAN, Image, Method
from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.evaluate.scores import Score, Scores
from unirestore_ros.evaluate.table import Row, make_row
from unirestore_ros.train.data import Annotation
from unirestore_ros.train.findings import Finding, figures_of
from unirestore_ros.train.prepare import read_photograph


def score_all(
    files: Sequence[Path],
    methods: Mapping[str, Method],
    conditions: Conditions,
    machine: Machine | None,
    notes: Mapping[str, Annotation],
    judges: Mapping[str, Machine] | None = None,
) -> Scores:
    """On clean input every method but ``degraded``; on each corruption every one but ``clean``.

    ``judges``: machines of their own for the methods that have one, in place of ``machine``.
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
            looks = Looks(clean, notes.get(file.stem))
            for name, method in methods.items():
                if name == left_out:
                    continue
                judge = (judges or {}).get(name, machine)
                for task, image in method(frame).items():
                    score = scores.setdefault((name, task, corruption), Score())
                    looks.add(score, image, judge)
            bar.update()
    bar.close()
    return scores


class Looks:
    """What eye and machine see in what is made of one frame; equal images are looked at once."""

    def __init__(self, clean: Image, note: Annotation | None) -> None:
        self._clean, self._note = clean, note
        self._fidelities: dict[bytes, dict[str, float]] = {}
        self._findings: dict[tuple[Machine, bytes], Finding] = {}

    def add(self, score: Score, image: Image, machine: Machine | None) -> None:
        pixels = image.tobytes()
        if pixels not in self._fidelities:
            self._fidelities[pixels] = _fidelity(image, self._clean)
        score.eye.append(self._fidelities[pixels])
        if machine is None or self._note is None:
            return
        if (machine, pixels) not in self._findings:
            self._findings[machine, pixels] = machine.look(image, self._note)
        score.machine.append(self._findings[machine, pixels])


def _fidelity(image: Image, clean: Image) -> dict[str, float]:
    from skimage.metrics import structural_similarity

    similarity = structural_similarity(image, clean, channel_axis=2, data_range=255)
    return {"psnr": psnr(image, clean), "ssim": float(similarity)}


def rows_of(scores: Scores, conditions: Conditions) -> list[Row]:
    return [
        make_row(
            method,
            task,
            corruption,
            None if corruption is None else conditions.severity,
            score.eye,
            figures_of(score.machine),
        )
        for (method, task, corruption), score in scores.items()
    ]
