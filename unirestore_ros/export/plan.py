"""Plan a bundle: its parts as modules, the precision of each, and the projection of wide features.

The projection is a fixed 1x1 convolution where features are wider than a published map may be: the
principal components over calibration frames. It belongs to the weights, not to a bundle: every
bundle of the same weights and stride must give the same features, or the heads that read them would
fit one bundle only. So it is made once and kept in a file beside the weights.
"""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from unirestore_ros.engine.manifest import MAX_CHANNELS, PARTS
from unirestore_ros.export.measure import Frame, Measured, choose_precision, run
from unirestore_ros.export.parts import Adapter, Decoder, Part, Trunk
from unirestore_ros.export.precision import DTYPES, in_precision
from unirestore_ros.export.recipe import Recipe, RecipeError
from unirestore_ros.export.rewrites import folded
from unirestore_ros.files import written_beside
from unirestore_ros.model import UniRestore
from unirestore_ros.tasks import long_name, short_name

_log = logging.getLogger(__name__)


class Plan:
    """A network, cut and cast as a recipe says. ``explicit`` parts have their casts and their
    attention written out, for compilers; the others leave them to PyTorch's kernels."""

    def __init__(self, network: UniRestore, recipe: Recipe) -> None:
        _check(network, recipe)
        self.recipe, self.config = recipe, network.config
        self.prompts = {
            task: network.prompts[short_name(task)].detach().float()
            for task in recipe.tasks or map(long_name, network.config.tasks)
        }
        self.channels = network.config.tfa.feature_channels[network.level_of(recipe.stride)]
        self.projection: nn.Conv2d | None = None
        self._network = folded(network.eval())
        self._cast = functools.cache(functools.partial(in_precision, self._network))

    def part(self, part: str, precision: str, explicit: bool = True) -> Part:
        network, recipe, dtype = self._cast(precision, explicit), self.recipe, DTYPES[precision]
        if part == "trunk":
            return Trunk(network, dtype, recipe.steps).eval()
        if part == "decoder":
            return Decoder(network, dtype).eval()
        return Adapter(network, dtype, recipe.stride, self.projection).eval()

    def parts(self, precision: Mapping[str, str], explicit: bool) -> dict[str, Part]:
        return {part: self.part(part, precision[part], explicit) for part in PARTS}

    def measured(self, frames: Sequence[Frame] | None) -> Measured:
        """Measured on the frames; without frames the recipe's precision is taken at its word."""
        if frames is None:
            unknown: dict[str, float | None] = dict.fromkeys(PARTS)
            return Measured(dict.fromkeys(PARTS, self.recipe.precision), unknown, unknown)
        prompts = [prompt[None] for prompt in self.prompts.values()]
        return choose_precision(self.recipe.precision, self.part, prompts, frames)

    @torch.no_grad()
    def sample(self, trunk: Part) -> dict[str, Tensor]:
        """Make a tensor of the right shape and type for every input of every part.

        Exporting reads no values, so the trunk is traced and not run: half precision on a CPU takes
        a quarter of an hour for the published size.
        """
        multiple = self.config.multiple
        # torch.export takes a size of 1 for a constant.
        width, height = (
            max(-(-side // multiple), 2) * multiple for side in self.recipe.working_size
        )
        frame = torch.zeros((1, height, width, 3), dtype=torch.uint8)
        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            traced = run(trunk, {"frame": mode.from_tensor(frame)})
        made = {name: torch.zeros(t.shape, dtype=t.dtype) for name, t in traced.items()}
        return {"frame": frame, "prompt": next(iter(self.prompts.values()))[None], **made}

    @torch.inference_mode()
    def reference(self, frame: Frame) -> dict[str, NDArray[np.generic]]:
        """Run the parts in float32 on a frame (h, w, 3) uint8 RGB with the first task's prompt.

        By name: the image, the features and what the trunk gives, each with a first side of 1.
        """
        given = {"frame": torch.from_numpy(frame)[None]}
        made = run(self.part("trunk", "fp32"), given)
        given |= {**made, "prompt": next(iter(self.prompts.values()))[None]}
        made["image"] = run(self.part("decoder", "fp32"), given)["image"]
        made["features"] = run(self.part("adapter", "fp32"), given)["features"]
        return {name: tensor.numpy() for name, tensor in made.items()}

    def narrow(self, weights_sha256: str, frames: Sequence[Frame]) -> None:
        """Project features that are too wide to be published, as was done for these
        weights before, or by principal components over the frames."""
        if self.channels <= MAX_CHANNELS:
            return
        file = projection_file(self.recipe.weights)
        self.projection = read_projection(file, weights_sha256, self.recipe.stride)
        if self.projection is None:
            _log.info("projecting %d channels of features onto %d", self.channels, MAX_CHANNELS)
            self.projection, kept = self._principal(frames)
            keep_projection(file, weights_sha256, self.recipe.stride, self.projection, kept)
        self.channels = MAX_CHANNELS

    @torch.inference_mode()
    def _principal(self, frames: Sequence[Frame]) -> tuple[nn.Conv2d, float]:
        trunk, adapter = self.part("trunk", "fp32"), self.part("adapter", "fp32")
        made = (run(trunk, {"frame": torch.from_numpy(frame)[None]}) for frame in frames)
        return principal_projection(
            run(adapter, {**tensors, "prompt": prompt[None]})["features"]
            for tensors in made
            for prompt in self.prompts.values()
        )


def _check(network: UniRestore, recipe: Recipe) -> None:
    strides, model = network.config.tfa.strides, network.config.name
    if recipe.model not in (None, model):
        raise RecipeError(f"{recipe.file}: model is {recipe.model}, but the weights are of {model}")
    if any(side % max(strides) for side in recipe.working_size):
        raise RecipeError(
            f"{recipe.file}: working_size must have sides that are multiples of {max(strides)}"
        )
    if recipe.steps > 1 and network.denoiser is None:
        raise RecipeError(
            f"{recipe.file}: steps must be 1, is {recipe.steps}: the weights have no denoiser"
        )
    if recipe.stride not in strides:
        raise RecipeError(f"{recipe.file}: stride must be one of {strides}, is {recipe.stride}")
    known = [long_name(task) for task in network.config.tasks]
    for task in recipe.tasks or ():
        if task not in known:
            raise RecipeError(f"{recipe.file}: tasks: the weights have {known}, not {task!r}")


def projection_file(weights: Path) -> Path:
    return weights.with_name(f"{weights.stem}.projection.safetensors")


def principal_projection(features: Iterable[Tensor]) -> tuple[nn.Conv2d, float]:
    """Project features (1, h, w, C) onto their first components; returns the projection and what
    share of their variance it keeps."""
    count, total, products = 0, torch.zeros(()), torch.zeros(())
    for pixels in (tensor.flatten(0, 2).double() for tensor in features):
        count += pixels.shape[0]
        total, products = total + pixels.sum(0), products + pixels.T @ pixels
    mean = total / count
    values, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    kept = vectors[:, -MAX_CHANNELS:].flip(1).T
    kept = kept * kept.gather(1, kept.abs().argmax(1, keepdim=True)).sign()
    conv = nn.Conv2d(kept.shape[1], kept.shape[0], 1).requires_grad_(False)
    conv.weight.copy_(kept[..., None, None])
    assert conv.bias is not None
    conv.bias.copy_(-kept @ mean)
    return conv, float(values[-MAX_CHANNELS:].sum() / values.sum())


def read_projection(file: Path, weights_sha256: str, stride: int) -> nn.Conv2d | None:
    """Read what was kept for these weights and this stride; None where nothing was kept yet."""
    if not file.is_file():
        return None
    tensors, metadata = _read_projections(file)
    if metadata.get("weights_sha256") != weights_sha256:
        raise RecipeError(f"{file}: it was made for other weights; delete it to have it made anew")
    if f"{stride}.weight" not in tensors:
        return None
    weight = tensors[f"{stride}.weight"]
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1).requires_grad_(False)
    conv.load_state_dict({"weight": weight, "bias": tensors[f"{stride}.bias"]})
    return conv


def keep_projection(
    file: Path, weights_sha256: str, stride: int, projection: nn.Conv2d, kept: float
) -> None:
    """Add it to the file, with the share of the variance that it keeps."""
    _log.info("projection at stride %d keeps %.2f %% of the variance", stride, 100 * kept)
    tensors, metadata = _read_projections(file) if file.is_file() else ({}, {})
    shares = {**json.loads(metadata.get("kept_variance", "{}")), str(stride): round(kept, 6)}
    new = {f"{stride}.{name}": tensor for name, tensor in projection.state_dict().items()}
    notes = {"weights_sha256": weights_sha256, "kept_variance": json.dumps(shares)}
    with written_beside(file) as beside:
        save_file({**tensors, **new}, beside, notes)


def _read_projections(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(file, framework="pt") as stream:
        return {n: stream.get_tensor(n) for n in stream.keys()}, stream.metadata() or {}  # noqa: SIM118
