"""What is compared: a method makes of a degraded RGB frame (H, W, 3) uint8 one or more others, each
under the task whose prompt made it (None: made without a prompt)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unirestore_ros import classical
from unirestore_ros.model import UniRestore
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.model.weights import load_weights
from unirestore_ros.tasks import long_name

Image = NDArray[np.uint8]
Method = Callable[[Image], Mapping[str | None, Image]]

CLEAN = "clean"
NAMES = (CLEAN, "degraded", "classical", "unirestore")


def make_methods(names: tuple[str, ...], weights: Path) -> Mapping[str, Method]:
    """The methods of these names; ``clean`` and ``degraded`` leave their frame as it is."""
    makers: dict[str, Callable[[], Method]] = {
        CLEAN: lambda: _unchanged,
        "degraded": lambda: _unchanged,
        "classical": lambda: _classical,
        "unirestore": lambda: _restorer(load_weights(weights)),
    }
    return {name: makers[name]() for name in names}


def _unchanged(frame: Image) -> Mapping[str | None, Image]:
    return {None: frame}


def _classical(frame: Image) -> Mapping[str | None, Image]:
    """One classical method an image, chosen by the rule of ``classical.choose``."""
    return {None: classical.METHODS[classical.choose(frame)](frame)}


def _restorer(network: UniRestore) -> Method:
    """One image for each of the network's prompts."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def restore(frame: Image) -> Mapping[str | None, Image]:
        height, width = frame.shape[:2]
        images = torch.from_numpy(frame.copy()).to(device).permute(2, 0, 1)[None].float() / 255
        z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
        zt = network.denoise(z0)
        made: dict[str | None, Image] = {}
        for task in network.config.tasks:
            image = network.decode(zt, skips, task)[0, :, :height, :width].clamp(0, 1) * 255
            made[long_name(task)] = image.round().byte().permute(1, 2, 0).cpu().numpy()
        return made

    return restore
