"""What is compared: a method is a function from a degraded RGB frame (H, W, 3) uint8 to another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unirestore_ros import classical
from unirestore_ros.model import UniRestore
from unirestore_ros.model.weights import load_weights

Image = NDArray[np.uint8]
Method = Callable[[Image], Image]

CLEAN = "clean"
NAMES = (CLEAN, "degraded", "classical", "unirestore")
PROMPTS = {"unirestore": "perception"}
"""The task prompt that a method uses; the others use none."""


def make_methods(names: tuple[str, ...], weights: Path) -> Mapping[str, Method]:
    """The methods of these names; ``clean`` and ``degraded`` leave their frame as it is."""
    makers: dict[str, Callable[[], Method]] = {
        CLEAN: lambda: _unchanged,
        "degraded": lambda: _unchanged,
        "classical": lambda: _classical,
        "unirestore": lambda: _restorer(load_weights(weights)),
    }
    return {name: makers[name]() for name in names}


def _unchanged(frame: Image) -> Image:
    return frame


def _classical(frame: Image) -> Image:
    """One classical method an image, chosen by the rule of ``classical.choose``."""
    return classical.METHODS[classical.choose(frame)](frame)


def _restorer(network: UniRestore) -> Method:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def restore(frame: Image) -> Image:
        images = torch.from_numpy(frame).to(device).permute(2, 0, 1)[None].float() / 255
        restored = network.restore(images, "ir")[0].clamp(0, 1) * 255
        return restored.round().byte().permute(1, 2, 0).cpu().numpy()

    return restore
