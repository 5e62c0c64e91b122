"""The parameters of `restore_node`: what they mean and which values are accepted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from unirestore_ros.msgs.encodings import ASSUMABLE
from unirestore_ros.msgs.parameter_struct import (
    Change,
    NodeParameters,
    ParameterRefused,
    parameter,
)
from unirestore_ros.tasks import check_task_name


@dataclasses.dataclass(frozen=True)
class Parameters(NodeParameters):
    """The values at one moment; a change makes a new object."""

    bundle: str = parameter(
        "tiny", "Folder of the engine bundle, or the name of a shipped one", Change.AT_RELOAD
    )
    backend: str = parameter(
        "auto",
        "Backend that runs the network; auto takes the first of tensorrt, tensorrt_rtx, torch,"
        " openvino (on a CPU with bfloat16) and onnxruntime that the bundle holds and that runs"
        " here",
        Change.AT_RELOAD,
        choices=("auto", "tensorrt", "tensorrt_rtx", "torch", "onnxruntime", "openvino"),
    )
    device_id: int = parameter(
        0, "Number of the CUDA device", Change.AT_RELOAD, lowest=0, highest=63
    )
    threads: int = parameter(
        0,
        "CPU threads of the network; 0: one for each physical core",
        Change.AT_RELOAD,
        lowest=0,
        highest=256,
    )
    tasks: tuple[str, ...] = parameter(
        ("segmentation", "detection"),
        "Tasks of the bundle that get topics of their own: ~/TASK/features and its camera_info;"
        " for none, one empty name, since ROS reads no empty list",
        Change.AT_CONFIGURE,
    )
    publish_task_images: bool = parameter(
        True,
        "Whether each task also gets ~/TASK/image, decoded with its prompt",
        Change.AT_CONFIGURE,
    )
    input_transport: str = parameter(
        "raw",
        "Which topic of the camera is subscribed: image, or image/compressed",
        Change.AT_CONFIGURE,
        choices=("raw", "compressed"),
    )
    input_reliability: str = parameter(
        "auto",
        "QoS of the camera's topics; auto: reliable if every publisher offers it, else best effort",
        Change.AT_CONFIGURE,
        choices=("auto", "reliable", "best_effort"),
    )
    assume_encoding: str = parameter(
        "",
        "What an encoding means that does not name its colours: 8UC1, 8UC3, 8UC4 or an empty one;"
        " empty: such images are not restored",
        Change.AT_ONCE,
        choices=ASSUMABLE,
    )
    output_reliability: str = parameter(
        "reliable",
        "QoS that the node's topics offer; depth 1 and volatile in any case",
        Change.AT_CONFIGURE,
        choices=("reliable", "best_effort"),
    )
    max_age_ms: int = parameter(
        500,
        "A frame that is older than this when it is to be restored is dropped",
        Change.AT_ONCE,
        unit="ms",
        lowest=1,
        highest=10000,
    )
    fallback_after_ms: int = parameter(
        500,
        "After input without an image for the driver for this long the camera's is shown (camera"
        " mode)",
        Change.AT_ONCE,
        unit="ms",
        lowest=10,
        highest=60000,
    )
    hang_after_ms: int = parameter(
        2000,
        "The engine process is ended and started again where a frame takes longer than this, from"
        " the second frame after each load on",
        Change.AT_ONCE,
        unit="ms",
        lowest=100,
        highest=600000,
    )
    load_timeout_s: int = parameter(
        120,
        "The same for opening a bundle, for getting ready for frames of another size, and for the"
        " first frame after either",
        Change.AT_ONCE,
        unit="s",
        lowest=1,
        highest=3600,
    )
    engine_memory_limit_mb: int = parameter(
        0,
        "The engine process is ended and started again where it holds more memory than this; 0: no"
        " limit",
        Change.AT_ONCE,
        unit="MB",
        lowest=0,
        highest=1000000,
    )
    jpeg_quality: int = parameter(
        90, "Quality of ~/image/compressed", Change.AT_ONCE, unit="%", lowest=1, highest=100
    )
    guard: bool = parameter(
        True,
        "Whether each restored image is checked against its input; a frame that is refused goes out"
        " as the camera's. Features are checked for NaN and infinity in either case",
        Change.AT_ONCE,
    )
    enabled: bool = parameter(
        True, "Off: camera mode, nothing is restored; ~/set_enabled changes it too", Change.AT_ONCE
    )
    autostart: bool = parameter(
        True,
        "Whether the node configures and activates itself; launch files that manage its"
        " transitions set it to false",
        Change.AT_START,
    )

    def check(self) -> None:
        if not self.bundle:
            raise ParameterRefused("bundle: name a folder, or a shipped bundle such as tiny")
        _check_tasks(self.tasks)


def fixed_while_configured(before: Parameters, after: Parameters) -> list[str]:
    """Return the names of parameters that differ, but may not while the node is configured."""
    return before.differing(after, Change.AT_CONFIGURE)


def _check_tasks(tasks: Iterable[str]) -> None:
    seen: set[str] = set()
    for task in tasks:
        try:
            check_task_name(task)
        except ValueError as error:
            raise ParameterRefused(f"tasks: {error}") from error
        if task in seen:
            raise ParameterRefused(f"tasks: {task} stands twice")
        seen.add(task)
