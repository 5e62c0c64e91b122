"""Names of the demo's nodes and topics. No ROS is imported here: the parent process needs none."""

from __future__ import annotations

# A namespace of its own, so that a vehicle's topics on the same network are not met.
NAMESPACE = "/demo"
CAMERA = f"{NAMESPACE}/camera/image_raw"
CAMERA_INFO = f"{NAMESPACE}/camera/camera_info"
NODE_NAME = "unirestore"
RESTORER = f"{NAMESPACE}/{NODE_NAME}"
IMAGE = f"{RESTORER}/image"
STATUS = f"{RESTORER}/status"
DIAGNOSTICS = "/diagnostics"


def features_topic(task: str) -> str:
    return f"{RESTORER}/{task}/features"


# What the node's status says of a frame's mode.
RESTORED_MODE, CAMERA_MODE = "restored", "camera"

# How long the player waits for node and recorder to find each other, in seconds.
DISCOVERY_LIMIT_S = 60.0
