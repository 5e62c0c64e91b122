"""What the thread of the camera's frames and the thread that restores them both work with."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from unirestore_ros.node.bundle_holder import BundleHolder
from unirestore_ros.node.gate import Gate
from unirestore_ros.node.outputs import Outputs
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.node.report import AgeClock, FrameReport
from unirestore_ros.node.statistics import Statistics
from unirestore_ros.node.troubles import Troubles


@dataclass
class Shared:
    """All of it may be used from either thread."""

    parameters: Parameters
    """Replaced as a whole when one of them changes."""
    outputs: Outputs
    bundle: BundleHolder
    gate: Gate
    ages: AgeClock
    statistics: Statistics
    report: FrameReport
    troubles: Troubles
    camera_info: CameraInfo | None = None
    """The camera's latest."""
