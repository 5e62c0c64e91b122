"""What the backends share: the tensors that the parts exchange, checked when they are pinned."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn, Protocol

from unirestore_ros.engine.bundle import Bundle, BundleError
from unirestore_ros.engine.working_size import Size

GAIN = "detail_gain"
"""Name of the decoder's second output."""
IMAGE_DECODER = "decoder_image"
"""Name of the decoder's graph without that output."""
DIMENSION_PARTS = (1, 2, 4, 8, 16, 32, 64)
"""Strides of the tensors that the parts exchange."""
_SIBLINGS = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Type of a tensor, by NumPy's name or bfloat16, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.dtype} of shape {self.shape}"


TensorSpecs = Mapping[str, TensorSpec]
"""By the tensor's name."""


class PartFile:
    """The file of a part: refusals name it, and the command that fixes it."""

    def __init__(self, bundle: Bundle, path: str) -> None:
        self.bundle, self.path = bundle, path

    def refuse(self, problem: str) -> NoReturn:
        raise BundleError(
            f"bundle {self.bundle.folder}: {self.path}: {problem}", self.bundle.build_command()
        )

    def check_tensor(self, name: str, tensors: TensorSpecs, wanted: TensorSpec) -> None:
        """Check that the part has an input or output of that name, as the manifest has it."""
        if name not in tensors:
            self.refuse(f"{name} is not among its {', '.join(tensors) or 'tensors'}")
        if tensors[name] != wanted:
            self.refuse(f"{name} is {tensors[name]}, must be {wanted}")

    def check_inputs(self, inputs: TensorSpecs, sources: TensorSpecs) -> None:
        """Check that every input has a source of its name, type and shape."""
        for name, wanted in inputs.items():
            if name not in sources:
                self.refuse(f"its input {name} is none of {', '.join(sources)}")
            if sources[name] != wanted:
                self.refuse(f"its input {name} is {wanted}, but comes as {sources[name]}")


class LoadedPart(Protocol):
    """A part of a bundle as a backend has loaded it, pinned to a working size."""

    @property
    def file(self) -> PartFile: ...

    @property
    def inputs(self) -> TensorSpecs: ...

    @property
    def outputs(self) -> TensorSpecs: ...


@dataclasses.dataclass(frozen=True)
class EdgeSpecs:
    """The tensors that a backend exchanges with the engine, at a padded working size."""

    image: TensorSpec
    """The spec of frame and image: (1, h, w, 3) uint8 RGB."""
    gain: TensorSpec | None
    """(1, h, w, 1) float32; None where the decoder predicts no detail gain."""
    features: TensorSpec
    """(1, h/s, w/s, c) float32."""
    prompt: TensorSpec
    """(1, T, C) float32."""

    @property
    def decoded(self) -> dict[str, TensorSpec]:
        """Return the decoder's outputs by name."""
        return {"image": self.image} | ({GAIN: self.gain} if self.gain else {})


def decoder_part(bundle: Bundle, gain: bool) -> str:
    """Name the decoder's graph in ``onnxruntime/``: without the detail gain where that is not
    needed and the bundle has such a graph."""
    has_both = f"onnxruntime/{IMAGE_DECODER}.onnx" in bundle.manifest.files
    return IMAGE_DECODER if has_both and not gain else "decoder"


def edge_specs(bundle: Bundle, size: Size, gain: bool = True) -> EdgeSpecs:
    """Return what the parts must take and give at a padded working size (width, height);
    ``gain``: whether the decoder that is used predicts it, where the network does."""
    manifest, (width, height) = bundle.manifest, size
    stride = manifest.stride
    shape = (1, height // stride, width // stride, manifest.feature_channels)
    return EdgeSpecs(
        TensorSpec("uint8", (1, height, width, 3)),
        TensorSpec("float32", (1, height, width, 1)) if gain and manifest.detail_gain else None,
        TensorSpec("float32", shape),
        TensorSpec("float32", (1, *manifest.prompt_shape)),
    )


def check_trunk(trunk: LoadedPart, edges: EdgeSpecs) -> dict[str, TensorSpec]:
    """Check what the trunk reads; return all that decoder and adapter may read, by name."""
    trunk.file.check_tensor("frame", trunk.inputs, edges.image)
    trunk.file.check_inputs(trunk.inputs, {"frame": edges.image})
    return {"frame": edges.image, "prompt": edges.prompt, **trunk.outputs}


def check_decoder(decoder: LoadedPart, edges: EdgeSpecs, sources: TensorSpecs) -> None:
    for name, spec in edges.decoded.items():
        decoder.file.check_tensor(name, decoder.outputs, spec)
    decoder.file.check_inputs(decoder.inputs, sources)


def check_adapter(adapter: LoadedPart, edges: EdgeSpecs, sources: TensorSpecs) -> None:
    adapter.file.check_tensor("features", adapter.outputs, edges.features)
    adapter.file.check_inputs(adapter.inputs, sources)


def dimension_sizes(size: Size) -> dict[str, int]:
    """Return the sizes of the graphs' symbolic dimensions at a padded working size.

    `height/4` is a quarter of the height, as the exporter names it.
    """
    return {
        f"{name}/{part}": side // part
        for name, side in zip(("width", "height"), size, strict=True)
        for part in DIMENSION_PARTS
        if side % part == 0
    }


def physical_cores() -> int:
    """Count the cores that this process may run on, hyper-threads of one core once."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(_SIBLINGS.format(cpu))
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return len(cores)
