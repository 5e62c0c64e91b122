"""The fixed 1x1 projection of features that are wider than a published map may be.

Principal components over calibration frames. They belong to the weights, not to a bundle: every
bundle of the same weights and stride must give the same features, or the heads that read them would
fit one size only. So they are made once and kept in a file beside the weights.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from unirestore_ros.engine.manifest import MAX_CHANNELS
from unirestore_ros.export.recipe import RecipeError
from unirestore_ros.files import written_beside

_log = logging.getLogger(__name__)


def projection_file(weights: Path) -> Path:
    return weights.with_name(f"{weights.stem}.projection.safetensors")


def principal_projection(features: Iterable[Tensor]) -> tuple[nn.Conv2d, float]:
    """The projection of features (1, h, w, C) onto their first components, and the share of their
    variance that it keeps."""
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
    """What was kept for these weights and this stride; None where there is nothing of it yet."""
    if not file.is_file():
        return None
    tensors, metadata = _read(file)
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
    tensors, metadata = _read(file) if file.is_file() else ({}, {})
    shares = {**json.loads(metadata.get("kept_variance", "{}")), str(stride): round(kept, 6)}
    new = {f"{stride}.{name}": tensor for name, tensor in projection.state_dict().items()}
    notes = {"weights_sha256": weights_sha256, "kept_variance": json.dumps(shares)}
    with written_beside(file) as beside:
        save_file({**tensors, **new}, beside, notes)


def _read(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(file, framework="pt") as stream:
        return {n: stream.get_tensor(n) for n in stream.keys()}, stream.metadata() or {}  # noqa: SIM118
