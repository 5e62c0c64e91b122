"""Everything for one camera or several: restore_node, the example consumers, the display.

ros2 launch unirestore_ros vehicle.launch.py image:=/camera/image_raw
ros2 launch unirestore_ros vehicle.launch.py \
    cameras:=front:/camera/front/image_raw,rear:/camera/rear/image_raw
ros2 launch unirestore_ros vehicle.launch.py --show-args
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    GroupAction,
    IncludeLaunchDescription,
    OpaqueFunction,
    SetEnvironmentVariable,
)
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.launch_description_sources.python_launch_file_utilities import (
    load_python_launch_file_as_module,
)
from launch_ros.actions import Node

from unirestore_ros.msgs.camera_info import CameraTopics

HERE = Path(__file__).resolve().parent
CONSUMERS = {"segmentation": "segmentation_head", "detection": "detection_head"}

restoring = load_python_launch_file_as_module(str(HERE / "unirestore.launch.py"))

ARGUMENTS = [
    *restoring.ARGUMENTS,
    DeclareLaunchArgument(
        "consumers",
        default_value="true",
        choices=["true", "false"],
        description="start segmentation_head and detection_head, for those of the tasks",
    ),
    DeclareLaunchArgument(
        "display",
        default_value="true",
        choices=["true", "false"],
        description="start driver_display, for each camera",
    ),
    DeclareLaunchArgument(
        "page_port",
        default_value="8080",
        description="port of the first camera's page; each further one's is one higher",
    ),
    DeclareLaunchArgument(
        "display_params_file",
        default_value=str(restoring.SHARE / "config" / "driver_display.yaml"),
        description="parameter file of the displays",
    ),
    DeclareLaunchArgument(
        "view", default_value="", description="what the displays show: restored, split, side or raw"
    ),
]


def include(name: str, arguments: dict[str, str]) -> GroupAction:
    """Include another launch file, in a group, so that its arguments do not reach the next one."""
    source = PythonLaunchDescriptionSource(str(HERE / name))
    return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])


def consumers(namespace: str, arguments: dict[str, str]) -> list[Action]:
    """The heads of the tasks that the node of this namespace publishes features for."""
    given: dict[str, Any] = {"use_sim_time": arguments["use_sim_time"] == "true"}
    if arguments["bundle"]:
        given["bundle"] = arguments["bundle"]
    tasks = restoring.tasks_of(arguments)
    return [
        Node(
            package="unirestore_ros",
            executable=head,
            namespace=namespace,
            parameters=[given],
            # The node's other topics are looked for beside its features.
            remappings=[(f"unirestore/{task}/features", f"{arguments['name']}/{task}/features")],
            output="both",
        )
        for task, head in CONSUMERS.items()
        if not tasks or task in tasks
    ]


def display_arguments(camera: CameraTopics, port: str, arguments: dict[str, str]) -> dict[str, str]:
    """Arguments of the camera's display: those of its own, and those that mean the same there."""
    own = {
        "image": camera.image,
        "namespace": camera.namespace,
        "name": "driver_display",
        "restorer": arguments["name"],
        "params_file": arguments["display_params_file"],
        "page_port": port,
    }
    same = (
        "view",
        "input_transport",
        "assume_encoding",
        "use_sim_time",
        "transport",
        "respawn",
    )
    return own | {name: arguments[name] for name in same}


def start(context: LaunchContext) -> list[Action]:
    arguments = restoring.values_of(ARGUMENTS, context)
    # For all processes, also those of the included files.
    variables = restoring.environment(arguments["transport"])
    actions: list[Action] = [SetEnvironmentVariable(*pair) for pair in variables.items()]
    names = [argument.name for argument in restoring.ARGUMENTS]
    actions.append(include("unirestore.launch.py", {name: arguments[name] for name in names}))
    for number, camera in enumerate(restoring.chosen_cameras(arguments)):
        if arguments["consumers"] == "true":
            actions += consumers(camera.namespace, arguments)
        if arguments["display"] == "true":
            port = int(arguments["page_port"]) + number
            given = display_arguments(camera, str(port), arguments)
            actions.append(include("driver_display.launch.py", given))
    return actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
