"""Describe the restoration of a bag, from bag and command line; compared when one is resumed."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import unirestore_ros
from unirestore_ros.engine import Engine
from unirestore_ros.engine.bundle import HASH_FILE
from unirestore_ros.files import sha256_of
from unirestore_ros.recordings import RecordingError
from unirestore_ros.recordings.bag_metadata import FILE_NAME
from unirestore_ros.recordings.cameras import BagCamera, add_assume_encoding
from unirestore_ros.recordings.restore import add_engine_arguments
from unirestore_ros.recordings.storage import (
    CAMERA_INFO,
    COMPRESSED_IMAGE,
    IMAGE,
    STORAGES,
    files_of,
)

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
    assume_encoding: str = ""
    jpeg_quality: int = 90
    storage: str = ""
    every_s: float = 10.0
    anew: bool = False

    def words(self) -> tuple[str, ...]:
        """Write the options as the command line has them."""
        words: list[str] = []
        for field in dataclasses.fields(self):
            flag = "--" + _FLAGS.get(field.name, field.name.replace("_", "-"))
            value = getattr(self, field.name)
            if value == field.default:
                continue
            if isinstance(value, bool):
                words.append(flag)
            elif field.name == "topics":
                words += [f"{flag}={topic}" for topic in value]
            else:
                words.append(f"{flag}={','.join(value) if isinstance(value, tuple) else value}")
        return tuple(words)


# Options whose name on the command line is another.
_FLAGS = {"device_id": "device", "topics": "topic", "node": "name", "every_s": "save-every"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a bag is restored with, whoever runs it."""
    add_engine_arguments(parser)
    add = parser.add_argument
    add("--topic", dest="topics", action="append", default=[], help="a camera's; repeat it (all)")
    add("--cameras", default="", metavar="NAME:TOPIC,...", help="their nodes' namespaces")
    add(
        "--name",
        dest="node",
        default="unirestore",
        help="name of the node whose topics are made (unirestore)",
    )
    add("--tasks", type=_names, help="machine tasks (segmentation,detection); '' for none")
    add(
        "--outputs",
        type=_output_names,
        default=(),
        help=f"any of {','.join(OUTPUTS)} (image or compressed, as the camera; features)",
    )
    add_assume_encoding(parser)
    add("--jpeg-quality", type=int, default=90, choices=range(1, 101), metavar="1..100")
    add("--storage", choices=STORAGES, default="", help="of the result (as the input's)")
    add(
        "--save-every",
        dest="every_s",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="a kill loses at most so much work (10)",
    )
    add("--anew", action="store_true", help="discard an earlier run's unfinished work")


def options_of(arguments: argparse.Namespace) -> Options:
    values = {field.name: getattr(arguments, field.name) for field in dataclasses.fields(Options)}
    return Options(**{**values, "topics": tuple(arguments.topics)})


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _output_names(text: str) -> tuple[str, ...]:
    names = _names(text)
    if unknown := set(names) - set(OUTPUTS):
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: there are {', '.join(OUTPUTS)}")
    return names


@dataclasses.dataclass(frozen=True)
class Job:
    """One bag's restoration: everything that its result depends on."""

    folder: Path
    cameras: tuple[BagCamera, ...]
    outputs: tuple[Output, ...]
    storage: str
    assume_encoding: str
    jpeg_quality: int
    bundle: str
    backend: str

    @property
    def frames(self) -> int:
        """Images of all its cameras."""
        return sum(camera.messages for camera in self.cameras)

    def identity(self) -> dict[str, Any]:
        """Return what another run must share with this one to go on where it stopped."""
        return {
            "version": unirestore_ros.__version__,
            "input": {
                "metadata": _metadata_hash(self.folder),
                **files_of(self.folder),
            },
            "cameras": [[camera.topic, camera.namespace] for camera in self.cameras],
            "outputs": [[output.topic, output.what] for output in self.outputs],
            "storage": self.storage,
            "assume_encoding": self.assume_encoding,
            "jpeg_quality": self.jpeg_quality,
            "bundle": self.bundle,
            "backend": self.backend,
        }

    def text(self) -> str:
        return json.dumps(self.identity(), sort_keys=True)


def _metadata_hash(bag: Path) -> str | None:
    path = bag / FILE_NAME
    return sha256_of(path) if path.is_file() else None


def differences(one: str, other: str) -> list[str]:
    """Name the fields in which two identities, as texts, are not the same."""
    first, second = json.loads(one), json.loads(other)
    return sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key))


def make_job(
    folder: Path, cameras: Sequence[BagCamera], engine: Engine, options: Options, storage: str
) -> Job:
    """Make the job; RecordingError where the bundle has no such task or refuses a camera's size."""
    _check_sizes(cameras, engine)
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
        assume_encoding=options.assume_encoding,
        jpeg_quality=options.jpeg_quality,
        bundle=sha256_of(engine.bundle.folder / HASH_FILE),
        backend=engine.backend,
    )


def _check_sizes(cameras: Sequence[BagCamera], engine: Engine) -> None:
    for camera in cameras:
        if problem := engine.refusal(*camera.size):
            raise RecordingError(f"{camera.topic}: {problem}")


def _tasks(engine: Engine, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Choose as restore_node does: segmentation and detection, where the bundle has them."""
    if wanted is None:
        return tuple(task for task in ("segmentation", "detection") if task in engine.tasks)
    for task in wanted:
        if task not in engine.tasks:
            raise RecordingError(
                f"the bundle {engine.bundle.name} has no task {task!r}: {', '.join(engine.tasks)}"
            )
    return tuple(wanted)


def _outputs_of(
    number: int, camera: BagCamera, tasks: Sequence[str], options: Options
) -> list[Output]:
    """List the topics that restore_node would publish for that camera."""
    image = "compressed" if camera.compressed else "image"
    wanted = options.outputs or (image, "features")
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
