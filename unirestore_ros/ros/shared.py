"""What the thread of the camera's frames and the thread that restores them both work with."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from unirestore_ros.ros.bundle_holder import BundleHolder
from unirestore_ros.ros.gate import Gate
from unirestore_ros.ros.outputs import Outputs
from unirestore_ros.ros.parameters import Parameters
from unirestore_ros.ros.report import AgeClock, FrameReport
from unirestore_ros.ros.statistics import Statistics
from unirestore_ros.ros.troubles import Troubles


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
