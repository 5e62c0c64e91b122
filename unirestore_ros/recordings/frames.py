"""One camera frame of a bag to the messages that restore_node would publish for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sensor_msgs.msg import CameraInfo

from unirestore_ros.engine import Engine
from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.camera_info import scaled_to, with_header
from unirestore_ros.msgs.errors import MalformedMessage
from unirestore_ros.msgs.image_conversion import ScratchImage
from unirestore_ros.msgs.picture import Picture, feature_message
from unirestore_ros.node.bundle_holder import DRIVERS_TASK
from unirestore_ros.recordings.fitting import fitted_frame, fitted_info, info_bytes
from unirestore_ros.recordings.job import Job, Output
from unirestore_ros.recordings.segments import SKIPPED, Record


class FrameRestorer:
    """Runs the network on frames of a job's cameras, in their order."""

    def __init__(self, job: Job, engine: Engine) -> None:
        self._job = job
        self._engine = engine
        self._rgb = ScratchImage()
        self._bgr = ScratchImage()
        self._outputs: Mapping[int, list[tuple[int, Output]]] = {
            camera: [item for item in enumerate(job.outputs) if item[1].camera == camera]
            for camera in range(len(job.cameras))
        }

    def restore(
        self, number: int, camera: int, data: bytes, info: CameraInfo | None
    ) -> list[Record]:
        """Records of the job's ``number``-th frame, a serialised image of ``camera``.

        A frame that cannot be restored has one record that says why. InferenceError where the
        network fails.
        """
        try:
            frame = read_frame(data, self._job.cameras[camera].compressed, 0.0, number)
            source = frame.width, frame.height
            if (why := self._why_not(frame)) is not None:
                return [_skipped(number, why)]
            frame = fitted_frame(frame, self._engine.input_size)
            rgb = frame.rgb(self._rgb.of(frame.height, frame.width))
        except MalformedMessage as error:
            return [_skipped(number, str(error))]
        if info is not None:
            info = fitted_info(info, source, self._engine.input_size)
        self._engine.run_trunk(rgb)
        return [
            Record(number, output, content)
            for output, content in self._messages(frame, camera, info)
        ]

    def _why_not(self, frame: CameraFrame) -> str | None:
        if frame.unfit is not None:
            return frame.unfit
        if self._job.fit or (frame.width, frame.height) == self._engine.input_size:
            return None
        width, height = self._engine.input_size
        return f"its size is {frame.width}x{frame.height}, the bundle takes {width}x{height}"

    def _messages(
        self, frame: CameraFrame, camera: int, info: CameraInfo | None
    ) -> Iterator[tuple[int, bytes]]:
        """Output and message; each picture is decoded once."""
        picture: Picture | None = None
        for index, output in self._outputs[camera]:
            if output.what in ("image", "compressed"):
                picture = picture or self._picture(frame, DRIVERS_TASK)
                if output.what == "image":
                    yield index, picture.message.tobytes()
                else:
                    yield index, picture.jpeg(self._job.jpeg_quality, self._bgr).tobytes()
            elif output.what == "task_image":
                yield index, self._picture(frame, output.task).message.tobytes()
            elif output.what == "features":
                yield index, feature_message(frame, self._engine.adapt(output.task)).tobytes()
            elif info is not None:
                yield index, self._info(frame, output, info)

    def _picture(self, frame: CameraFrame, task: str) -> Picture:
        picture = Picture(frame)
        frame.write_restored(self._engine.decode(task), picture.pixels)
        return picture

    def _info(self, frame: CameraFrame, output: Output, info: CameraInfo) -> bytes:
        if output.what == "feature_info":
            height, width, _ = self._engine.feature_shape
            info = scaled_to(info, (frame.width, frame.height), (width, height))
        return info_bytes(with_header(info, frame.header()))


def _skipped(number: int, reason: str) -> Record:
    return Record(number, SKIPPED, reason.encode())
