"""The manifest of a bundle: what it was built from, for what, and the hash of every file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from unirestore_ros.engine import fields
from unirestore_ros.engine.working_size import FrameSizes, Size, SizeRule
from unirestore_ros.tasks import check_task_name, long_name

FORMAT_VERSION = 2
PARTS = ("trunk", "decoder", "adapter")
COMPILED = ("tensorrt", "tensorrt_rtx")
"""The backends whose parts are compiled from ONNX files beside them."""
BACKENDS = (*COMPILED, "torch", "onnxruntime")
"""In the order in which ``auto`` tries them."""
SUFFIXES = {"tensorrt": ".onnx", "tensorrt_rtx": ".onnx", "torch": ".pt2", "onnxruntime": ".onnx"}
"""Suffix of the parts\' files, by backend."""
ENGINE_SUFFIX = ".engine"
"""Suffix of what TensorRT compiles: a plain engine, which NVIDIA's own tools read."""
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
PROMPTS_FILE = "prompts.safetensors"
REFERENCE_FRAME, REFERENCE_SAMPLES = "reference/frame.png", "reference/samples.safetensors"
"""What every compiled backend is compared with when it is loaded."""
MAX_CHANNELS = 128
"""Most channels of a published feature map: OpenCV 5's limit."""
MAX_FEATURE_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class BackendInfo:
    """Version of the run-time that a backend was built with; its GPU where it is bound to one.

    All None: for TensorRT, exported and not compiled yet. TensorRT for RTX has no one GPU and one
    or more compute capabilities, such as "8.6, 8.9".
    """

    version: str | None
    gpu: str | None = None
    compute_capability: str | None = None


@dataclasses.dataclass(frozen=True)
class HeadInfo:
    """An example consumer, ``heads/TASK.onnx``: stride of its features, names of its classes."""

    stride: int
    classes: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Every field of ``manifest.json``. Sizes are (width, height) in pixels."""

    format_version: int = FORMAT_VERSION
    name: str
    model: str
    recipe: str
    """Path of the recipe below the repository: what ``build`` makes this bundle from."""
    weights_sha256: str
    steps: int
    working_size: Size
    """The working size that the bundle was measured with; its pixels are the budget of others."""
    shorter_side: int | None
    """The shorter side of every working size; None: the budget of pixels alone counts."""
    multiple: int
    """What the network divides by: working sizes are padded to multiples of it."""
    least_side: int
    """Shortest side of a frame, in pixels: under it the model has nothing to normalise over."""
    strides: tuple[int, ...]
    """The strides at which the model has an adapter, coarsest first."""
    channels: tuple[int, ...]
    """The model's feature channels at each of ``strides``, before a projection."""
    stride: int
    """The stride that the adapter was built at."""
    feature_channels: int
    """Channels of every published feature map."""
    prompt_shape: tuple[int, int]
    """(T, C)."""
    tasks: tuple[str, ...]
    detail_gain: bool
    """Whether the decoder also returns how much of the camera's detail to keep."""
    precision: Mapping[str, str]
    """By part."""
    largest_activation: Mapping[str, float | None]
    """By part: the largest absolute value seen on real frames; None where it was not measured."""
    backends: Mapping[str, BackendInfo]
    reference_db: float = 35.0
    """How near the outputs of a compiled backend must come to the reference: PSNR in dB."""
    heads: Mapping[str, HeadInfo] = dataclasses.field(default_factory=dict)
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """SHA-256 by path below the bundle; ``write_bundle`` fills it."""

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read and check a manifest field by field; ValueError starts with the field's name."""
        try:
            values = json.loads(text, object_pairs_hook=_without_duplicates)
        except json.JSONDecodeError as error:
            raise ValueError(f"not JSON: {error}") from None
        if isinstance(values, dict) and "format_version" in values:
            _check_format(values["format_version"])
        return cls(**_READ(values))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @property
    def sizes(self) -> SizeRule:
        """Return the rule by which the working size of a frame is chosen."""
        return SizeRule(
            self.working_size,
            self.shorter_side,
            max(self.strides),
            self.multiple,
            self.least_side,
        )

    def feature_shape(self, sizes: FrameSizes) -> tuple[int, int, int]:
        """Return (h, w, c) of the feature maps that are published for such frames."""
        width, height = sizes.feature_size(self.stride)
        return height, width, self.feature_channels

    def check_consistent(self) -> None:
        """Check that the fields fit each other; ValueError starts with the name of one that does
        not."""
        if any(side % max(self.strides) for side in self.working_size):
            raise ValueError(
                f"working_size: sides must be multiples of {max(self.strides)}, "
                f"are {self.working_size}"
            )
        if self.multiple % max(self.strides):
            raise ValueError(f"multiple: must be one of {max(self.strides)}, is {self.multiple}")
        try:
            self.sizes.sizes_for(self.working_size)
        except ValueError as error:
            raise ValueError(f"working_size: {error}") from error
        self._check_features()
        self._check_backends()
        self._check_files()

    def _check_features(self) -> None:
        if len(self.channels) != len(self.strides):
            raise ValueError(f"channels: must be one for each of {self.strides}")
        if self.stride not in self.strides:
            raise ValueError(f"stride: must be one of {self.strides}, is {self.stride}")
        most = self.channels[self.strides.index(self.stride)]
        if self.feature_channels > most:
            raise ValueError(f"feature_channels: at most {most}, is {self.feature_channels}")
        width, height = self.working_size
        size = 4 * (width // self.stride) * (height // self.stride) * self.feature_channels
        if size > MAX_FEATURE_BYTES:
            raise ValueError(f"feature_channels: {size} bytes a map are over {MAX_FEATURE_BYTES}")

    def _check_backends(self) -> None:
        for name, info in self.backends.items():
            bound = {info.version is None, info.compute_capability is None}
            if name == "tensorrt":
                bound.add(info.gpu is None)
            if name in COMPILED and len(bound) > 1:
                raise ValueError(
                    f"backends.{name}: version, gpu and compute_capability belong together"
                )
            if name not in COMPILED and info.version is None:
                raise ValueError(f"backends.{name}: version is missing")

    def _check_files(self) -> None:
        backends, heads = set(), set()
        reference = {REFERENCE_FRAME, REFERENCE_SAMPLES}
        if not reference.isdisjoint(self.files) or not set(COMPILED).isdisjoint(self.backends):
            for path in sorted(reference - set(self.files)):
                raise ValueError(f"files: {path} is missing")
        for path in set(self.files) - reference:
            folder, _, rest = path.partition("/")
            if folder == "heads" and rest.endswith(".onnx"):
                heads.add(rest.removesuffix(".onnx"))
            elif rest:
                backends.add(folder)
            elif path != PROMPTS_FILE:
                raise ValueError(f"files: {path} has no place in a bundle")
        if backends != set(self.backends):
            raise ValueError(f"backends: {_names(self.backends)}, but files of {_names(backends)}")
        if heads != set(self.heads):
            raise ValueError(f"heads: {_names(self.heads)}, but files of {_names(heads)}")
        for backend, info in self.backends.items():
            suffixes = [SUFFIXES[backend]]
            if backend in COMPILED and info.version is not None:
                suffixes.append(ENGINE_SUFFIX)
            for path in (f"{backend}/{part}{suffix}" for suffix in suffixes for part in PARTS):
                if path not in self.files:
                    raise ValueError(f"files: {path} is missing")


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"


def _check_format(version: Any) -> None:
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(f"format_version: this version reads {FORMAT_VERSION}, it is {version!r}")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice}: field is given twice")
    return values


def _task(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a task name, is {value!r}")
    if long_name(value) != value:
        raise ValueError(f"must be {long_name(value)!r}, is {value!r}")
    return check_task_name(value)


def _backend(value: Any) -> BackendInfo:
    readers = {
        "version": fields.optional(_LINE),
        "gpu": fields.optional(_LINE),
        "compute_capability": fields.optional(fields.text(r"\d+\.\d+(, \d+\.\d+)*", "like 8.7")),
    }
    return BackendInfo(**fields.record(readers)(value))


def _head(value: Any) -> HeadInfo:
    readers = {"stride": fields.whole(1, 64), "classes": fields.array(_LINE, distinct=True)}
    return HeadInfo(**fields.record(readers)(value))


def _for_each_part(reader: fields.Reader[Any]) -> fields.Reader[dict[str, Any]]:
    return fields.record(dict.fromkeys(PARTS, reader))


_LINE = fields.text(r"[^\x00-\x1f]{1,200}", "a line of text")
_SLUG = fields.text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", "a name of letters, digits, '.', '_', '-'")
_PATH_WORD = r"(?!\.\.?(?:/|$))[A-Za-z0-9._-]+"
_PATH = fields.text(rf"{_PATH_WORD}(/{_PATH_WORD})*", "a path inside the folder")
_SHA256 = fields.text(r"[0-9a-f]{64}", "64 hexadecimal digits")
_SIZE = fields.array(fields.whole(1, 4096), 2)

_READ = fields.record(
    {
        "format_version": fields.whole(FORMAT_VERSION, FORMAT_VERSION),
        "name": _SLUG,
        "model": _SLUG,
        "recipe": fields.text(rf"{_PATH_WORD}(/{_PATH_WORD})*\.yaml", "the path of a .yaml"),
        "weights_sha256": _SHA256,
        "steps": fields.whole(1, 4),
        "working_size": _SIZE,
        "shorter_side": fields.optional(fields.whole(64, 1088)),
        "multiple": fields.whole(1, 256),
        "least_side": fields.whole(1, 1024),
        "strides": fields.array(fields.whole(1, 64), distinct=True),
        "channels": fields.array(fields.whole(1, 4096)),
        "stride": fields.whole(1, 64),
        "feature_channels": fields.whole(1, MAX_CHANNELS),
        "prompt_shape": fields.array(fields.whole(1, 4096), 2),
        "tasks": fields.array(_task, distinct=True),
        "detail_gain": fields.flag,
        "precision": _for_each_part(fields.one_of(PRECISIONS)),
        "largest_activation": _for_each_part(fields.optional(fields.number(0.0, 1e9))),
        "reference_db": fields.number(10.0, 200.0),
        "backends": fields.table(fields.one_of(BACKENDS), _backend),
        "heads": fields.table(_task, _head),
        "files": fields.table(_PATH, _SHA256),
    }
)
