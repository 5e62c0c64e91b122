"""Plays a bag's cameras through node, consumers and display, and prints a table of what arrived.

ros2 launch unirestore_ros bag_replay.launch.py bag:=drive
ros2 launch unirestore_ros bag_replay.launch.py bag:=drive loop:=true display:=true
ros2 launch unirestore_ros bag_replay.launch.py --show-args

The frames are played as recorded, or (size:=) scaled, aspect kept, and cropped at the centre. When
the bag has ended, everything stops and the table is printed; `report:=FILE` writes it as JSON too.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.events.process import ProcessExited
from launch.launch_description_sources.python_launch_file_utilities import (
    load_python_launch_file_as_module,
)
from launch_ros.actions import Node

from unirestore_ros.recordings.cameras import BagCamera, find_cameras, in_namespaces
from unirestore_ros.recordings.storage import open_reader

HERE = Path(__file__).resolve().parent
# The time that the last messages have to arrive.
LINGER_S = 3.0

vehicle = load_python_launch_file_as_module(str(HERE / "vehicle.launch.py"))

FROM_BAG = ("image", "camera_info", "cameras", "input_transport", "use_sim_time")
ARGUMENTS = [
    DeclareLaunchArgument("bag", description="folder of the rosbag2"),
    DeclareLaunchArgument(
        "topic", default_value="", description="the camera to be played; empty: all of the bag's"
    ),
    DeclareLaunchArgument(
        "size",
        default_value="recorded",
        description="size of the frames: recorded, or WIDTHxHEIGHT",
    ),
    DeclareLaunchArgument("rate", default_value="1.0", description="speed, 1.0 is as recorded"),
    DeclareLaunchArgument(
        "loop", default_value="false", choices=["true", "false"], description="play again and again"
    ),
    DeclareLaunchArgument(
        "stamps",
        default_value="present",
        choices=["present", "clock", "recorded"],
        description="shifted to the present; or recorded, with /clock and use_sim_time, or without",
    ),
    DeclareLaunchArgument(
        "report", default_value="", description="file for the table of what arrived, as JSON"
    ),
    *(argument for argument in vehicle.ARGUMENTS if argument.name not in FROM_BAG),
]


def cameras_of(bag: str, topic: str, assume_encoding: str) -> list[BagCamera]:
    """The cameras that are played, each in the namespace of its node."""
    wanted = [topic] if topic else []
    with open_reader(Path(bag).expanduser()) as reader:
        cameras = find_cameras(reader, wanted, assume_encoding=assume_encoding)
        return in_namespaces(cameras, {})


def from_bag(cameras: list[BagCamera], stamps: str) -> dict[str, str]:
    """The arguments of vehicle.launch.py that the bag decides."""
    kinds = {camera.compressed for camera in cameras}
    if len(kinds) > 1:
        raise ValueError("the bag has raw and compressed cameras: choose one with topic:=")
    given = {
        "input_transport": "compressed" if kinds == {True} else "raw",
        "use_sim_time": "true" if stamps == "clock" else "false",
    }
    if len(cameras) == 1:
        return {**given, "image": cameras[0].base}
    return {**given, "cameras": ",".join(f"{c.namespace[1:]}:{c.base}" for c in cameras)}


def watched_topics(namespace: str, arguments: dict[str, str]) -> list[str]:
    """The topics of one camera: image, features, and what the consumers publish."""
    root = f"{namespace}/{arguments['name']}"
    tasks = vehicle.restoring.tasks_of(arguments) or list(vehicle.CONSUMERS)
    topics = [f"{root}/image", *(f"{root}/{task}/features" for task in tasks)]
    if arguments["consumers"] == "true":
        made = {"segmentation": "segmentation_head/labels", "detection": "detection_head/markers"}
        topics += [f"{namespace}/{made[task]}" for task in tasks if task in made]
    return topics


def bag_command(*words: str, use_sim_time: bool = False) -> Node:
    return Node(
        package="unirestore_ros",
        executable="bag",
        arguments=[*words],
        parameters=[{"use_sim_time": use_sim_time}],
        output="both",
    )


def namespace_of(camera: BagCamera, outer: str) -> str:
    """The namespace of the camera's node: empty, or with a slash in front."""
    return f"/{outer.strip('/')}{camera.namespace}" if outer.strip("/") else camera.namespace


def watcher(namespace: str, topics: list[str], arguments: dict[str, str]) -> Node:
    words = [*topics, "--of", f"{namespace}/{arguments['name']}/status"]
    if arguments["report"]:
        report = Path(arguments["report"]).expanduser()
        suffix = namespace.replace("/", "_")
        words += ["--out", str(report.with_stem(report.stem + suffix))]
    return bag_command("watch", *words, use_sim_time=arguments["stamps"] == "clock")


def player(arguments: dict[str, str], cameras: list[BagCamera], topics: list[str]) -> Node:
    words = ["play", str(Path(arguments["bag"]).expanduser()), "--rate", arguments["rate"]]
    if arguments["topic"]:
        infos = [camera.info_topic for camera in cameras if camera.info_topic]
        words += ["--topics", *(camera.topic for camera in cameras), *infos]
    if arguments["size"] != "recorded":
        words += ["--size", arguments["size"]]
        assumed = arguments["assume_encoding"]
        words += ["--assume-encoding", assumed] if assumed else []
    words += {"present": ["--restamp"], "clock": ["--clock"], "recorded": []}[arguments["stamps"]]
    words += ["--loop"] if arguments["loop"] == "true" else []
    return bag_command(*words, "--wait-for", *(camera.topic for camera in cameras), *topics)


def start(context: LaunchContext) -> list[Action]:
    arguments = vehicle.restoring.values_of(ARGUMENTS, context)
    cameras = cameras_of(arguments["bag"], arguments["topic"], arguments["assume_encoding"])
    given = {a.name: arguments[a.name] for a in vehicle.ARGUMENTS if a.name not in FROM_BAG}
    given |= from_bag(cameras, arguments["stamps"])
    actions: list[Action] = [vehicle.include("vehicle.launch.py", given)]
    watched: list[str] = []
    for camera in cameras:
        namespace = namespace_of(camera, arguments["namespace"])
        topics = watched_topics(namespace, arguments)
        watched += topics
        actions.append(watcher(namespace, topics, arguments))
    playing = player(arguments, cameras, watched)
    return [
        *actions,
        RegisterEventHandler(OnProcessExit(target_action=playing, on_exit=end_all)),
        playing,
    ]


def end_all(event: ProcessExited, context: LaunchContext) -> list[Action]:
    """End the launch some time after the player, unless it is ending already."""
    if context.is_shutdown:
        return []
    ended = EmitEvent(event=Shutdown(reason="the bag has ended"))
    return [TimerAction(period=LINGER_S, actions=[ended])]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])
