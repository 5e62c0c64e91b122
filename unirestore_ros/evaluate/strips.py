"""Images of an evaluation side by side: before and after, and the task network's response."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from unirestore_ros.evaluate.conditions import SHOWN_FAMILIES, degraded
from unirestore_ros.evaluate.methods import OURS, Image, Method
from unirestore_ros.evaluate.metrics import psnr
from unirestore_ros.files import written_beside
from unirestore_ros.msgs.compressed import encode_jpeg
from unirestore_ros.recordings.figure import Row, draw_figure
from unirestore_ros.train.prepare import read_photograph

CHOSEN = {
    "noise": "gaussian_noise",
    "light": "snow",
    "blur": "motion_blur",
    "validation": "spatter",
    "driving": "driving/rain",
    "mixtures": "rain_at_night",
}
"""What is shown of each family where it was measured; else the first that was."""
BRIGHTEST = 99.5
"""Percentile of the clean image's response that is drawn brightest."""
_QUALITY = 85
Response = Callable[[Image], NDArray[np.float32]]


def one_of_each_family(corruptions: Sequence[str]) -> list[str]:
    shown = []
    for family, names in SHOWN_FAMILIES.items():
        there = [name for name in names if name in corruptions]
        if there:
            shown.append(CHOSEN[family] if CHOSEN[family] in there else there[0])
    return shown


class Strips:
    """The degraded, restored and clean version of one image, for one corruption of each family."""

    def __init__(
        self, file: Path, methods: Mapping[str, Method], corruptions: Sequence[str], severity: int
    ) -> None:
        self.file = file
        self.severity = severity
        self.clean = read_photograph(file).image
        self.made: dict[str, dict[str, Mapping[str | None, Image]]] = {}
        for name in one_of_each_family(corruptions):
            frame = degraded(self.clean, name, severity, file.name)
            shown = {m: methods[m](frame) for m in ("classical", OURS) if m in methods}
            self.made[name] = {"degraded": {None: frame}, **shown}

    @property
    def about(self) -> str:
        return f"{self.file.name}, severity {self.severity}"

    def before_after(self, file: Path) -> None:
        """Draw a row a corruption: degraded, classical, ours with the perception prompt, clean."""
        columns = ["degraded", *[m for m in ("classical", OURS) if self._has(m)], "clean"]
        rows = []
        for name, made in self.made.items():
            versions = {m: _picked(images, "perception") for m, images in made.items()}
            remarks = {m: f"{psnr(p, self.clean):.2f} dB" for m, p in versions.items()}
            shown = _bgr({**versions, "clean": self.clean})
            rows.append(Row(name.replace("_", " "), remarks, shown))
        write_figure(file, draw_figure("Before and after", self.about, columns, rows))

    def activations(self, response: Response, file: Path) -> None:
        """Draw a row a corruption: the mean absolute activation of the segmentation network's
        backbone for the degraded, the restored (segmentation prompt) and the clean image, on one
        scale.
        """
        clean = response(self.clean)
        least, most = float(clean.min()), float(np.percentile(clean, BRIGHTEST))
        columns = ["degraded", *([OURS] if self._has(OURS) else []), "clean"]
        rows = []
        for name, made in self.made.items():
            maps = {m: response(_picked(made[m], "segmentation")) for m in columns if m != "clean"}
            remarks = {m: f"{_similarity(one, clean):.2f} like clean" for m, one in maps.items()}
            shown = {m: _coloured(one, least, most) for m, one in {**maps, "clean": clean}.items()}
            rows.append(Row(name.replace("_", " "), remarks, shown))
        title = "What the segmentation network responds to"
        about = f"{self.about}: mean |activation| of its last features; like clean: correlation"
        write_figure(file, draw_figure(title, about, columns, rows))

    def _has(self, method: str) -> bool:
        return any(method in made for made in self.made.values())


def _picked(images: Mapping[str | None, Image], task: str) -> Image:
    return images[task] if task in images else next(iter(images.values()))


def _bgr(versions: Mapping[str, Image]) -> dict[str, np.ndarray]:
    return {name: picture[..., ::-1] for name, picture in versions.items()}


def _similarity(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _coloured(response: NDArray[np.float32], least: float, most: float) -> np.ndarray:
    """Colour by viridis, which grows evenly in lightness."""
    level = np.clip((response - least) / max(most - least, 1e-9), 0, 1)
    return cv2.applyColorMap((255 * level).astype(np.uint8), cv2.COLORMAP_VIRIDIS)


def write_figure(file: Path, picture: np.ndarray) -> None:
    """Write a figure, (H, W, 3) uint8 BGR, as a JPEG."""
    with written_beside(file) as beside:
        beside.write_bytes(encode_jpeg(picture, _QUALITY).tobytes())
