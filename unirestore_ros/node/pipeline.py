"""The way of a frame through the node, in the order in which it happens.

Three threads carry it. The executor's thread reads a frame when it arrives and relays it at once in
camera mode; it never waits for the engine and decodes nothing: what must be converted to be relayed
is, by the converting thread. The restoring thread takes the newest frame, has the engine process
decode and restore it, and in restored mode sends each output as soon as it is computed. It works in
camera mode too, since frames that succeed beside the camera's bring restored mode back.

So a decoder runs in the node in camera mode only, where nothing may wait for the engine process,
and where there may be none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import BundleError, EngineOutput, InferenceError
from unirestore_ros.msgs.ages import AgeClock
from unirestore_ros.msgs.camera_frame import CameraFrame, CameraTraits, FrameMessages, read_frame
from unirestore_ros.msgs.camera_info import InfoMismatch, with_header
from unirestore_ros.msgs.cdr import Bytes, CompressedView, MalformedMessage
from unirestore_ros.msgs.publishing import LatestOnlyWorker
from unirestore_ros.node.camera_input import CameraInput
from unirestore_ros.node.diagnostics import (
    AGE_NOTE,
    Diagnosis,
    Drop,
    ErrorLog,
    Health,
    Statistics,
    diagnose,
    diagnostic,
)
from unirestore_ros.node.engine_process import EngineLost
from unirestore_ros.node.fallback import Fallback, Mode
from unirestore_ros.node.guard import Guard, Verdict, all_finite
from unirestore_ros.node.inference import Inference
from unirestore_ros.node.outputs import (
    CAMERA_INFO,
    GUARD,
    IMAGE,
    JPEG,
    STATUS,
    Demand,
    Outputs,
    guard_map,
)
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.tasks import DRIVERS_TASK

# Diagnostics come once a second.
_FAULT_REPORTED_S = 2.5


@dataclass
class Judgement:
    """What the guard has said of a frame so far."""

    verdict: Verdict | None = None
    """The verdict on the last image that was judged."""
    problem: str | None = None
    """Why nothing more of the frame is sent."""


@dataclass(frozen=True)
class FrameJob:
    """A frame that is being restored, and what is wanted of it at that moment."""

    frame: CameraFrame
    demand: Demand
    outputs: list[EngineOutput]
    """What the engine is to compute, in this order."""
    infos: dict[str, CameraInfo]
    """CameraInfos by topic, each until it has been sent."""
    judgement: Judgement
    decoded: NDArray[np.uint8] | None = None
    """What the engine process has decoded of a compressed frame, RGB (H,W,3) uint8."""


class Pipeline:
    """Everything between the camera's topics and the node's own, from configure to cleanup."""

    def __init__(
        self, node: LifecycleNode, parameters: Parameters, on_fault: Callable[[], None]
    ) -> None:
        """``on_fault`` is called, in any thread, when there is an error that ``diagnose`` tells,
        so that nobody has to wait for the next turn to hear of it."""
        self._on_fault = on_fault
        self._parameters = parameters
        """Replaced as a whole when one of them changes, so that any thread may read it."""
        self._camera = CameraTraits(parameters.assume_encoding)
        self._camera_info: CameraInfo | None = None
        self._arrivals = 0
        self._last_reported = -1
        self._last_direct = -1
        """Number of the last frame of camera mode whose image was sent as it came."""
        self._name = node.get_fully_qualified_name()
        self._logger = node.get_logger()
        self._errors = ErrorLog(self._logger)
        self._statistics = Statistics()
        self._ages = AgeClock(node.get_clock(), self._logger, parameters.max_age_ms)
        self._fallback = Fallback(parameters.fallback_after_ms * 1e-3, self._logger)
        self._inference = Inference(self._engine_lost)
        self._guard = Guard()
        self._last_fault = ("", float("-inf"))
        """The engine's last fault, and when it was, in seconds of the steady clock."""
        self._outputs = Outputs(node, parameters)
        # Two, because they keep memory for one thread each.
        self._relay_messages, self._restore_messages = FrameMessages(), FrameMessages()
        self._worker = LatestOnlyWorker(self._restore, "restore", self._errors.unforeseen)
        self._converter = LatestOnlyWorker(self._convert, "convert", self._errors.unforeseen)
        self._input = CameraInput(
            node, parameters, self._on_image, self._on_info, self._drop_unforeseen
        )
        self._worker.run_between(self._open_bundle)

    # The way of a frame: in the executor's thread

    def _on_image(self, message: bytes) -> None:
        """Read a frame that has arrived, relay it in camera mode, and offer it to be restored."""
        arrived = time.monotonic()
        self._statistics.count_arrival(arrived)
        self._arrivals += 1
        compressed = self._parameters.input_transport == "compressed"
        try:
            frame = read_frame(message, compressed, arrived, self._arrivals, self._camera)
            self._ages.observe(frame)
            demand = self._outputs.demand()
            engine = self._inference.state
            why_not = engine.why_not(frame)
            # A problem of the engine is known to the fallback, and is none of this frame.
            unsupported = why_not if engine.problem is None else frame.unsupported
            if self._fallback.frame_arrived(frame.number, demand.frames, unsupported):
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
        change is sent as the bytes that came; the rest is left to the converting thread."""
        direct = frame.topics_as_sent & demand.drivers
        for topic in direct:
            self._outputs.send(topic, np.frombuffer(frame.message, np.uint8))
        if IMAGE in direct:
            self._last_direct = frame.number
        if demand.drivers - direct and frame.unsupported is None:
            self._converter.offer(frame)
        if CAMERA_INFO in demand and self._camera_info is not None:
            self._outputs.send_object(CAMERA_INFO, with_header(self._camera_info, frame.header()))
        if direct:
            self._report(frame, Mode.CAMERA, self._fallback.reason)

    # The way of a frame: in the converting thread

    def _convert(self, frame: CameraFrame) -> None:
        """Camera mode: decode or convert a frame for the topics that its message does not suit. A
        large one may take longer than the executor's thread should be busy."""
        demand = self._outputs.demand()
        direct = frame.topics_as_sent & demand.drivers
        try:
            messages = self._converted(frame, demand.drivers - direct, self._relay_messages)
        except MalformedMessage as error:
            self._drop_malformed(error)
            return
        with self._fallback.sending_camera(frame.number) as allowed:
            if not allowed or frame.number < self._last_direct:
                return
            for topic, message in messages.items():
                self._outputs.send(topic, message)
        if messages and not direct:
            self._report(frame, Mode.CAMERA, self._fallback.reason)

    def _converted(
        self,
        frame: CameraFrame,
        topics: frozenset[str],
        make: FrameMessages,
        decoded: NDArray[np.uint8] | None = None,
    ) -> dict[str, Bytes]:
        """Make the camera's image for some of the driver's topics; ``decoded``: as in
        ``FrameJob``."""
        messages: dict[str, Bytes] = {}
        image = make.image(frame, decoded)
        if IMAGE in topics:
            messages[IMAGE] = image.message
        if JPEG in topics:
            messages[JPEG] = image.jpeg(self._parameters.jpeg_quality)
        return messages

    # The way of a frame: in the restoring thread

    def _restore(self, frame: CameraFrame) -> None:
        """Restore the newest frame, unless it has become too old while it waited."""
        engine = self._inference.state
        if engine.why_not(frame) is not None:
            return  # the engine has changed since the frame was offered
        if self._fallback.is_too_late_for(frame.number):
            return
        if not engine.is_ready_for(frame):
            self._get_ready(frame)
            return
        if self._ages.age_s(frame) * 1e3 > self._parameters.max_age_ms:
            if self._fallback.mode is Mode.RESTORED:
                self._statistics.count_drop(Drop.TOO_OLD)
            self._fallback.frame_tried(succeeded=False)
            return
        began = time.monotonic()
        succeeded = self._infer(self._job(frame))
        duration_ms = (time.monotonic() - began) * 1e3
        if succeeded:
            self._statistics.count_inference(duration_ms)
        # A frame that takes longer than that would stall the node as soon as restoring is back.
        self._fallback.frame_tried(succeeded and duration_ms < self._parameters.fallback_after_ms)

    def _job(self, frame: CameraFrame) -> FrameJob:
        """Say what is wanted of the frame, by the topics that have subscribers now."""
        demand, state = self._outputs.demand(), self._inference.state
        tasks = [task for task in self._parameters.tasks if task in state.tasks]
        infos = self._infos(frame, demand, [f"{task}/{CAMERA_INFO}" for task in tasks])
        return FrameJob(frame, demand, demand.engine_outputs(tasks), infos, Judgement())

    def _infos(
        self, frame: CameraFrame, demand: Demand, of_features: list[str]
    ) -> dict[str, CameraInfo]:
        """Make the CameraInfos that are wanted, by topic; ``of_features`` are those of feature
        maps."""
        make, info, state = self._restore_messages, self._camera_info, self._inference.state
        infos: dict[str, CameraInfo] = {}
        if info is None:
            return infos
        if CAMERA_INFO in demand:
            infos[CAMERA_INFO] = make.camera_info(frame, info)
        sizes = state.sizes_of(frame)
        maps = sizes.feature_size(state.stride), sizes.feature_pitch(state.stride)
        try:
            for topic in demand.topics.intersection(of_features):
                infos[topic] = make.feature_info(frame, info, *maps)
        except InfoMismatch as error:
            self._errors.info_mismatched(str(error))
        return infos

    def _infer(self, job: FrameJob) -> bool:
        """Run the engine on one frame and send the subscribed outputs; False where that failed."""
        try:
            if job.outputs:
                job = self._with_decoded(job)
                rgb = self._restore_messages.rgb(job.frame) if job.decoded is None else job.decoded
                for output, array in self._inference.run(rgb, job.outputs, self._parameters):
                    # What comes behind something refused is received all the same, and not sent.
                    if self._is_trusted(job, output, rgb, array):
                        self._send_output(job, output, array)
                        self._send_infos(job)
            if job.judgement.problem is None:
                self._send_infos(job)
        except MalformedMessage as error:
            self._drop_malformed(error)
            return False
        except InferenceError as error:
            self._statistics.count_drop(Drop.FAILED)
            self._errors.inference_failed(str(error))
            self._send_cameras(job, f"not restored: {error}")
            return False
        except EngineLost:
            self._statistics.count_drop(Drop.FAILED)
            return False
        return job.judgement.problem is None

    def _with_decoded(self, job: FrameJob) -> FrameJob:
        """Have the engine process decode a compressed frame: a decoder that crashes or hangs takes
        that process down, and not this one. A raw frame is left as it is."""
        frame = job.frame
        if not isinstance(frame.view, CompressedView):
            return job
        size = frame.width, frame.height
        return replace(job, decoded=self._inference.decode(frame.view.data, size, self._parameters))

    def _is_trusted(
        self, job: FrameJob, output: EngineOutput, rgb: NDArray[np.uint8], array: NDArray[Any]
    ) -> bool:
        """Tell whether an output of the frame may be sent. The first that may not be ends the
        frame: the driver then sees the camera's, and nothing else of it goes out.

        ``rgb``: the camera's frame, (H,W,3) uint8; ``array``: as in ``_send_output``.
        """
        judgement = job.judgement
        if judgement.problem is None:
            if output.what == "features":
                if not all_finite(array):
                    judgement.problem = f"features of {output.task} hold NaN or infinity"
            elif self._parameters.guard:
                judgement.verdict = verdict = self._guard.check(rgb, array)
                if self._outputs.wants(GUARD):
                    message = guard_map(job.frame.header(), verdict.map)
                    self._outputs.send_object(GUARD, message)
                if verdict.refused:
                    judgement.problem = f"the guard refused the image of {output.task}"
            if judgement.problem is not None:
                self._refuse(job)
        return judgement.problem is None

    def _refuse(self, job: FrameJob) -> None:
        """Send the camera's frame in place of one that is not trusted, and say why."""
        problem = job.judgement.problem or ""
        self._statistics.count_drop(Drop.REFUSED)
        self._errors.frame_refused(problem)
        self._send_cameras(job, problem)
        self._fallback.frame_refused()

    def _send_cameras(self, job: FrameJob, why: str) -> None:
        """Send the camera's frame in place of the restored one, unless something of it was sent, or
        the driver sees the camera's frames anyway."""
        frame, topics = job.frame, job.demand.drivers
        if not topics or self._last_reported == frame.number:
            return
        messages = self._converted(frame, topics, self._restore_messages, job.decoded)
        with self._fallback.sending_restored(frame.number) as allowed:
            if allowed:
                for topic, message in messages.items():
                    self._outputs.send(topic, message)
                if CAMERA_INFO in job.infos:
                    self._outputs.send_object(CAMERA_INFO, job.infos.pop(CAMERA_INFO))
        if allowed:
            self._last_reported = frame.number
            self._report(frame, Mode.CAMERA, why, job.judgement.verdict)

    def _send_output(self, job: FrameJob, output: EngineOutput, array: NDArray[Any]) -> None:
        """Send an image, (H,W,3) uint8 RGB, or features, (h,w,c) float32, to its topics."""
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
        # Features come whenever a part of the network is done: they are no reason to believe that a
        # driver, where there is one, gets images in time.
        is_awaited = topic in job.demand.drivers or not job.demand.drivers
        with self._fallback.sending_restored(job.frame.number, is_awaited) as allowed:
            if allowed:
                self._outputs.send(topic, message)
        if allowed and self._last_reported != job.frame.number:
            self._last_reported = job.frame.number
            self._report(job.frame, Mode.RESTORED, "", job.judgement.verdict)

    def _send_infos(self, job: FrameJob) -> None:
        """Send the CameraInfos once, behind the first output: it shows that there is a frame."""
        while job.infos:
            topic, info = job.infos.popitem()
            with self._fallback.sending_restored(job.frame.number, is_awaited=False) as allowed:
                if allowed:
                    self._outputs.send_object(topic, info)

    # The way of a frame: in either thread

    def _report(
        self, frame: CameraFrame, mode: Mode, reason: str, verdict: Verdict | None = None
    ) -> None:
        """Count a frame whose first output has just been sent, and publish its status."""
        age_ms = self._ages.age_s(frame) * 1e3
        latency_ms = (time.monotonic() - frame.arrived) * 1e3
        self._statistics.count_published(latency_ms, age_ms)
        if self._outputs.wants(STATUS):
            values = {
                "mode": mode.value,
                "age_ms": f"{age_ms:.1f}",
                "latency_ms": f"{latency_ms:.1f}",
                "width": str(frame.width),
                "height": str(frame.height),
            }
            if verdict is not None:
                values["guard_score"] = f"{verdict.score:.3f}"
            level, message = DiagnosticStatus.OK, reason or mode.value
            if note := self._ages.note:
                values[AGE_NOTE] = note
                level, message = DiagnosticStatus.WARN, f"{reason}; {note}" if reason else note
            status = diagnostic(self._name, level, message, values)
            array = DiagnosticArray(header=frame.header(), status=[status])
            self._outputs.send_object(STATUS, array)

    def _drop_malformed(self, error: MalformedMessage) -> None:
        self._statistics.count_drop(Drop.MALFORMED, str(error))
        self._errors.frame_malformed(str(error))

    def _drop_unforeseen(self, error: Exception) -> None:
        self._statistics.count_drop(Drop.UNFORESEEN)
        self._errors.unforeseen(error)

    # What the node tells the pipeline

    def start(self) -> None:
        """Begin in the mode that the engine allows now."""
        self._fallback.restart(self._parameters.enabled, self._inference.state.problem)
        self._worker.run_between(self._engine_changed)  # behind the bundle that is being read
        self.tick()

    def stop(self) -> None:
        self._input.close()
        self._worker.discard()
        self._converter.discard()

    def close(self) -> None:
        """Release everything, whatever the engine is doing."""
        self.stop()
        self._inference.interrupt()
        self._converter.stop()
        self._worker.stop()
        self._inference.close()
        self._outputs.destroy()

    def tick(self) -> None:
        """Follow what subscribers and time have changed; to be called some times a second."""
        demand = self._outputs.demand()
        self._input.update(bool(demand))
        self._fallback.check_stall(demand.frames)
        self._inference.watch(self._parameters.engine_memory_limit_mb)
        if self._inference.restart_is_due():
            self._worker.run_between(self._open_bundle)

    def apply(self, parameters: Parameters) -> None:
        """Apply the parameters that may change at run time."""
        before, self._parameters = self._parameters, parameters
        self._camera.assume_encoding = parameters.assume_encoding
        self._ages.max_age_s = parameters.max_age_ms * 1e-3
        self._fallback.set_fallback_after(parameters.fallback_after_ms * 1e-3)
        if parameters.enabled != before.enabled:
            self._fallback.set_enabled(parameters.enabled)

    def reload(self, finished: Callable[[str | None], None]) -> None:
        """Open the bundle again between two frames; the one before stays in use where that fails.
        Calls ``finished``, in the restoring thread, with what is wrong, or None. An engine that
        holds this up for ``hang_after_ms``, in a frame or in a load, is ended."""
        hang_s = self._parameters.hang_after_ms * 1e-3
        why = f"the engine process held up ~/reload for {hang_s:g} s, and was ended"
        patience = threading.Timer(hang_s, self._inference.give_up, (why,))

        def open_now() -> None:
            patience.cancel()
            finished(self._open_bundle())

        patience.start()
        self._worker.run_between(open_now)

    def diagnose(self, is_active: bool) -> Diagnosis:
        engine, silence = self._inference.state, self._input.silence()
        if silence:
            self._errors.input_silent(silence)
        too_slow = self._statistics.too_slow(self._fallback.waits_for_speed)
        self._errors.too_slow(too_slow)
        health = Health(
            is_active=is_active,
            mode=self._fallback.mode,
            reason=self._fallback.reason,
            enabled=self._parameters.enabled,
            bundle_problem=engine.problem if engine.is_fault else self._recent_fault(),
            missing_tasks=engine.missing(self._parameters.tasks),
            unforeseen=self._errors.recent_unforeseen(),
            thread_died=not (self._worker.is_alive() and self._converter.is_alive()),
            silence=silence,
            age_note=self._ages.note,
            too_slow=too_slow,
            recent_drops=self._statistics.recent_drops(self._fallback.mode),
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

    # The engine: in the restoring thread, but for `_engine_lost`

    def _open_bundle(self) -> str | None:
        """Open the bundle that the parameters name, while the camera's frames are shown; returns
        why it cannot be used, or None."""
        self._fallback.set_problem("the bundle is being read")
        try:
            self._inference.open(self._parameters)
        except (BundleError, EngineLost) as error:
            problem = self._inference.state.problem or str(error)
            if not self._inference.is_interrupted:
                self._errors.bundle_refused(problem)
            if isinstance(error, EngineLost) and self._inference.state.problem is not None:
                self._fallback.engine_failed(problem)
            self._engine_changed()
            self._announce_fault()
            return problem
        self._log_bundle()
        self._engine_changed()
        return None

    def _get_ready(self, frame: CameraFrame) -> None:
        """Pin the engine to frames of another size, while the camera's are shown, this one too."""
        why = f"getting ready for {frame.width}x{frame.height} frames"
        if self._fallback.mode is Mode.RESTORED:
            try:
                self._send_cameras(self._with_decoded(self._job(frame)), why)
            except MalformedMessage as error:
                self._drop_malformed(error)
                return
            except EngineLost:
                self._statistics.count_drop(Drop.FAILED)
                return
        self._fallback.size_changed(why)
        try:
            self._inference.get_ready(frame, self._parameters.load_timeout_s)
        except EngineLost:
            return
        self._engine_changed()

    def _engine_changed(self) -> None:
        """Leave camera mode with the next frame that is restored, where frames can be now."""
        problem = self._inference.state.problem
        if problem is None:
            self._fallback.engine_is_ready()
        else:
            self._fallback.set_problem(problem)

    def _recent_fault(self) -> str | None:
        """Say what the engine's last fault was, until diagnostics have had the time to tell it: the
        next process may be ready before their turn comes."""
        fault, when = self._last_fault
        return fault if time.monotonic() - when < _FAULT_REPORTED_S else None

    def _engine_lost(self, problem: str) -> None:
        """Show the camera's frames until there is another engine process."""
        self._fallback.engine_failed(problem)
        if not self._inference.is_interrupted:
            self._errors.engine_lost(problem)
            self._last_fault = problem, time.monotonic()
        self._announce_fault()

    def _announce_fault(self) -> None:
        if not self._inference.is_interrupted:
            self._on_fault()

    def _log_bundle(self) -> None:
        engine = self._inference.state
        self._logger.info(
            f"bundle {engine.folder} ({engine.backend}, tasks {', '.join(engine.tasks)})"
            f" restores {self._input.topic}"
        )
        if missing := engine.missing(self._parameters.tasks):
            self._logger.error(missing)
