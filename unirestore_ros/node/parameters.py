"""The parameters of `restore_node`; who applies a change is the node."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from unirestore_ros.msgs.parameter_struct import (
    Change,
    NodeParameters,
    ParameterRefused,
    parameter,
)
from unirestore_ros.tasks import check_task_name


@dataclasses.dataclass(frozen=True)
class Parameters(NodeParameters):
    """Values of one moment."""

    bundle: str = parameter(
        "tiny", "Folder of the engine bundle, or the name of a shipped one", Change.AT_RELOAD
    )
    backend: str = parameter(
        "auto",
        "What runs the network; auto takes the first of tensorrt, torch and onnxruntime that the"
        " bundle holds and that runs here",
        Change.AT_RELOAD,
        choices=("auto", "tensorrt", "torch", "onnxruntime", "openvino"),
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
    output_reliability: str = parameter(
        "reliable",
        "QoS that the node's topics offer; depth 1 and volatile in any case",
        Change.AT_CONFIGURE,
        choices=("reliable", "best_effort"),
    )
    max_age_ms: int = parameter(
        500,
        "A frame older than this when its turn comes is dropped",
        Change.AT_ONCE,
        unit="ms",
        lowest=1,
        highest=10000,
    )
    fallback_after_ms: int = parameter(
        500,
        "Input without any output for this long puts the driver's picture into camera mode",
        Change.AT_ONCE,
        unit="ms",
        lowest=10,
        highest=60000,
    )
    jpeg_quality: int = parameter(
        90, "Quality of ~/image/compressed", Change.AT_ONCE, unit="%", lowest=1, highest=100
    )
    enabled: bool = parameter(
        True, "Off: camera mode, nothing is restored; as ~/set_enabled", Change.AT_ONCE
    )
    autostart: bool = parameter(
        True,
        "Whether the node configures and activates itself; launch files that manage its"
        " transitions say false",
        Change.AT_START,
    )

    def check(self) -> None:
        if not self.bundle:
            raise ParameterRefused("bundle: name a folder, or a shipped bundle such as tiny")
        _check_tasks(self.tasks)


def fixed_while_configured(before: Parameters, after: Parameters) -> list[str]:
    """Names of what differs and may not, once topics are up."""
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
