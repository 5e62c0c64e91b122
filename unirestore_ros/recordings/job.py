"""What the restoration of a bag is, from the bag and the command line; compared on a resume."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import unirestore_ros
from unirestore_ros.engine import Engine
from unirestore_ros.engine.bundle import HASH_FILE
from unirestore_ros.files import sha256_of
from unirestore_ros.recordings.cameras import Camera
from unirestore_ros.recordings.errors import MediaError
from unirestore_ros.recordings.storage import CAMERA_INFO, COMPRESSED_IMAGE, IMAGE, files_of

# What may be asked for with --outputs.
OUTPUTS = ("image", "compressed", "features", "task_images")


class Output(NamedTuple):
    """A topic that is made: its name, its type, the camera it is made of, and how."""

    topic: str
    kind: str
    camera: int
    what: str
    """``image``, ``compressed``, ``camera_info``, ``features``, ``feature_info``, ``task_image``"""
    task: str = ""


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says of how bags are restored."""

    bundle: str = "tiny"
    backend: str = "auto"
    device_id: int = 0
    threads: int = 0
    topics: tuple[str, ...] = ()
    cameras: str = ""
    node: str = "unirestore"
    tasks: tuple[str, ...] | None = None
    outputs: tuple[str, ...] = ()
    fit: bool = False
    jpeg_quality: int = 90
    storage: str = ""
    every_s: float = 10.0
    anew: bool = False


@dataclasses.dataclass(frozen=True)
class Job:
    """One bag's restoration: everything that its result depends on."""

    folder: Path
    cameras: tuple[Camera, ...]
    outputs: tuple[Output, ...]
    storage: str
    fit: bool
    jpeg_quality: int
    bundle: str
    backend: str

    @property
    def frames(self) -> int:
        """Images of all its cameras."""
        return sum(camera.messages for camera in self.cameras)

    def identity(self) -> dict[str, Any]:
        """What another run must share with this one to go on where it stopped."""
        return {
            "version": unirestore_ros.__version__,
            "input": {
                "metadata": sha256_of(self.folder / "metadata.yaml"),
                **files_of(self.folder),
            },
            "cameras": [[camera.topic, camera.namespace] for camera in self.cameras],
            "outputs": [[output.topic, output.what] for output in self.outputs],
            "storage": self.storage,
            "fit": self.fit,
            "jpeg_quality": self.jpeg_quality,
            "bundle": self.bundle,
            "backend": self.backend,
        }

    def text(self) -> str:
        return json.dumps(self.identity(), sort_keys=True)


def differences(one: str, other: str) -> list[str]:
    """The fields in which two identities, as texts, are not the same."""
    first, second = json.loads(one), json.loads(other)
    return sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))


def make_job(
    folder: Path, cameras: Sequence[Camera], engine: Engine, options: Options, storage: str
) -> Job:
    """MediaError where the bundle has no such task, or does not take a camera's size."""
    _check_sizes(cameras, engine, options.fit)
    tasks = _tasks(engine, options.tasks)
    outputs = [
        output
        for number, camera in enumerate(cameras)
        for output in _outputs_of(number, camera, tasks, options)
    ]
    return Job(
        folder=folder,
        cameras=tuple(cameras),
        outputs=tuple(outputs),
        storage=storage,
        fit=options.fit,
        jpeg_quality=options.jpeg_quality,
        bundle=sha256_of(engine.bundle.folder / HASH_FILE),
        backend=engine.backend,
    )


def _check_sizes(cameras: Sequence[Camera], engine: Engine, fit: bool) -> None:
    for camera in cameras:
        if camera.size != engine.input_size and not fit:
            sends, takes = ("{}x{}".format(*size) for size in (camera.size, engine.input_size))
            command = engine.bundle.build_command("--size", sends)
            raise MediaError(
                f"{camera.topic} sends {sends}, the bundle {engine.bundle.name} takes {takes}:"
                f" build one for it ({command}), or say --fit to have the frames scaled and"
                f" cropped to {takes}"
            )


def _tasks(engine: Engine, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """As restore_node: segmentation and detection, where the bundle has them."""
    if wanted is None:
        return tuple(task for task in ("segmentation", "detection") if task in engine.tasks)
    for task in wanted:
        if task not in engine.tasks:
            raise MediaError(
                f"the bundle {engine.bundle.name} has no task {task!r}: {', '.join(engine.tasks)}"
            )
    return tuple(wanted)


def _outputs_of(
    number: int, camera: Camera, tasks: Sequence[str], options: Options
) -> list[Output]:
    """The topics that restore_node would publish for that camera."""
    picture = "compressed" if camera.compressed else "image"
    wanted = options.outputs or (picture, "features")
    root = f"{camera.namespace}/{options.node}"
    outputs = []
    if "image" in wanted:
        outputs.append(Output(f"{root}/image", IMAGE, number, "image"))
    if "compressed" in wanted:
        outputs.append(Output(f"{root}/image/compressed", COMPRESSED_IMAGE, number, "compressed"))
    if camera.info_topic is not None and outputs:
        outputs.append(Output(f"{root}/camera_info", CAMERA_INFO, number, "camera_info"))
    for task in tasks:
        place = f"{root}/{task}"
        if "features" in wanted:
            outputs.append(Output(f"{place}/features", IMAGE, number, "features", task))
            if camera.info_topic is not None:
                info = f"{place}/camera_info"
                outputs.append(Output(info, CAMERA_INFO, number, "feature_info", task))
        if "task_images" in wanted:
            outputs.append(Output(f"{place}/image", IMAGE, number, "task_image", task))
    return outputs
