"""What machines make of an image: frozen downstream networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unirestore_ros.train.data import Annotation, Image, to_tensor
from unirestore_ros.train.findings import Finding, finding
from unirestore_ros.train.losses import STRIDE
from unirestore_ros.train.task_networks import box_crops, load_task_networks


class Machine:
    """Segmentation, detection and classification networks, trained on clean images."""

    def __init__(self, file: Path) -> None:
        self._networks = load_task_networks(file)

    @torch.inference_mode()
    def look(self, image: Image, note: Annotation) -> Finding:
        """RGB (H, W, 3) uint8 and its annotation."""
        networks = self._networks
        images = to_tensor([image], torch.device("cpu"))
        labels = networks.segmenter(images).argmax(1)[0].numpy()
        heat, boxes = (maps[0].numpy() for maps in networks.detector.detect(images))
        crops, kinds = box_crops(images, [torch.from_numpy(note.boxes)])
        told = networks.classifier(crops).argmax(1) == kinds if len(kinds) else kinds.bool()
        return finding(labels, heat, boxes * STRIDE, note, told.numpy())

    @torch.inference_mode()
    def response(self, image: Image) -> NDArray[np.float32]:
        """Mean absolute activation (h, w) of the segmentation network's last features."""
        images = to_tensor([image], torch.device("cpu"))
        features: NDArray[np.float32] = (
            self._networks.segmenter.backbone(images)[0].abs().mean(0).numpy()
        )
        return features
