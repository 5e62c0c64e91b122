"""Starts `restore_node` for one camera or, with `cameras:=`, one in a namespace for each.

ros2 launch unirestore_ros unirestore.launch.py image:=/camera/image_raw
ros2 launch unirestore_ros unirestore.launch.py \
    cameras:=front:/camera/front/image_raw,rear:/camera/rear/image_raw
ros2 launch unirestore_ros unirestore.launch.py --show-args
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, EmitEvent, OpaqueFunction, RegisterEventHandler
from launch.event_handlers import OnProcessStart
from launch.events import matches_action
from launch.logging import get_logger
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from lifecycle_msgs.msg import Transition

from unirestore_ros.msgs.camera_info import CameraTopics, camera_info_beside, read_cameras
from unirestore_ros.msgs.parameter_files import full_name, read_parameter_file
from unirestore_ros.msgs.transport import has_transport, profile_path, profile_variable

SHARE = Path(get_package_share_directory("unirestore_ros"))

ARGUMENTS = [
    DeclareLaunchArgument("image", default_value="image", description="camera's image topic"),
    DeclareLaunchArgument(
        "camera_info", default_value="", description="its CameraInfo topic; empty: beside the image"
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="several cameras, instead of image: NAME:IMAGE_TOPIC[:CAMERA_INFO_TOPIC],..."
        " each gets a node in the namespace NAME",
    ),
    DeclareLaunchArgument("namespace", default_value="", description="namespace of the nodes"),
    DeclareLaunchArgument("name", default_value="unirestore", description="name of the node"),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "unirestore.yaml"),
        description="parameter file, ~ for the home folder; the arguments below go before it"
        " where they are not empty",
    ),
    DeclareLaunchArgument("bundle", default_value="", description="folder of the engine bundle"),
    DeclareLaunchArgument(
        "backend", default_value="", description="auto, tensorrt, torch, onnxruntime, openvino"
    ),
    DeclareLaunchArgument(
        "input_transport", default_value="", description="raw, or compressed: IMAGE/compressed"
    ),
    DeclareLaunchArgument(
        "assume_encoding",
        default_value="",
        description="what 8UC1, 8UC3, 8UC4 and an empty encoding mean, as bgr8",
    ),
    DeclareLaunchArgument(
        "tasks", default_value="", description="machine tasks, as segmentation,detection"
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", choices=["true", "false"], description="use /clock"
    ),
    DeclareLaunchArgument(
        "transitions",
        default_value="node",
        choices=["node", "launch", "none"],
        description="who configures and activates: the node itself, this launch file,"
        " or nobody (a lifecycle manager does)",
    ),
    DeclareLaunchArgument(
        "transport",
        default_value="large_images",
        description="Fast DDS profile: large_images (64 MB of shared memory; an environment that"
        " chose a profile or transport is left alone), default, or an XML file's path",
    ),
    DeclareLaunchArgument(
        "respawn",
        default_value="true",
        choices=["true", "false"],
        description="start a node again 2 s after it died; it is sure to become active again only"
        " with transitions:=node",
    ),
]


def chosen_cameras(arguments: dict[str, str]) -> list[CameraTopics]:
    namespace, image = arguments["namespace"], arguments["image"]
    if not arguments["cameras"]:
        return [
            CameraTopics(namespace, image, arguments["camera_info"] or camera_info_beside(image))
        ]
    if image != "image" or arguments["camera_info"]:
        raise ValueError("give either cameras:= or image:= (with camera_info:=), not both")
    return read_cameras(arguments["cameras"], namespace)


def values_of(arguments: Iterable[DeclareLaunchArgument], context: LaunchContext) -> dict[str, str]:
    """The arguments' values in this launch; for the other launch files too."""
    return {each.name: context.launch_configurations[each.name] for each in arguments}


def tasks_of(arguments: dict[str, str]) -> list[str]:
    """The names in ``tasks:=a,b``; none where the parameter file decides."""
    return [task.strip() for task in arguments["tasks"].split(",") if task.strip()]


def process_options(arguments: dict[str, str]) -> dict[str, Any]:
    """How launch runs a node's process: its transport, its restart, its output."""
    return {
        "additional_env": environment(arguments["transport"]),
        "respawn": arguments["respawn"] == "true",
        "respawn_delay": 2.0,
        "output": "both",
    }


def environment(transport: str) -> dict[str, str]:
    """The variable that chooses the Fast DDS profile; none where the environment has chosen."""
    if transport == "default":
        return {}
    if transport == "large_images":
        return {} if has_transport() else {profile_variable(): str(profile_path())}
    profile = Path(transport).expanduser().resolve()
    if not profile.is_file():
        raise ValueError(f"transport: {transport!r} is not large_images, default or an XML file")
    return {profile_variable(): str(profile)}


def parameters(arguments: dict[str, str]) -> list[str | dict[str, Any]]:
    """The parameter file, then the arguments that are not empty: later ones win."""
    given: dict[str, Any] = {
        "autostart": arguments["transitions"] == "node",
        "use_sim_time": arguments["use_sim_time"] == "true",
    }
    texts = ("bundle", "backend", "input_transport", "assume_encoding")
    given |= {name: arguments[name] for name in texts if arguments[name]}
    if tasks := tasks_of(arguments):
        given["tasks"] = tasks
    return [arguments["params_file"], given]


def read_params_file(arguments: dict[str, str], nodes: Iterable[str]) -> dict[str, str]:
    """Return the arguments with the path of their parameter file expanded; ValueError where it is
    none. Warn of each of ``nodes``, by full name, for which it has nothing."""
    path, warnings = read_parameter_file(arguments["params_file"], nodes)
    for warning in warnings:
        get_logger("launch.user").warning(warning)
    return {**arguments, "params_file": str(path)}


def restore_node(camera: CameraTopics, arguments: dict[str, str]) -> LifecycleNode:
    return LifecycleNode(
        package="unirestore_ros",
        executable="restore_node",
        name=arguments["name"],
        namespace=camera.namespace,
        parameters=parameters(arguments),
        remappings=[("image", camera.image), ("camera_info", camera.camera_info)],
        **process_options(arguments),
    )


def configure_then_activate(node: LifecycleNode) -> list[Action]:
    """Handlers that bring the node to active when its process starts.

    After a crash this can fail: the first request can go to the dead process, whose service DDS
    still shows for some seconds. A node that is started again activates itself more reliably.
    """

    def change(transition: int) -> EmitEvent:
        return EmitEvent(
            event=ChangeState(lifecycle_node_matcher=matches_action(node), transition_id=transition)
        )

    return [
        RegisterEventHandler(
            OnProcessStart(target_action=node, on_start=[change(Transition.TRANSITION_CONFIGURE)])
        ),
        RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state="configuring",
                goal_state="inactive",
                entities=[change(Transition.TRANSITION_ACTIVATE)],
            )
        ),
    ]


def start(context: LaunchContext) -> list[Action]:
    arguments = values_of(ARGUMENTS, context)
    cameras = chosen_cameras(arguments)
    names = [full_name(camera.namespace, arguments["name"]) for camera in cameras]
    arguments = read_params_file(arguments, names)
    actions: list[Action] = []
    for camera in cameras:
        node = restore_node(camera, arguments)
        if arguments["transitions"] == "launch":
            actions += configure_then_activate(node)
        actions.append(node)
    return actions


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
