"""The head of a bundle for a task: it makes labels or boxes of adapted features."""

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
        self._content, self._threads = bundle.read(path), threads
        sizes = self.manifest.sizes.sizes_for(self.manifest.working_size)
        try:
            self._pin(self.manifest.feature_shape(sizes))
        except ORT_ERRORS as error:
            problem = f"bundle {bundle.folder}: {path}: {error}"
            raise BundleError(problem, bundle.build_command()) from error

    @property
    def classes(self) -> tuple[str, ...]:
        return self.manifest.heads[self.task].classes

    def run(self, features: Array) -> dict[str, Array]:
        """Compute the outputs of features (h, w, c), without the batch axis.

        Maps of any height and width are taken; another size than the last costs a moment once.
        ValueError for another number of channels.
        """
        if features.ndim != 3 or features.shape[2] != self.manifest.feature_channels:
            raise ValueError(
                f"the head of {self.manifest.name} for {self.task} takes features of"
                f" {self.manifest.feature_channels} channels, not {features.shape}: give it the"
                " bundle that restore_node runs"
            )
        try:
            if features.shape != self._shape:
                self._pin(features.shape)
            made = self._session.run(self._outputs, {"features": features[None]})
        except (RuntimeError, *ORT_ERRORS) as error:
            raise InferenceError(f"heads/{self.task}.onnx: {error}") from error
        return {name: array[0] for name, array in zip(self._outputs, made, strict=True)}

    def _pin(self, shape: tuple[int, ...]) -> None:
        """Load the graph for maps of one shape: it then runs as fast as one of fixed size."""
        options = session_options(self._threads)
        for name, side in zip(("height", "width"), shape[:2], strict=True):
            options.add_free_dimension_override_by_name(name, side)
        self._session = ort.InferenceSession(self._content, options, ["CPUExecutionProvider"])
        self._outputs = [node.name for node in self._session.get_outputs()]
        self._shape = shape
