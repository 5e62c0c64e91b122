"""One frame of the camera, raw or compressed: reading it, and the messages that are made of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from unirestore_ros.msgs.camera_info import scaled_to, with_header
from unirestore_ros.msgs.cdr import (
    Bytes,
    CompressedView,
    ImageView,
    UnsupportedFrame,
    new_compressed,
    new_image,
    view_compressed,
    view_image,
)
from unirestore_ros.msgs.compressed import compressed_size, decode, encode_jpeg, jpeg_format
from unirestore_ros.msgs.encodings import (
    ENCODINGS,
    Pixels,
    ScratchImage,
    SensorPeak,
    check_image,
    check_length,
    copy_alpha,
    from_rgb,
    named_encoding,
    observe_peak,
    output_encoding,
    to_bgr,
    to_rgb,
    view_pixels,
)


@dataclass
class CameraTraits:
    """What is known of a camera besides its messages; one object for each camera."""

    assume_encoding: str = ""
    """What an encoding means that does not name its colours; empty: such frames are refused."""
    peak: SensorPeak = dataclasses.field(default_factory=SensorPeak)


@dataclass(frozen=True)
class CameraFrame:
    """A message, and what its first bytes say. No pixel is copied or decoded before it is asked
    for, since most frames that wait are replaced by a newer one.

    Arguments ``scratch`` are (H,W,3) uint8 memory for a conversion. Arguments ``out`` have the size
    and encoding in which the frame is published: (H,W) or (H,W,channels) uint8.
    """

    message: bytes
    """The message as it was serialised."""
    arrived: float
    """Seconds of the steady clock."""
    number: int
    """Counts arrivals, so that no frame is sent after a newer one."""
    width: int
    height: int
    unsupported: str | None
    """Why its pixels cannot be read; such a frame can only be relayed as it is."""
    view: ImageView | CompressedView
    """With the encoding that is assumed, where the message does not name its own."""
    is_as_sent: bool
    """Whether encoding and step of the view are those of the message."""
    peak: SensorPeak
    """The camera's."""

    @property
    def stamp_ns(self) -> int:
        return self.view.sec * 1_000_000_000 + self.view.nanosec

    @property
    def header_fields(self) -> tuple[int, int, str]:
        """Return seconds and nanoseconds of the stamp, and frame_id."""
        return self.view.sec, self.view.nanosec, self.view.frame_id

    def header(self) -> Header:
        sec, nanosec, frame_id = self.header_fields
        return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)

    @property
    def is_compressed(self) -> bool:
        return isinstance(self.view, CompressedView)

    @property
    def encoding(self) -> str:
        """Return the encoding in which it is published."""
        if isinstance(self.view, CompressedView):
            return "bgr8"
        return output_encoding(self.view.encoding)

    @property
    def is_publishable(self) -> bool:
        """Tell whether the message itself is what `~/image` carries in camera mode: its encoding is
        one that is kept, or one that nobody here knows."""
        if isinstance(self.view, CompressedView):
            return False
        return self.unsupported is not None or (self.is_as_sent and self._keeps_encoding)

    @property
    def topics_as_sent(self) -> frozenset[str]:
        """Return the names of the driver's topics on which the message itself may be sent."""
        raw = {"image"} if self.is_publishable else set()
        return frozenset(raw | ({"image/compressed"} if self.is_compressed else set()))

    @property
    def _keeps_encoding(self) -> bool:
        return isinstance(self.view, ImageView) and self.view.encoding == self.encoding

    def observe(self) -> None:
        """Learn from a frame what converting it would teach of the camera."""
        if isinstance(self.view, ImageView) and self.unsupported is None:
            observe_peak(self.view, self.peak)

    def rgb(self, scratch: Pixels) -> Pixels:
        """Return RGB (H,W,3) uint8, contiguous; in ``scratch`` where it must be converted."""
        if isinstance(self.view, CompressedView):
            return np.asarray(cv2.cvtColor(self.bgr(scratch), cv2.COLOR_BGR2RGB, dst=scratch))
        return to_rgb(self.view, scratch, self.peak)

    def bgr(self, scratch: Pixels) -> Pixels:
        """Return BGR (H,W,3) uint8, contiguous; in ``scratch`` where a raw image must be
        converted."""
        if isinstance(self.view, ImageView):
            return to_bgr(self.view, scratch, self.peak)
        return decode(self.view.data, self.width, self.height)

    def write_camera(self, out: Pixels) -> None:
        """Write the camera's own pixels."""
        if isinstance(self.view, ImageView) and self._keeps_encoding:
            np.copyto(out, view_pixels(self.view))
        elif (pixels := self.bgr(out)) is not out:
            np.copyto(out, pixels)

    def write_restored(self, rgb: Pixels, out: Pixels) -> None:
        """Write what the network made of it, RGB (H,W,3) uint8; alpha is the camera's."""
        from_rgb(rgb, self.encoding, out)
        if isinstance(self.view, ImageView):
            copy_alpha(self.view, out)


def read_frame(
    message: bytes,
    compressed: bool,
    arrived: float,
    number: int,
    camera: CameraTraits | None = None,
) -> CameraFrame:
    """Read a serialised `Image` or `CompressedImage`; MalformedMessage where it is not sound.

    Without ``camera`` the frame is taken for the only one of a camera of which nothing is known.
    """
    traits = camera or CameraTraits()
    view: ImageView | CompressedView
    unsupported = None
    is_as_sent = True
    if compressed:
        view, size = view_compressed(message), (0, 0)
        try:
            size = compressed_size(view.data, view.format)
        except UnsupportedFrame as error:
            unsupported = str(error)
    else:
        view = sent = view_image(message)
        size = view.width, view.height
        try:
            encoding = named_encoding(sent.encoding, traits.assume_encoding)
            view = dataclasses.replace(sent, encoding=encoding)
            check_image(view)
            is_as_sent = encoding == sent.encoding and sent.step > 0
        except UnsupportedFrame as error:
            check_length(sent)
            unsupported = str(error)
    return CameraFrame(message, arrived, number, *size, unsupported, view, is_as_sent, traits.peak)


class FrameImage:
    """An image of a frame's size, with its header, in the encoding in which it is published."""

    def __init__(self, frame: CameraFrame, restored: Pixels | None, scratch: ScratchImage) -> None:
        height, width, encoding = frame.height, frame.width, frame.encoding
        channels = ENCODINGS[encoding].channels
        step = width * channels
        self.message, data = new_image(*frame.header_fields, height, width, encoding, step)
        """Serialised `sensor_msgs/Image`, (bytes,) uint8; the pixels are a part of it."""
        self._pixels = data.reshape((height, width) if channels == 1 else (height, width, channels))
        self._frame, self._scratch = frame, scratch
        if restored is None:
            frame.write_camera(self._pixels)
        else:
            frame.write_restored(restored, self._pixels)

    def jpeg(self, quality: int) -> Bytes:
        """Encode the image as a serialised `sensor_msgs/CompressedImage`, (bytes,) uint8;
        ``quality`` in percent."""
        frame, pixels = self._frame, self._pixels
        to_bgr = ENCODINGS[frame.encoding].to_bgr
        if to_bgr is not None and pixels.ndim == 3:
            bgr = self._scratch.of_size(frame.height, frame.width)
            pixels = np.asarray(cv2.cvtColor(pixels, to_bgr, dst=bgr))
        kind = jpeg_format(frame.encoding)
        return new_compressed(*frame.header_fields, kind, encode_jpeg(pixels, quality))


class FrameMessages:
    """Makes the messages of one frame after another, in memory that it keeps. For one thread."""

    def __init__(self) -> None:
        self._rgb = ScratchImage()
        self._bgr = ScratchImage()
        self._info = self._scaled = CameraInfo()
        self._sizes: tuple[Any, ...] = ()

    def rgb(self, frame: CameraFrame) -> Pixels:
        """Return RGB (H,W,3) uint8, valid until the next call; MalformedMessage where it does not
        decode."""
        return frame.rgb(self._rgb.of_size(frame.height, frame.width))

    def image(self, frame: CameraFrame, restored: Pixels | None = None) -> FrameImage:
        """Make the image of ``restored``, RGB (H,W,3) uint8; without it, of the camera's own
        pixels, and then MalformedMessage is raised where they do not decode."""
        return FrameImage(frame, restored, self._bgr)

    def features(self, frame: CameraFrame, features: NDArray[np.float32]) -> Bytes:
        """Write features (h,w,c) as a serialised `sensor_msgs/Image` of c channels."""
        height, width, channels = features.shape
        encoding, step = f"32FC{channels}", width * channels * features.itemsize
        message, data = new_image(*frame.header_fields, height, width, encoding, step)
        np.copyto(data.view(np.float32).reshape(features.shape), features)
        return message

    def camera_info(self, frame: CameraFrame, info: CameraInfo) -> CameraInfo:
        """Return the camera's CameraInfo for this frame."""
        return with_header(info, frame.header())

    def feature_info(
        self,
        frame: CameraFrame,
        info: CameraInfo,
        map_size: tuple[int, int],
        pitch: tuple[float, float] | None = None,
    ) -> CameraInfo:
        """Make the CameraInfo of this frame's feature maps; ``map_size`` is (width, height),
        ``pitch`` that of a map's pixel in pixels of the frame (None: the map covers the frame).

        InfoMismatch where ``info`` is not of frames of this size.
        """
        # The camera's calibration is scaled once, not for each frame and task: it rarely changes.
        sizes = (frame.width, frame.height), map_size, pitch
        if self._info is not info or self._sizes != sizes:
            self._scaled = scaled_to(info, *sizes)
            self._info, self._sizes = info, sizes
        return with_header(self._scaled, frame.header())
