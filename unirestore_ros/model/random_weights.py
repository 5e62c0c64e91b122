"""A network of any configuration with random weights, to measure where there are no trained ones.

The weights are scaled so that signals neither die nor grow: what is measured of precision on them
says something, though not what it would be on trained ones.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unirestore_ros.model.autoencoder import TinyAutoencoder
from unirestore_ros.model.config import Config
from unirestore_ros.model.denoiser import alphas_cumprod, stored_noise
from unirestore_ros.model.notch import PhaseNotch
from unirestore_ros.model.unirestore import UniRestore

BRANCH_SCALE = 0.3
"""Of NAFBlocks' residual branches, which training starts at zero."""
PROMPT_SCALE = 3.0


@torch.no_grad()
def random_network(config: Config, seed: int = 0) -> UniRestore:
    """The network in float32, in evaluation mode; the same for one seed and version of torch."""
    with torch.device("meta"):
        network = UniRestore(config)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    normalised = {
        id(module.weight)
        for module in network.modules()
        if isinstance(module, nn.GroupNorm | nn.LayerNorm)
    }
    for name, parameter in network.named_parameters():
        if id(parameter) in normalised:
            parameter.fill_(1)
        else:
            parameter.normal_(0, _scale(name, parameter), generator=generator)
    if network.null_embedding is not None:
        network.null_embedding.normal_(generator=generator)
    network.alphas, network.noise = alphas_cumprod(), stored_noise()
    if isinstance(network.autoencoder, TinyAutoencoder):
        network.autoencoder.notch = PhaseNotch()
    return network.eval().requires_grad_(False)


def _scale(name: str, parameter: Tensor) -> float:
    """Standard deviation: one over the root of the inputs, so that a layer keeps the variance."""
    if name.startswith("prompts."):
        return PROMPT_SCALE
    if name.endswith((".beta", ".gamma")):
        return BRANCH_SCALE
    if parameter.ndim < 2:
        return 0.02
    return 1 / math.sqrt(parameter[0].numel())
