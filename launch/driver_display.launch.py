"""Starts `driver_display`, the driver's picture, beside a `restore_node` that runs already.

ros2 launch unirestore_ros driver_display.launch.py image:=/camera/image_raw
ros2 launch unirestore_ros driver_display.launch.py --show-args
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.launch_description_sources.python_launch_file_utilities import (
    load_python_launch_file_as_module,
)
from launch_ros.actions import Node

from unirestore_ros.msgs.parameter_files import full_name

restoring = load_python_launch_file_as_module(
    str(Path(__file__).resolve().parent / "unirestore.launch.py")
)

# These mean the same as there.
SHARED = ("image", "namespace", "use_sim_time", "transport", "respawn")
SWITCHES = ("page",)
NUMBERS = ("page_port",)
WORDS = ("input_transport", "assume_encoding", "view", "page_address", "page_token", "page_origin")
ARGUMENTS = [
    *(argument for argument in restoring.ARGUMENTS if argument.name in SHARED),
    DeclareLaunchArgument("name", default_value="driver_display", description="name of the node"),
    DeclareLaunchArgument(
        "restorer", default_value="unirestore", description="name of the restore_node"
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(restoring.SHARE / "config" / "driver_display.yaml"),
        description="parameter file, ~ for the home folder; the arguments below go before it"
        " where they are not empty",
    ),
    DeclareLaunchArgument("page", default_value="", description="false: no page"),
    DeclareLaunchArgument("page_port", default_value="", description="port of the page"),
    DeclareLaunchArgument(
        "page_address",
        default_value="",
        description="IP address that the page is served on; any but 127.0.0.1 needs page_token",
    ),
    DeclareLaunchArgument("page_token", default_value="", description="secret of the page"),
    DeclareLaunchArgument(
        "page_origin",
        default_value="",
        description="where a TLS proxy on this machine serves the page: https://vehicle.example",
    ),
    DeclareLaunchArgument("view", default_value="", description="restored, split, side or raw"),
    DeclareLaunchArgument("input_transport", default_value="", description="raw or compressed"),
    DeclareLaunchArgument(
        "assume_encoding",
        default_value="",
        description="what 8UC1, 8UC3, 8UC4 and an empty encoding mean, as bgr8",
    ),
]


def parameters(arguments: dict[str, str]) -> list[str | dict[str, Any]]:
    """The parameter file, then the arguments that are not empty: later ones win."""
    given: dict[str, Any] = {
        "restorer": arguments["restorer"],
        "use_sim_time": arguments["use_sim_time"] == "true",
    }
    given |= {name: arguments[name] for name in WORDS if arguments[name]}
    given |= {name: int(arguments[name]) for name in NUMBERS if arguments[name]}
    for name in SWITCHES:
        if arguments[name] not in ("", "true", "false"):
            raise ValueError(f"{name}: {arguments[name]!r} is neither true nor false")
        if arguments[name]:
            given[name] = arguments[name] == "true"
    return [arguments["params_file"], given]


def start(context: LaunchContext) -> list[Action]:
    arguments = restoring.values_of(ARGUMENTS, context)
    name = full_name(arguments["namespace"], arguments["name"])
    arguments = restoring.read_params_file(arguments, [name])
    node = Node(
        package="unirestore_ros",
        executable="driver_display",
        name=arguments["name"],
        namespace=arguments["namespace"],
        parameters=parameters(arguments),
        remappings=[("image", arguments["image"])],
        **restoring.process_options(arguments),
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
