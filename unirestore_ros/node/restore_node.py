"""`restore_node`: a lifecycle node that restores a camera's images for driver and machines."""

from __future__ import annotations

import gc
import sys
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.impl.implementation_singleton import rclpy_implementation as rcl
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from unirestore_ros.memory import give_memory_back
from unirestore_ros.msgs.parameter_struct import ParameterRefused
from unirestore_ros.msgs.publishing import Topic
from unirestore_ros.node.bond import start_bond
from unirestore_ros.node.diagnostics import UNCONFIGURED, diagnostic, with_namesakes
from unirestore_ros.node.parameters import Parameters, fixed_while_configured
from unirestore_ros.node.pipeline import Pipeline
from unirestore_ros.node.process import run_command

NODE_NAME = "unirestore"
_TICK_S = 0.1
_DIAGNOSTICS_S = 1.0


class RestoreNode(LifecycleNode):
    """Transitions, services, parameters and timers; the way of a frame is `Pipeline`."""

    def __init__(self) -> None:
        self._pipeline: Pipeline | None = None
        self._diagnostics: Topic | None = None
        self._is_active = False
        self._bond: Any | None = None
        super().__init__(NODE_NAME)
        Parameters.declare(self)
        self._settings = Parameters.read(self)
        self.add_on_set_parameters_callback(self._on_parameters)
        publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._diagnostics = Topic(publisher, self.get_logger())
        # Not on the node's clock, which stands still in a simulation that is paused.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_TICK_S, self._tick, clock=steady)
        self.create_timer(_DIAGNOSTICS_S, self._publish_diagnostics, clock=steady)
        self.create_service(SetBool, "~/set_enabled", self._on_set_enabled)
        # A group of its own, since other callbacks run before the answer comes.
        group = MutuallyExclusiveCallbackGroup()
        self.create_service(Trigger, "~/reload", self._on_reload, callback_group=group)

    def start(self) -> None:
        """Bring the node to active, unless somebody else manages its transitions."""
        if self._settings.autostart:
            self.trigger_configure()
            self.trigger_activate()

    def _LifecycleNodeMixin__change_state(self, transition_id: int) -> TransitionCallbackReturn:
        """Refuse a transition that is not there, in the place of rclpy's own method: before Kilted
        that raises, which would end the node for anybody's wrong call."""
        of_rclpy: Any = super()
        try:
            return of_rclpy._LifecycleNodeMixin__change_state(transition_id)
        except rcl.RCLError as error:
            self.get_logger().error(f"transition {transition_id} is not possible: {error}")
            return TransitionCallbackReturn.ERROR

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self._pipeline = Pipeline(self, self._settings, self._announce_fault)
        finally:
            if self._pipeline is None:  # rclpy does not report what a transition raises
                self.get_logger().fatal(traceback.format_exc())
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        if self._pipeline is not None:
            self._pipeline.start()
        if not self._settings.autostart:  # somebody manages the transitions, perhaps with a bond
            self._bond = start_bond(self)
        self._is_active = True
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._is_active = False
        self._end_bond()
        if self._pipeline is not None:
            self._pipeline.stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        self._release()
        if self._diagnostics is not None:
            self._diagnostics.stop()
        super().destroy_node()

    def _end_bond(self) -> None:
        if self._bond is not None:
            self._bond.shutdown()
        self._bond = None

    def _release(self) -> None:
        self._is_active = False
        self._end_bond()
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
            gc.collect()  # its parts hold one another
            give_memory_back()

    def _tick(self) -> None:
        if self._pipeline is not None and self._is_active:
            self._pipeline.tick()

    def _announce_fault(self) -> None:
        """Publish diagnostics now, whichever thread calls: in the executor's, which alone makes
        them. Before it spins, its first turn is soon enough."""
        if (executor := self.executor) is not None:
            executor.create_task(self._publish_diagnostics)

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        try:
            after = self._settings.changed(changes)
        except ParameterRefused as error:
            return SetParametersResult(successful=False, reason=str(error))
        fixed = fixed_while_configured(self._settings, after)
        if fixed and self._pipeline is not None:
            reason = f"{', '.join(fixed)} may change only while the node is unconfigured"
            return SetParametersResult(successful=False, reason=reason)
        self._settings = after
        if self._pipeline is not None:
            self._pipeline.apply(after)
        return SetParametersResult(successful=True)

    def _on_set_enabled(
        self, request: SetBool.Request, response: SetBool.Response
    ) -> SetBool.Response:
        (result,) = self.set_parameters([Parameter("enabled", value=request.data)])
        response.success = result.successful
        response.message = result.reason or ("restoring" if request.data else "camera mode")
        return response

    async def _on_reload(
        self, request: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        if self._pipeline is None:
            response.message = "not configured: the bundle is read when the node is configured"
            return response
        executor = self.executor
        done: Future[str | None] = Future(executor=executor)

        def finish(error: str | None) -> None:
            done.set_result(error)
            if executor is not None:
                executor.wake()

        self._pipeline.reload(finish)
        error = await done
        response.success = error is None
        response.message = error or f"read {self._settings.bundle}"
        return response

    def _count_namesakes(self) -> int:
        """Count the nodes of the graph with this node's name and namespace, itself included."""
        own = self.get_name(), self.get_namespace()
        return self.get_node_names_and_namespaces().count(own)

    def _publish_diagnostics(self) -> None:
        diagnosis = UNCONFIGURED
        if self._pipeline is not None:
            diagnosis = self._pipeline.diagnose(self._is_active)
        name = self.get_fully_qualified_name()
        status = diagnostic(name, *with_namesakes(diagnosis, self._count_namesakes(), name))
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        if self._diagnostics is not None:
            self._diagnostics.send_object(array)


def main(argv: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM, which is 0; arguments that are wrong are 2."""
    return run_command(NODE_NAME, RestoreNode, RestoreNode.start, argv)


if __name__ == "__main__":
    sys.exit(main())
