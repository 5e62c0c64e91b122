"""Restore one camera frame of a bag to the messages that restore_node would publish for it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping

from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import Engine
from unirestore_ros.msgs.camera_frame import (
    CameraFrame,
    CameraTraits,
    FrameImage,
    FrameMessages,
    read_frame,
)
from unirestore_ros.msgs.camera_info import InfoMismatch
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.recordings.fitting import info_bytes
from unirestore_ros.recordings.job import Job, Output
from unirestore_ros.recordings.workspace import SKIPPED, Record
from unirestore_ros.tasks import DRIVERS_TASK

_log = logging.getLogger(__name__)


class FrameRestorer:
    """Runs the network on frames of a job's cameras, in their order."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._engine = engine
        self._make = FrameMessages()
        self._warned: set[str] = set()
        self._traits = [CameraTraits(job.assume_encoding) for _ in job.cameras]
        self._outputs: Mapping[int, list[tuple[int, Output]]] = {
            camera: [item for item in enumerate(job.outputs) if item[1].camera == camera]
            for camera in range(len(job.cameras))
        }

    def restore(
        self, number: int, camera: int, data: bytes, info: CameraInfo | None
    ) -> list[Record]:
        """Restore the job's ``number``-th frame, a serialised image of ``camera``, to records.

        A frame that cannot be restored has one record that says why. InferenceError where the
        network fails.
        """
        try:
            frame = self._read(number, camera, data)
            if (why := self._why_not(frame)) is not None:
                return [_skipped(number, why)]
            rgb = self._make.rgb(frame)
        except MalformedMessage as error:
            return [_skipped(number, str(error))]
        self._engine.run_trunk(rgb)
        return [
            Record(number, output, content)
            for output, content in self._messages(frame, camera, info)
        ]

    def observe(self, number: int, camera: int, data: bytes) -> None:
        """Learn of the camera what restoring a frame would have taught, which an earlier run has
        done: the frames after it come out the same."""
        with contextlib.suppress(MalformedMessage):
            self._read(number, camera, data).observe()

    def _read(self, number: int, camera: int, data: bytes) -> CameraFrame:
        compressed = self._job.cameras[camera].compressed
        return read_frame(data, compressed, 0.0, number, self._traits[camera])

    def _why_not(self, frame: CameraFrame) -> str | None:
        return frame.unsupported or self._engine.refusal(frame.width, frame.height)

    def _messages(
        self, frame: CameraFrame, camera: int, info: CameraInfo | None
    ) -> Iterator[tuple[int, bytes]]:
        """Yield output and message; the driver's image is decoded once."""
        picture: FrameImage | None = None
        for index, output in self._outputs[camera]:
            if output.what in ("image", "compressed"):
                picture = picture or self._picture(frame, DRIVERS_TASK)
                if output.what == "image":
                    yield index, picture.message.tobytes()
                else:
                    yield index, picture.jpeg(self._job.jpeg_quality).tobytes()
            elif output.what == "task_image":
                yield index, self._picture(frame, output.task).message.tobytes()
            elif output.what == "features":
                features = self._engine.adapt(output.task)
                yield index, self._make.features(frame, features).tobytes()
            elif info is not None:
                try:
                    yield index, self._info(frame, output, info)
                except InfoMismatch as error:
                    self._warn_once(str(error))

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("no camera_info of feature maps: %s", text)

    def _picture(self, frame: CameraFrame, task: str) -> FrameImage:
        return self._make.image(frame, self._engine.decode(task))

    def _info(self, frame: CameraFrame, output: Output, info: CameraInfo) -> bytes:
        if output.what == "camera_info":
            return info_bytes(self._make.camera_info(frame, info))
        height, width, _ = self._engine.feature_shape
        pitch = self._engine.feature_pitch
        return info_bytes(self._make.feature_info(frame, info, (width, height), pitch))


def _skipped(number: int, reason: str) -> Record:
    return Record(number, SKIPPED, reason.encode())
