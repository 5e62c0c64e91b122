"""`driver_display`: show the driver the restored image or the camera's, on topics and on a page."""

from __future__ import annotations

import contextlib
import math
import sys

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.display.compositor import Compositor, Outputs
from unirestore_ros.display.inputs import Inputs, RestorerClient
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.selection import FrameStatus
from unirestore_ros.display.server import PageError, PageServer
from unirestore_ros.display.sources import Sources
from unirestore_ros.msgs.parameter_struct import ParameterRefused
from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.diagnostics import ErrorLog, diagnostic
from unirestore_ros.node.fallback import DISABLED, Mode
from unirestore_ros.node.process import run_command

NODE_NAME = "driver_display"
_UPDATE_S = 0.1
_STATE_S = 0.5
_DIAGNOSTICS_S = 1.0
_LEVELS = {
    FrameStatus.RESTORED: DiagnosticStatus.OK,
    FrameStatus.CAMERA: DiagnosticStatus.WARN,
    FrameStatus.UNCONFIRMED: DiagnosticStatus.WARN,
    FrameStatus.WAITING: DiagnosticStatus.WARN,
    FrameStatus.NO_PICTURE: DiagnosticStatus.ERROR,
    FrameStatus.STALE: DiagnosticStatus.ERROR,
}
# Values of the restorer's diagnostics that the page shows.
_SHOWN_VALUES = ("message", "backend", "bundle", "output_rate_hz", "latency_median_ms")


class DriverDisplay(Node):
    """Connects the parts; owns parameters and timers."""

    def __init__(self) -> None:
        # Before anything else: ROS destroys nodes too whose construction failed.
        self._closing = contextlib.ExitStack()
        super().__init__(NODE_NAME)
        DisplayParameters.declare(self)
        self._settings = parameters = DisplayParameters.read(self)
        self._errors = ErrorLog(self.get_logger())
        self._notice = 0, ""
        self._tasks: dict[str, bool] = {}
        """Machine tasks of the restorer, and whether they are being computed."""
        self._restorer = RestorerClient(
            self, parameters.restorer, self._notify, self._errors.unforeseen
        )
        self._page = self._make_page(parameters) if parameters.page else None
        self._sources = Sources(parameters.max_age_ms / 1e3, parameters.fallback_after_ms / 1e3)
        qos = QoSProfile(
            depth=1, reliability=ReliabilityPolicy[parameters.output_reliability.upper()]
        )
        self._outputs = Outputs(
            image=self._topic(Image, "~/image", qos),
            compressed=self._topic(CompressedImage, "~/image/compressed", qos),
            hub=None if self._page is None else self._page.hub,
        )
        self._compositor = Compositor(self._sources, self._outputs, parameters, self._errors)
        self._closing.callback(self._compositor.stop)
        self._inputs = Inputs(
            self, parameters, self._sources, self._compositor.wake, self._errors.unforeseen
        )
        self._closing.callback(self._inputs.close)
        self._diagnostics = self._topic(DiagnosticArray, "/diagnostics", 10)
        self.add_on_set_parameters_callback(self._on_parameters)
        # Not on the node's clock, which stands still while a simulation is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_UPDATE_S, self._update, clock=steady)
        self.create_timer(_STATE_S, self._send_state, clock=steady)
        self.create_timer(_DIAGNOSTICS_S, self._publish_diagnostics, clock=steady)

    def start(self) -> None:
        """Serve the page; PageError where that is not possible."""
        if self._page is not None:
            self._page.start()
            self.get_logger().info(f"page: {self._page.url}")

    def destroy_node(self) -> None:
        self._closing.close()
        super().destroy_node()

    def _make_page(self, parameters: DisplayParameters) -> PageServer:
        page = PageServer(
            parameters.page_address,
            parameters.page_port,
            parameters.page_token,
            self._restorer.request_enabled,
            parameters.page_origin,
        )
        self._closing.callback(page.stop)
        return page

    def _topic(self, kind: type, name: str, qos: QoSProfile | int) -> Topic:
        topic = Topic(self.create_publisher(kind, name, qos), self.get_logger())
        self._closing.callback(topic.stop)
        return topic

    def _notify(self, text: str) -> None:
        """Tell the log and the page's viewers."""
        self.get_logger().warning(text)
        self._notice = self._notice[0] + 1, text
        self._send_state()

    def _namesakes(self) -> str:
        count, name = self._inputs.restorers, self._restorer.name
        return (
            f"{count} nodes of the name {name} publish images: end one, or give it another name"
            " (one that was killed counts for 3 to 20 s more)"
        )

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            after = self._settings.changed(changes)
        except ParameterRefused as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings = self._inputs.parameters = self._compositor.parameters = after
        self._sources.set_limits(after.max_age_ms / 1e3, after.fallback_after_ms / 1e3)
        self._compositor.wake()
        return SetParametersResult(successful=True)

    def _update(self) -> None:
        if self._page is not None:
            self._page.check()
        if not self._compositor.is_alive():
            raise RuntimeError("the thread that composes has died; its error is above")
        before = self._inputs.restorers
        self._inputs.update(self._outputs.is_watched())
        if before <= 1 < self._inputs.restorers:
            self._notify(self._namesakes())
        self._restorer.send_request()
        self._compositor.wake()

    def _send_state(self) -> None:
        """Send the page what it shows beside the image."""
        if self._page is None or not self._page.hub.clients:
            return
        driver, settings = self._sources.snapshot().driver, self._settings
        report, values = self._inputs.last_report, self._restorer.values()
        # Unknown until the restorer has said it.
        enabled = None
        if values and report.mode is not None:
            enabled = not (report.mode is Mode.CAMERA and report.reason == DISABLED)
        shown = {key: values[key] for key in _SHOWN_VALUES if key in values}
        number, text = self._notice
        self._page.hub.publish_state(
            {
                "kind": "state",
                "status": driver.status.value,
                "reason": driver.reason,
                "enabled": enabled,
                "restorer": {"name": self._restorer.name, **shown},
                "tasks": self._tasks,
                "view": settings.view,
                "divider": settings.divider,
                "max_age_ms": settings.max_age_ms,
                "notice": {"number": number, "text": text},
            }
        )

    def _publish_diagnostics(self) -> None:
        """Publish what the driver sees, and how fast: level and message say which image it is."""
        self._tasks = self._restorer.tasks()
        self._compositor.tasks = tuple(name for name, live in self._tasks.items() if live)
        driver = self._sources.snapshot().driver
        level = _LEVELS[driver.status]
        message = ": ".join(filter(None, (driver.status.value, driver.reason)))
        if self._inputs.restorers > 1:
            level, message = max(level, DiagnosticStatus.WARN), f"{self._namesakes()}; {message}"
        if driver.frame is not None and driver.frame.age_note:
            level = max(level, DiagnosticStatus.WARN)
            message = f"{message}; {driver.frame.age_note}"
        if not self._outputs.is_watched():
            level, message = DiagnosticStatus.OK, "nobody watches"
        if error := self._errors.recent_unforeseen():
            level, message = DiagnosticStatus.ERROR, f"{error}; {message}"
        clients = 0 if self._page is None else len(self._page.hub.clients)
        values = {
            "status": driver.status.value,
            "clients": str(clients),
            "rate_hz": f"{self._compositor.rate_hz():.1f}",
        }
        for name, summary in self._compositor.timings().items():
            values[f"{name}_median_ms"] = _text(summary.median)
            values[f"{name}_p99_ms"] = _text(summary.p99)
        status = diagnostic(self.get_fully_qualified_name(), level, message, values)
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.send_object(array)


def _text(value: float) -> str:
    """Format milliseconds; empty where there was nothing to measure."""
    return "" if math.isnan(value) else f"{value:.1f}"


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM, then return 0; return 2 for wrong arguments."""
    return run_command(NODE_NAME, DriverDisplay, DriverDisplay.start, argv, (PageError,))


if __name__ == "__main__":
    sys.exit(main())
