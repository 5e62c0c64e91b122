"""Everything between the camera's topics and the node's own, from configure to cleanup."""

from __future__ import annotations

from collections.abc import Callable

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

from unirestore_ros.node.bundle_holder import BundleHolder
from unirestore_ros.node.camera_input import CameraInput
from unirestore_ros.node.camera_side import CameraSide
from unirestore_ros.node.diagnostics import Diagnosis, Health, diagnose
from unirestore_ros.node.gate import Gate
from unirestore_ros.node.mode import Mode
from unirestore_ros.node.outputs import Outputs
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.node.report import AgeClock, FrameReport
from unirestore_ros.node.restore_side import RestoreSide, open_bundle
from unirestore_ros.node.shared import Shared
from unirestore_ros.node.statistics import Statistics
from unirestore_ros.node.troubles import Troubles


class FrameFlow:
    """Puts the parts together, and hands on to them what the node is told."""

    def __init__(self, node: LifecycleNode, parameters: Parameters) -> None:
        self._logger = node.get_logger()
        troubles, bundle = Troubles(self._logger), BundleHolder()
        open_bundle(bundle, parameters, troubles)
        self._shared = shared = self._new_shared(node, parameters, bundle, troubles)
        self._restoring = RestoreSide(shared)
        self._camera = CameraSide(shared, self._restoring.offer)
        self._input = CameraInput(node, parameters, self._camera.hear_image, self._hear_info)
        self._log_bundle()

    def start(self) -> None:
        """Begin with the picture that the driver can have."""
        shared = self._shared
        shared.gate.restart(shared.parameters.fallback_after_ms * 1e-3)
        shared.gate.set_obstacle(shared.bundle.problem)
        shared.gate.set_enabled(shared.parameters.enabled)
        self.tick()

    def stop(self) -> None:
        self._input.close()
        self._restoring.discard()

    def close(self) -> None:
        """Give everything back; ends what the restoring thread is doing first."""
        self.stop()
        self._restoring.stop()
        self._shared.bundle.close()
        self._shared.outputs.destroy()

    def tick(self) -> None:
        """What time and the graph bring about; to be called some times a second."""
        demand = self._shared.outputs.demand()
        self._input.update(demand.anything)
        self._shared.gate.check_stall(demand.frames)

    def apply(self, parameters: Parameters) -> None:
        """Take over what may change at run time."""
        shared = self._shared
        before, shared.parameters = shared.parameters, parameters
        shared.gate.set_fallback_after(parameters.fallback_after_ms * 1e-3)
        if parameters.enabled != before.enabled:
            shared.gate.set_enabled(parameters.enabled)

    def reload(self, done: Callable[[str | None], None]) -> None:
        """Read the bundle again, in the restoring thread; ``done`` gets what is wrong, or None."""
        self._restoring.reload(done)

    def diagnose(self, is_active: bool) -> Diagnosis:
        shared, engine = self._shared, self._shared.bundle.engine
        silence = self._input.silence()
        if silence:
            shared.troubles.input_silent(silence)
        health = Health(
            is_active=is_active,
            mode=shared.gate.mode,
            reason=shared.gate.reason,
            enabled=shared.parameters.enabled,
            bundle_problem=shared.bundle.problem,
            missing_tasks=shared.bundle.missing(shared.parameters.tasks),
            thread_died=not self._restoring.is_alive,
            silence=silence,
            recent_drops=shared.statistics.recent_drops(),
        )
        values = {
            "mode": health.mode.value,
            "backend": "" if engine is None else engine.backend,
            "bundle": shared.parameters.bundle if engine is None else engine.bundle.name,
            **shared.statistics.values(),
            "last_error": shared.troubles.last_error,
        }
        return diagnose(health, values)

    def _new_shared(
        self,
        node: LifecycleNode,
        parameters: Parameters,
        bundle: BundleHolder,
        troubles: Troubles,
    ) -> Shared:
        outputs, statistics = Outputs(node, parameters), Statistics()
        ages = AgeClock(node.get_clock(), self._logger)
        return Shared(
            parameters=parameters,
            outputs=outputs,
            bundle=bundle,
            gate=Gate(parameters.fallback_after_ms * 1e-3, self._log_mode),
            ages=ages,
            statistics=statistics,
            report=FrameReport(node.get_fully_qualified_name(), outputs.status, statistics, ages),
            troubles=troubles,
        )

    def _hear_info(self, message: CameraInfo) -> None:
        self._shared.camera_info = message

    def _log_bundle(self) -> None:
        engine = self._shared.bundle.engine
        if engine is not None:
            size = "{}x{}".format(*engine.input_size)
            self._logger.info(
                f"bundle {engine.bundle.folder} ({engine.backend}, {size},"
                f" tasks {', '.join(engine.tasks)}) restores {self._input.topic}"
            )
        if missing := self._shared.bundle.missing(self._shared.parameters.tasks):
            self._logger.error(missing)

    def _log_mode(self, mode: Mode, reason: str) -> None:
        if mode is Mode.RESTORED:
            self._logger.info("restored mode")
        else:
            self._logger.warning(f"camera mode: {reason}")
