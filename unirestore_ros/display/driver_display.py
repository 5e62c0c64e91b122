"""`driver_display`: what the driver sees, in a window, on topics and on a page."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import remove_ros_args
from sensor_msgs.msg import CompressedImage, Image

from unirestore_ros.display.compositor import Compositor, Outlets
from unirestore_ros.display.inputs import Inputs
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.report import is_enabled, page_state, report
from unirestore_ros.display.restorer import RestorerLink
from unirestore_ros.display.server import PageError, PageServer
from unirestore_ros.display.sources import Sources
from unirestore_ros.display.view import View
from unirestore_ros.display.window import Window, WindowError
from unirestore_ros.msgs.parameter_struct import ParameterRefused
from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.process import StopRequests, keep_image_buffers, run_node, wait_for_stop

NODE_NAME = "driver_display"
_TICK_S = 0.1
_STATE_S = 0.5
_DIAGNOSTICS_S = 1.0


class DriverDisplay(Node):
    """Puts the parts together; parameters and timers."""

    def __init__(self) -> None:
        # Before the rest: ROS ends nodes too that were never finished.
        self._endings = contextlib.ExitStack()
        super().__init__(NODE_NAME)
        DisplayParameters.declare(self)
        self._settings = settings = DisplayParameters.read(self)
        self._notice = 0, ""
        self._tasks: dict[str, bool] = {}
        self.window = self._make_window() if settings.window else None
        self._page = self._make_page() if settings.page else None
        self._sources = Sources(settings.max_age_ms * 1e-3, settings.fallback_after_ms * 1e-3)
        self._outlets = self._make_outlets()
        self._compositor = Compositor(self._sources, self._outlets, settings, self.get_logger())
        self._endings.callback(self._compositor.stop)
        self._inputs = Inputs(self, settings, self._sources, self._compositor.poke)
        self._endings.callback(self._inputs.close)
        self._restorer = RestorerLink(self, settings.restorer, self._notify)
        self._diagnostics = self._topic(DiagnosticArray, "/diagnostics", 10)
        self.add_on_set_parameters_callback(self._on_parameters)
        # Not on the node's clock, which stands still in a simulation that is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_TICK_S, self._tick, clock=steady)
        self.create_timer(_STATE_S, self._tell_page, clock=steady)
        self.create_timer(_DIAGNOSTICS_S, self._report, clock=steady)

    def start(self) -> None:
        """Serve the page; PageError where that cannot be."""
        if self._page is not None:
            self._page.start()
            self.get_logger().info(f"page: {self._page.url}")

    def run_main_thread(self, requests: StopRequests) -> None:
        """The window, where there is one, until there is a request to stop."""
        if self.window is None:
            wait_for_stop(self, requests)
        else:
            self.window.run(requests)

    def destroy_node(self) -> None:
        self._endings.close()
        super().destroy_node()

    def _make_window(self) -> Window:
        def change_view(view: View) -> None:
            self._in_executor(lambda: self._set("view", view.value))

        def move_divider(share: float) -> None:
            self._in_executor(lambda: self._set("divider", round(share * 100)))

        def toggle_enabled() -> None:
            self._restorer.enable(not is_enabled(self._inputs.told))

        size = self._settings.output_width, self._settings.output_height
        return Window(size, change_view, move_divider, toggle_enabled)

    def _make_page(self) -> PageServer:
        def enable(wish: bool) -> None:
            self._restorer.enable(wish)  # which is made after the page

        settings = self._settings
        page = PageServer(settings.page_address, settings.page_port, settings.page_token, enable)
        self._endings.callback(page.stop)
        return page

    def _make_outlets(self) -> Outlets:
        reliability = ReliabilityPolicy[self._settings.output_reliability.upper()]
        qos = QoSProfile(depth=1, reliability=reliability)
        return Outlets(
            image=self._topic(Image, "~/image", qos),
            compressed=self._topic(CompressedImage, "~/image/compressed", qos),
            hub=None if self._page is None else self._page.hub,
            window=self.window,
        )

    def _topic(self, kind: type, name: str, qos: QoSProfile | int) -> Topic:
        topic = Topic(self.create_publisher(kind, name, qos), self.get_logger())
        self._endings.callback(topic.stop)
        return topic

    def _in_executor(self, action: Callable[[], object]) -> None:
        """In ROS's thread, from another."""
        if self.executor is not None:
            self.executor.create_task(action)

    def _set(self, name: str, value: str | int) -> None:
        self.set_parameters([Parameter(name, value=value)])

    def _notify(self, words: str) -> None:
        self.get_logger().warning(words)
        self._notice = self._notice[0] + 1, words
        self._tell_page()

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            after = self._settings.changed(changes)
        except ParameterRefused as error:
            return SetParametersResult(successful=False, reason=str(error))
        self._settings = self._inputs.parameters = self._compositor.parameters = after
        self._sources.set_limits(after.max_age_ms * 1e-3, after.fallback_after_ms * 1e-3)
        self._compositor.poke()
        return SetParametersResult(successful=True)

    def _tick(self) -> None:
        if self._page is not None:
            self._page.check()
        if not self._compositor.is_alive():
            raise RuntimeError("the thread that composes has died; its error is above")
        self._inputs.update(self._outlets.is_watched())
        self._restorer.send_wish()
        self._compositor.poke()

    def _tell_page(self) -> None:
        if self._page is None or not self._page.hub.clients:
            return
        state = page_state(
            self._sources.look(),
            self._inputs.told,
            self._restorer.name,
            self._restorer.values(),
            self._tasks,
            self._settings,
            self._notice,
        )
        self._page.hub.tell(state)

    def _report(self) -> None:
        self._tasks = self._restorer.tasks()
        self._compositor.tasks = tuple(name for name, live in self._tasks.items() if live)
        clients = 0 if self._page is None else len(self._page.hub.clients)
        status = report(
            self.get_fully_qualified_name(),
            self._sources.look(),
            self._outlets.is_watched(),
            self._compositor.figures(),
            clients,
        )
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.send_object(array)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM, which is 0; arguments that are wrong are 2."""
    keep_image_buffers()
    arguments = sys.argv[1:] if argv is None else argv
    if extra := remove_ros_args(arguments):
        sys.stderr.write(f"driver_display: unknown arguments {' '.join(extra)}; see --ros-args\n")
        return 2
    try:
        run_node(DriverDisplay, DriverDisplay.start, arguments, DriverDisplay.run_main_thread)
    except (ParameterRefused, ParameterException, PageError, WindowError) as error:
        get_logger(NODE_NAME).fatal(str(error))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
