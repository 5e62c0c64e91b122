"""How much a task's prompt changes what the adapters give: the task claim stands or falls by it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unirestore_ros.evaluate.methods import Image
from unirestore_ros.model import UniRestore
from unirestore_ros.model.unirestore import pad_to_multiple
from unirestore_ros.tasks import long_name
from unirestore_ros.train.data import to_tensor


@torch.inference_mode()
def prompt_changes(network: UniRestore, frames: Sequence[Image]) -> list[dict[str, Any]]:
    """For each task and adapter, ``change``: the norm of the difference of its output x' with the
    task's prompt and with perception's, over the norm of the latter; mean over ``frames``."""
    device = next(network.parameters()).device
    changes: dict[tuple[str, int], list[float]] = {}
    for frame in frames:
        z0, skips = network.encode(
            pad_to_multiple(to_tensor([frame], device), network.config.multiple)
        )
        zt = network.denoise(z0)
        for stride in network.config.tfa.strides:
            usual = network.adapt(zt, skips, "ir", stride)
            for task in network.config.tasks:
                if task != "ir":
                    moved = network.adapt(zt, skips, task, stride) - usual
                    changes.setdefault((task, stride), []).append(
                        float(moved.norm() / usual.norm())
                    )
    return [
        {"task": long_name(task), "against": "perception", "stride": stride,
         "change": round(float(np.mean(values)), 6)}
        for (task, stride), values in changes.items()
    ]  # fmt: skip
