"""The head of a bundle for a task: what makes labels or boxes of adapted features."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from unirestore_ros.engine.backends.onnx_runtime import ORT_ERRORS, session_options
from unirestore_ros.engine.bundle import Bundle, BundleError, InferenceError
from unirestore_ros.engine.manifest import Manifest

Array = NDArray[np.float32]


class Head:
    """``heads/TASK.onnx`` on the CPU: features (h, w, c) float32 in, its outputs by name."""

    def __init__(self, bundle: Bundle, task: str, threads: int = 0) -> None:
        """BundleError where the bundle has no such head or it does not load."""
        self.manifest: Manifest = bundle.manifest
        self.task = task
        path = f"heads/{task}.onnx"
        if task not in self.manifest.heads:
            heads = ", ".join(self.manifest.heads) or "none"
            raise BundleError(
                f"bundle {bundle.folder}: it has no head for {task}, but {heads}",
                f"name a head in its recipe, then {bundle.build_command()}",
            )
        try:
            options = session_options(threads)
            file = str(bundle.folder / path)
            self._session = ort.InferenceSession(file, options, ["CPUExecutionProvider"])
        except ORT_ERRORS as error:
            problem = f"bundle {bundle.folder}: {path}: {error}"
            raise BundleError(problem, bundle.build_command()) from error
        self._outputs = [node.name for node in self._session.get_outputs()]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.heads[self.task].classes

    @property
    def feature_shape(self) -> tuple[int, int, int]:
        """(h, w, c) that it takes."""
        return self.manifest.feature_shape

    def run(self, features: Array) -> dict[str, Array]:
        """Outputs without the batch axis. ValueError for features of another shape."""
        if features.shape != self.feature_shape:
            raise ValueError(
                f"the head of {self.manifest.name} for {self.task} takes features"
                f" {self.feature_shape}, not {features.shape}: give it the bundle that"
                " restore_node runs"
            )
        try:
            made = self._session.run(self._outputs, {"features": features[None]})
        except (RuntimeError, *ORT_ERRORS) as error:
            raise InferenceError(f"heads/{self.task}.onnx: {error}") from error
        return {name: array[0] for name, array in zip(self._outputs, made, strict=True)}
