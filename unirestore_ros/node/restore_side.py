"""The thread that restores: the newest frame's turn, and between two turns the bundle's reload."""

from __future__ import annotations

import time
from collections.abc import Callable

from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import BundleError, Engine, InferenceError
from unirestore_ros.msgs.camera_frame import CameraFrame
from unirestore_ros.msgs.cdr import Bytes, MalformedMessage
from unirestore_ros.msgs.publishing import LatestOnlyWorker, Topic
from unirestore_ros.node.bundle_holder import BundleHolder
from unirestore_ros.node.mode import Mode
from unirestore_ros.node.parameters import Parameters
from unirestore_ros.node.restorer import Restorer, Sender, Turn
from unirestore_ros.node.shared import Shared
from unirestore_ros.node.statistics import Drop
from unirestore_ros.node.troubles import Troubles


class RestoreSide:
    """The only place that runs the engine."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._restorer = Restorer(shared.outputs)
        self._worker = LatestOnlyWorker(self._take_turn, "restore")

    @property
    def is_alive(self) -> bool:
        """False once an error that nobody foresaw has ended the thread."""
        return self._worker.is_alive()

    def offer(self, frame: CameraFrame) -> bool:
        """True where it replaces one that waited."""
        return self._worker.offer(frame)

    def discard(self) -> None:
        self._worker.discard()

    def stop(self) -> None:
        self._worker.stop()

    def reload(self, done: Callable[[str | None], None]) -> None:
        """Read the bundle again. ``done`` gets, in the thread, what is wrong with it, or None; the
        bundle before stays in use where the new one cannot be."""

        def errand() -> None:
            shared = self._shared
            error = open_bundle(shared.bundle, shared.parameters, shared.troubles)
            shared.gate.set_obstacle(shared.bundle.problem)
            done(error)

        self._worker.run_between(errand)

    def _take_turn(self, frame: CameraFrame) -> None:
        shared = self._shared
        engine = shared.bundle.engine
        if engine is None or shared.bundle.unfit(frame) is not None:
            return  # reloaded since it was offered
        if shared.ages.age_s(frame) * 1e3 > shared.parameters.max_age_ms:
            if shared.gate.mode is Mode.RESTORED:
                shared.statistics.count_drop(Drop.TOO_OLD)
            shared.gate.frame_tried(succeeded=False)
            return
        begun = time.monotonic()
        succeeded = self._restore(engine, frame)
        duration_ms = (time.monotonic() - begun) * 1e3
        if succeeded:
            shared.statistics.count_inference(duration_ms)
        # A frame that takes longer than that would stall the node as soon as it is back.
        shared.gate.frame_tried(succeeded and duration_ms < shared.parameters.fallback_after_ms)

    def _restore(self, engine: Engine, frame: CameraFrame) -> bool:
        shared = self._shared
        turn = Turn(
            frame=frame,
            demand=shared.outputs.demand(),
            info=shared.camera_info,
            jpeg_quality=shared.parameters.jpeg_quality,
            send=_Sender(shared, frame),
        )
        try:
            self._restorer.restore(engine, turn)
        except MalformedMessage as error:
            shared.statistics.count_drop(Drop.MALFORMED)
            shared.troubles.frame_malformed(str(error))
            return False
        except InferenceError as error:
            shared.statistics.count_drop(Drop.FAILED)
            shared.troubles.inference_failed(str(error))
            return False
        return True


class _Sender(Sender):
    """Asks the gate, and reports the frame with the first of its outputs."""

    def __init__(self, shared: Shared, frame: CameraFrame) -> None:
        self._shared = shared
        self._frame = frame
        self._has_reported = False

    def output(self, topic: Topic, message: Bytes) -> None:
        sent = self._shared.gate.send_restored(self._frame.number, lambda: topic.send(message))
        if sent and not self._has_reported:
            self._has_reported = True
            self._shared.report.published(self._frame, Mode.RESTORED, "")

    def info(self, topic: Topic, message: CameraInfo) -> None:
        self._shared.gate.send_restored(
            self._frame.number, lambda: topic.send_object(message), is_output=False
        )


def open_bundle(bundle: BundleHolder, parameters: Parameters, troubles: Troubles) -> str | None:
    """Open the bundle that the parameters name; returns why it cannot be used, or None."""
    try:
        bundle.open(parameters)
    except BundleError as error:
        troubles.bundle_refused(str(error))
        return str(error)
    return None
