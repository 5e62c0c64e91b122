"""The methods that are compared.

A method makes one or more images of a degraded RGB frame (H, W, 3) uint8, each under the task whose
prompt made it (None: made without a prompt, or with one for all tasks).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unirestore_ros.evaluate import classical
from unirestore_ros.model import UniRestore
from unirestore_ros.model.baselines import BASELINES_FOLDER, load_baseline
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.model.weights import SHIPPED_WEIGHTS, Network, load_weights, placed
from unirestore_ros.tasks import long_name

Image = NDArray[np.uint8]
Method = Callable[[Image], Mapping[str | None, Image]]
Restorer = Callable[[Tensor], Mapping[str | None, Tensor]]
"""Restores a batch of one (1, 3, H, W) in [0, 1]; not clamped."""

CLEAN = "clean"
OURS = "unirestore"
WEIGHTS = SHIPPED_WEIGHTS / "tiny.safetensors"
PERCEPTION = "ir"


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where weights are: the restorer's file, the folder of baselines and ablations."""

    weights: Path = WEIGHTS
    baselines: Path = BASELINES_FOLDER

    def baseline(self, name: str) -> Path:
        return self.baselines / f"{name}.safetensors"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of the table of methods.

    ``trained_by``: the commands that make its file among the baselines; None: it needs none.
    ``own_networks``: that file holds task networks, which judge it in place of the usual ones.
    """

    make: Callable[[str, Sources], Method]
    trained_by: str | None = None
    own_networks: bool = False


def _unchanged(name: str, sources: Sources) -> Method:
    return lambda frame: {None: frame}


def _classical(name: str, sources: Sources) -> Method:
    """Apply the classical method that ``classical.choose`` takes for each image."""
    return lambda frame: {None: classical.METHODS[classical.choose(frame)](frame)}


def _baseline(name: str, sources: Sources) -> Method:
    """Load an image-to-image network."""
    network = _placed(load_baseline(name, sources.baseline(name)))
    return _on_frames(lambda images: {None: network(images)})


def _ours(name: str, sources: Sources) -> Method:
    """Make the restorer itself: one image for each of its prompts."""
    network = load_weights(sources.weights)
    return prompted(network, {task: long_name(task) for task in network.config.tasks})


def _variant(label: str | None) -> Callable[[str, Sources], Method]:
    """Make UniRestore in another form, with one prompt, that gives its image under ``label``."""

    def make(name: str, sources: Sources) -> Method:
        network = load_baseline(name, sources.baseline(name))
        assert isinstance(network, UniRestore)
        return prompted(network, {PERCEPTION: label})

    return make


_ABLATION = _variant(long_name(PERCEPTION))
METHODS: Mapping[str, Entry] = {
    CLEAN: Entry(_unchanged),
    "degraded": Entry(_unchanged),
    "classical": Entry(_classical),
    "nafnet": Entry(_baseline, "train nafnet"),
    "retrained": Entry(
        _unchanged, "train retrained-seg, retrained-det and retrained-cls", own_networks=True
    ),
    OURS: Entry(_ours),
    "unirestore-single-prompt": Entry(_variant(None), "train single-prompt"),
    "unirestore-control": Entry(_ABLATION, "train control"),
    "unirestore-without-cfrm": Entry(_ABLATION, "train without-cfrm"),
}
NAMES = tuple(METHODS)


def available(sources: Sources) -> tuple[str, ...]:
    """List the methods that need no weights of their own, or whose weights are there."""
    return tuple(
        name
        for name, entry in METHODS.items()
        if entry.trained_by is None or sources.baseline(name).exists()
    )


def check(names: Iterable[str], sources: Sources) -> None:
    """Raise ValueError for a name that is unknown, or one whose weights are missing."""
    for name in names:
        if name not in METHODS:
            raise ValueError(f"method {name!r} is not known: choose from {', '.join(NAMES)}")
        needed, file = METHODS[name].trained_by, sources.baseline(name)
        if needed is not None and not file.exists():
            raise ValueError(
                f"method {name!r} needs {file}, which is not there: `{needed}` makes it, "
                f"then `train export-baselines {name}`"
            )


def make_methods(names: Sequence[str], sources: Sources) -> Mapping[str, Method]:
    """Make these methods; ``clean``, ``degraded`` and ``retrained`` leave their frame."""
    return {name: METHODS[name].make(name, sources) for name in names}


def own_network_files(names: Iterable[str], sources: Sources) -> Mapping[str, Path]:
    """List the files of task networks by the methods that bring their own."""
    return {name: sources.baseline(name) for name in names if METHODS[name].own_networks}


def _placed(network: Network) -> Network:
    return placed(network, "cuda" if torch.cuda.is_available() else "cpu")


def prompted(network: UniRestore, labels: Mapping[str, str | None]) -> Method:
    """Make a method that gives one image for each prompt of ``labels``, under its label."""
    network = _placed(network)

    def restore(images: Tensor) -> Mapping[str | None, Tensor]:
        z0, skips = network.encode(pad_to_multiple(images, network.config.multiple))
        zt = network.denoise(z0)
        return {label: network.decode(zt, skips, task) for task, label in labels.items()}

    return _on_frames(restore)


def _on_frames(restore: Restorer) -> Method:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @torch.inference_mode()
    def method(frame: Image) -> Mapping[str | None, Image]:
        height, width = frame.shape[:2]
        images = torch.from_numpy(frame.copy()).to(device).permute(2, 0, 1)[None].float() / 255
        return {
            label: _to_frame(image[0, :, :height, :width])
            for label, image in restore(images).items()
        }

    return method


def _to_frame(image: Tensor) -> Image:
    pixels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return np.asarray(pixels.cpu().numpy())
