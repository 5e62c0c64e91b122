"""`unirestore.launch.py`: what its arguments mean, and a real launch of two cameras.

`launch` and `launch_ros` come with a ROS 2 installation, not from PyPI: skipped without them.
"""

from __future__ import annotations

import array
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from launched import Launched, arguments, load_file

if TYPE_CHECKING:
    from rclpy.node import Node
    from sensor_msgs.msg import Image

rclpy = pytest.importorskip("rclpy", reason="there is no ROS 2 here")
messages = pytest.importorskip("sensor_msgs.msg", reason="there is no ROS 2 here")

from unirestore_ros.msgs.transport import (  # noqa: E402
    BUILTIN_TRANSPORTS,
    PROFILE_VARIABLES,
    profile_path,
    profile_variable,
)

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def launch_file(repository: Path) -> Path:
    return repository / "launch" / "unirestore.launch.py"


@pytest.fixture(scope="module")
def module(launch_file: Path) -> ModuleType:
    return load_file(launch_file)


def test_one_camera_takes_its_camera_info_from_beside_the_image(module: ModuleType) -> None:
    said = arguments(module, image="/front/image_raw", namespace="car")
    assert module.chosen_cameras(said) == [("car", "/front/image_raw", "/front/camera_info")]


def test_several_cameras_have_a_namespace_each(module: ModuleType) -> None:
    said = arguments(module, cameras="front:/f/image, rear:/r/image:/r/info", namespace="/car")
    assert module.chosen_cameras(said) == [
        ("/car/front", "/f/image", "/f/camera_info"),
        ("/car/rear", "/r/image", "/r/info"),
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"cameras": "front"}, "NAME:IMAGE_TOPIC"),
        ({"cameras": "front:/a,"}, "NAME:IMAGE_TOPIC"),
        ({"cameras": "front:/a,front:/b"}, "stands twice"),
        ({"cameras": "front:/a", "image": "/b"}, "not both"),
    ],
)
def test_cameras_that_make_no_sense_are_refused(
    module: ModuleType, said: dict[str, str], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        module.chosen_cameras(arguments(module, **said))


def test_arguments_go_before_the_parameter_file(module: ModuleType) -> None:
    said = arguments(module, tasks="segmentation, detection", bundle="/b", params_file="/p.yaml")
    said["assume_encoding"] = "bgr8"
    assert module.parameters(said) == [
        "/p.yaml",
        {
            "autostart": True,
            "use_sim_time": False,
            "bundle": "/b",
            "assume_encoding": "bgr8",
            "tasks": ["segmentation", "detection"],
        },
    ]


NODES = ["/front/unirestore", "/rear/unirestore"]


def test_nodes_for_which_a_parameter_file_has_nothing_are_warned_of(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reading the file is tested in test/msgs, where no launch is needed."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.yaml").write_text("/front/unirestore: {ros__parameters: {}}")
    said: list[str] = []
    monkeypatch.setattr(module, "get_logger", lambda name: Warner(said))
    found = module.read_params_file({"params_file": "~/my.yaml"}, NODES)
    assert found == {"params_file": str(tmp_path / "my.yaml")}
    assert len(said) == 1 and "has nothing for /rear/unirestore" in said[0]


class Warner:
    """Stands for launch's logger."""

    def __init__(self, said: list[str]) -> None:
        self.warning = said.append


@pytest.mark.parametrize("name", ["unirestore", "driver_display", "vehicle"])
def test_a_launch_with_a_missing_parameter_file_starts_nothing(
    repository: Path, tmp_path: Path, name: str
) -> None:
    with Launched(
        repository / "launch" / f"{name}.launch.py", ["params_file:=~/absent.yaml"], tmp_path
    ) as launched:
        assert launched.wait(TIMEOUT_S) == 1
        text = launched.log()
    assert "params_file: there is no file" in text and "~" not in text.split("no file")[1][:40]
    assert "process started" not in text


def test_the_node_starts_itself_only_if_nobody_else_does(module: ModuleType) -> None:
    for transitions in ("launch", "none"):
        assert not module.parameters(arguments(module, transitions=transitions))[1]["autostart"]


def test_a_profile_that_the_user_chose_stays(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*PROFILE_VARIABLES, BUILTIN_TRANSPORTS):
        monkeypatch.delenv(name, raising=False)
    assert module.environment("large_images") == {profile_variable(): str(profile_path())}
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", "/mine.xml")
    assert module.environment("large_images") == {}


def test_a_transport_that_is_no_file_is_refused(module: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"not large_images, default or an XML file"):
        module.environment("/nowhere.xml")


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("launch_test", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def state_of(node: Node, lifecycle_node: str) -> str:
    """Label of a lifecycle node's state; empty while it does not answer."""
    from lifecycle_msgs.srv import GetState

    client: Any = node.create_client(GetState, f"{lifecycle_node}/get_state")
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    try:
        if not client.wait_for_service(timeout_sec=0.5):
            return ""
        future = client.call_async(GetState.Request())
        rclpy.spin_until_future_complete(node, future, executor, timeout_sec=1.0)
        return future.result().current_state.label if future.done() else ""
    finally:
        executor.shutdown()
        node.destroy_client(client)


def wait_until_equal(read: Callable[[], object], wanted: object) -> None:
    end = time.monotonic() + TIMEOUT_S
    while (value := read()) != wanted and time.monotonic() < end:
        time.sleep(0.1)
    assert value == wanted


class Camera:
    """Sends 480x360 images, and keeps the frame_ids of what the camera's node sends back."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
        self.came_back: set[str] = set()
        self.publisher = node.create_publisher(messages.Image, f"/{name}/image_raw", 1)
        node.create_subscription(messages.Image, f"/{name}/unirestore/image", self.keep, 1)
        self.message = messages.Image(height=360, width=480, encoding="mono8", step=480)
        self.message.data = array.array("B", bytes(360 * 480))
        self.message.header.frame_id = name

    def keep(self, message: Image) -> None:
        self.came_back.add(message.header.frame_id)

    def send_and_listen(self) -> set[str]:
        self.message.header.stamp = self.node.get_clock().now().to_msg()
        self.publisher.publish(self.message)
        rclpy.spin_once(self.node, executor=self.executor, timeout_sec=0.1)
        return self.came_back


@pytest.mark.dds
@pytest.mark.slow
@pytest.mark.parametrize(
    ("transitions", "state"),
    [("node", "active"), ("launch", "active"), ("none", "unconfigured")],
)
def test_two_cameras_come_up_and_end_cleanly(
    launch_file: Path, node: Node, tmp_path: Path, transitions: str, state: str
) -> None:
    said = ["cameras:=front:/front/image_raw,rear:/rear/image_raw", f"transitions:={transitions}"]
    with Launched(launch_file, said, tmp_path) as launched:
        for camera in ("front", "rear"):
            name = f"/{camera}/unirestore"
            wait_until_equal(partial(state_of, node, name), state)
            if state == "active":
                wait_until_equal(Camera(node, camera).send_and_listen, {camera})
        assert launched.interrupt(TIMEOUT_S) == 0
        text = launched.log()
    assert text.count("process has finished cleanly") == 2, text
