"""The way of a frame through the node, in the order in which it happens.

Two threads carry it. The executor's thread reads a frame when it arrives and relays it at once in
camera mode; it never waits for the engine. The restoring thread takes the newest frame, runs the
engine, and in restored mode sends each output as soon as it is computed. It works in camera mode
too, since frames that succeed beside the camera's are what brings restored mode back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import BundleError, Engine, EngineOutput, InferenceError
from unirestore_ros.msgs.camera_frame import CameraFrame, CameraTraits, FrameMessages, read_frame
from unirestore_ros.msgs.cdr import Bytes, MalformedMessage
from unirestore_ros.msgs.publishing import LatestOnlyWorker
from unirestore_ros.node.camera_input import CameraInput
from unirestore_ros.node.diagnostics import (
    AgeClock,
    Diagnosis,
    Drop,
    ErrorLog,
    Health,
    Statistics,
    diagnose,
    diagnostic,
)
from unirestore_ros.node.engine_holder import EngineHolder
from unirestore_ros.node.fallback import Fallback, Mode
from unirestore_ros.node.outputs import CAMERA_INFO, IMAGE, JPEG, STATUS, Demand, Outputs
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.tasks import DRIVERS_TASK


@dataclass(frozen=True)
class FrameJob:
    """A frame that is being restored, and what is wanted of it at that moment."""

    frame: CameraFrame
    demand: Demand
    outputs: list[EngineOutput]
    """What the engine is to compute, in this order."""
    infos: dict[str, CameraInfo]
    """CameraInfos by topic, each until it has been sent."""


class Pipeline:
    """Everything between the camera's topics and the node's own, from configure to cleanup."""

    def __init__(self, node: LifecycleNode, parameters: Parameters) -> None:
        self._parameters = parameters
        """Replaced as a whole when one of them changes, so that any thread may read it."""
        self._camera = CameraTraits(parameters.assume_encoding)
        self._camera_info: CameraInfo | None = None
        self._arrivals = 0
        self._last_reported = -1
        self._name = node.get_fully_qualified_name()
        self._logger = node.get_logger()
        self._errors = ErrorLog(self._logger)
        self._statistics = Statistics()
        self._ages = AgeClock(node.get_clock(), self._logger)
        self._fallback = Fallback(parameters.fallback_after_ms * 1e-3, self._logger)
        self._holder = EngineHolder()
        self._open_bundle()
        self._outputs = Outputs(node, parameters)
        # Two, because they keep memory for one thread each.
        self._relay_messages, self._restore_messages = FrameMessages(), FrameMessages()
        self._worker = LatestOnlyWorker(self._restore, "restore")
        self._input = CameraInput(node, parameters, self._on_image, self._on_info)
        self._log_bundle()

    # The way of a frame: in the executor's thread

    def _on_image(self, message: bytes) -> None:
        """Read a frame that has arrived, relay it in camera mode, and offer it to be restored."""
        arrived = time.monotonic()
        self._statistics.count_arrival(arrived)
        self._arrivals += 1
        compressed = self._parameters.input_transport == "compressed"
        try:
            frame = read_frame(message, compressed, arrived, self._arrivals, self._camera)
            demand = self._outputs.demand()
            why_not = self._holder.state.why_not(frame)
            if self._fallback.frame_arrived(frame.number, demand.frames, why_not):
                self._relay(frame, demand)
        except MalformedMessage as error:
            self._drop_malformed(error)
            return
        if why_not is None and self._parameters.enabled:
            replaced = self._worker.offer(frame)
            # In camera mode the frame that was replaced has been shown already.
            if replaced and self._fallback.mode is Mode.RESTORED:
                self._statistics.count_drop(Drop.REPLACED)

    def _relay(self, frame: CameraFrame, demand: Demand) -> None:
        """Camera mode: send the frame's pixels as the camera made them. A message that needs no
        change is sent as the bytes that came."""
        sent = set()
        if IMAGE in demand and frame.is_publishable:
            self._outputs.send(IMAGE, np.frombuffer(frame.message, np.uint8))
            sent.add(IMAGE)
        if JPEG in demand and frame.is_compressed:
            self._outputs.send(JPEG, np.frombuffer(frame.message, np.uint8))
            sent.add(JPEG)
        missing = demand.drivers - sent
        if missing and frame.unsupported is None:
            image = self._relay_messages.image(frame)
            if IMAGE in missing:
                self._outputs.send(IMAGE, image.message)
            if JPEG in missing:
                self._outputs.send(JPEG, image.jpeg(self._parameters.jpeg_quality))
            sent |= missing
        if CAMERA_INFO in demand and self._camera_info is not None:
            info = self._relay_messages.camera_info(frame, self._camera_info)
            self._outputs.send_object(CAMERA_INFO, info)
        if sent:
            self._report(frame, Mode.CAMERA, self._fallback.reason)

    # The way of a frame: in the restoring thread

    def _restore(self, frame: CameraFrame) -> None:
        """Restore the newest frame, unless it has become too old while it waited."""
        engine = self._holder.engine
        if engine is None or self._holder.state.why_not(frame) is not None:
            return  # a bundle for other frames was opened since it was offered
        if self._ages.age_s(frame) * 1e3 > self._parameters.max_age_ms:
            if self._fallback.mode is Mode.RESTORED:
                self._statistics.count_drop(Drop.TOO_OLD)
            self._fallback.frame_tried(succeeded=False)
            return
        began = time.monotonic()
        succeeded = self._infer(engine, self._job(frame))
        duration_ms = (time.monotonic() - began) * 1e3
        if succeeded:
            self._statistics.count_inference(duration_ms)
        # A frame that takes longer than that would stall the node as soon as restoring is back.
        self._fallback.frame_tried(succeeded and duration_ms < self._parameters.fallback_after_ms)

    def _job(self, frame: CameraFrame) -> FrameJob:
        """What is wanted of the frame, by the topics that have subscribers now."""
        demand, state = self._outputs.demand(), self._holder.state
        tasks = [task for task in self._parameters.tasks if task in state.tasks]
        make, info = self._restore_messages, self._camera_info
        infos: dict[str, CameraInfo] = {}
        if info is not None:
            sizes = state.sizes_of(frame)
            maps = sizes.feature_size(state.stride), sizes.feature_pitch(state.stride)
            for topic in (f"{task}/{CAMERA_INFO}" for task in tasks):
                if topic in demand:
                    infos[topic] = make.feature_info(frame, info, *maps)
            if CAMERA_INFO in demand:
                infos[CAMERA_INFO] = make.camera_info(frame, info)
        return FrameJob(frame, demand, demand.engine_outputs(tasks), infos)

    def _infer(self, engine: Engine, job: FrameJob) -> bool:
        """Run the engine on one frame and send the subscribed outputs; False where that failed."""
        try:
            if job.outputs:
                rgb = self._restore_messages.rgb(job.frame)
                for output, array in engine.run(rgb, job.outputs):
                    self._send_output(job, output, array)
                    self._send_infos(job)
            self._send_infos(job)
        except MalformedMessage as error:
            self._drop_malformed(error)
            return False
        except InferenceError as error:
            self._statistics.count_drop(Drop.FAILED)
            self._errors.inference_failed(str(error))
            return False
        return True

    def _send_output(self, job: FrameJob, output: EngineOutput, array: NDArray[Any]) -> None:
        """``array``: an image as (H,W,3) uint8 RGB, or features as (h,w,c) float32."""
        make, frame, task = self._restore_messages, job.frame, output.task
        if output.what == "features":
            self._send(job, f"{task}/features", make.features(frame, array))
            return
        image = make.image(frame, array)
        is_drivers = task == DRIVERS_TASK
        if is_drivers and IMAGE in job.demand:
            self._send(job, IMAGE, image.message)
        if is_drivers and JPEG in job.demand:
            self._send(job, JPEG, image.jpeg(self._parameters.jpeg_quality))
        if f"{task}/image" in job.demand:
            self._send(job, f"{task}/image", image.message)

    def _send(self, job: FrameJob, topic: str, message: Bytes) -> None:
        """Send an image or features, unless the driver sees the camera's frames."""
        with self._fallback.sending_restored(job.frame.number) as allowed:
            if allowed:
                self._outputs.send(topic, message)
        if allowed and self._last_reported != job.frame.number:
            self._last_reported = job.frame.number
            self._report(job.frame, Mode.RESTORED, "")

    def _send_infos(self, job: FrameJob) -> None:
        """Send the CameraInfos once, behind the first output: it shows that there is a frame."""
        while job.infos:
            topic, info = job.infos.popitem()
            with self._fallback.sending_restored(job.frame.number, is_output=False) as allowed:
                if allowed:
                    self._outputs.send_object(topic, info)

    # The way of a frame: in either thread

    def _report(self, frame: CameraFrame, mode: Mode, reason: str) -> None:
        """Count a frame whose first output has just been sent, and publish its status."""
        age_ms = self._ages.age_s(frame) * 1e3
        latency_ms = (time.monotonic() - frame.arrived) * 1e3
        self._statistics.count_published(latency_ms, age_ms)
        if self._outputs.wants_status():
            values = {
                "mode": mode.value,
                "age_ms": f"{age_ms:.1f}",
                "latency_ms": f"{latency_ms:.1f}",
            }
            status = diagnostic(self._name, DiagnosticStatus.OK, reason or mode.value, values)
            array = DiagnosticArray(header=frame.header(), status=[status])
            self._outputs.send_object(STATUS, array)

    def _drop_malformed(self, error: MalformedMessage) -> None:
        self._statistics.count_drop(Drop.MALFORMED)
        self._errors.frame_malformed(str(error))

    # What the node tells the pipeline

    def start(self) -> None:
        """Begin in the mode that the settings permit."""
        self._fallback.restart(self._parameters.enabled, self._holder.state.problem)
        self.tick()

    def stop(self) -> None:
        self._input.close()
        self._worker.discard()

    def close(self) -> None:
        """Release everything, after the frame that is being restored."""
        self.stop()
        self._worker.stop()
        self._holder.close()
        self._outputs.destroy()

    def tick(self) -> None:
        """Follow what subscribers and time have changed; to be called some times a second."""
        demand = self._outputs.demand()
        self._input.update(bool(demand))
        self._fallback.check_stall(demand.frames)

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        before, self._parameters = self._parameters, parameters
        self._camera.assume_encoding = parameters.assume_encoding
        self._fallback.set_fallback_after(parameters.fallback_after_ms * 1e-3)
        if parameters.enabled != before.enabled:
            self._fallback.set_enabled(parameters.enabled)

    def reload(self, finished: Callable[[str | None], None]) -> None:
        """Open the bundle again between two frames; the one before stays in use where that fails.
        Calls ``finished``, in the restoring thread, with what is wrong, or None."""

        def reopen() -> None:
            error = self._open_bundle()
            self._fallback.set_problem(self._holder.state.problem)
            finished(error)

        self._worker.run_between(reopen)

    def diagnose(self, is_active: bool) -> Diagnosis:
        engine, silence = self._holder.state, self._input.silence()
        if silence:
            self._errors.input_silent(silence)
        health = Health(
            is_active=is_active,
            mode=self._fallback.mode,
            reason=self._fallback.reason,
            enabled=self._parameters.enabled,
            bundle_problem=engine.problem,
            missing_tasks=engine.missing(self._parameters.tasks),
            thread_died=not self._worker.is_alive(),
            silence=silence,
            recent_drops=self._statistics.recent_drops(),
        )
        values = {
            "mode": health.mode.value,
            "backend": engine.backend,
            "bundle": engine.bundle or self._parameters.bundle,
            **self._statistics.values(),
            "last_error": self._errors.last_error,
        }
        return diagnose(health, values)

    def _on_info(self, message: CameraInfo) -> None:
        self._camera_info = message

    def _open_bundle(self) -> str | None:
        """Open the bundle that the parameters name; returns why it cannot be used, or None."""
        try:
            self._holder.open(self._parameters)
        except BundleError as error:
            self._errors.bundle_refused(str(error))
            return str(error)
        return None

    def _log_bundle(self) -> None:
        engine = self._holder.state
        if engine.problem is None:
            self._logger.info(
                f"bundle {engine.folder} ({engine.backend}, tasks {', '.join(engine.tasks)})"
                f" restores {self._input.topic}"
            )
        if missing := engine.missing(self._parameters.tasks):
            self._logger.error(missing)
