"""One frame of the camera, raw or compressed: its header, and its pixels when they are wanted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from unirestore_ros.msgs.cdr import (
    CompressedView,
    ImageView,
    MalformedMessage,
    UnsupportedFrame,
    view_compressed,
    view_image,
)
from unirestore_ros.msgs.compressed import compressed_size, decode
from unirestore_ros.msgs.encodings import (
    Pixels,
    check_image,
    copy_alpha,
    from_rgb,
    output_encoding,
    to_bgr,
    to_rgb,
    view_pixels,
)


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

    @property
    def stamp_ns(self) -> int:
        return self.view.sec * 1_000_000_000 + self.view.nanosec

    @property
    def header_fields(self) -> tuple[int, int, str]:
        """Seconds and nanoseconds of the stamp, and frame_id."""
        return self.view.sec, self.view.nanosec, self.view.frame_id

    def header(self) -> Header:
        sec, nanosec, frame_id = self.header_fields
        return Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=frame_id)

    @property
    def is_compressed(self) -> bool:
        return isinstance(self.view, CompressedView)

    @property
    def encoding(self) -> str:
        """The encoding in which it is published."""
        if isinstance(self.view, CompressedView):
            return "bgr8"
        return output_encoding(self.view.encoding)

    @property
    def is_publishable(self) -> bool:
        """Whether the message itself is what `~/image` carries in camera mode: its encoding is one
        that is kept, or one that nobody here knows."""
        if isinstance(self.view, CompressedView):
            return False
        return self.unsupported is not None or self.view.encoding == self.encoding

    def rgb(self, scratch: Pixels) -> Pixels:
        """(H,W,3) uint8, contiguous; in ``scratch`` where it must be converted."""
        if isinstance(self.view, CompressedView):
            return np.asarray(cv2.cvtColor(self.bgr(scratch), cv2.COLOR_BGR2RGB, dst=scratch))
        return to_rgb(self.view, scratch)

    def bgr(self, scratch: Pixels) -> Pixels:
        """(H,W,3) uint8, contiguous; in ``scratch`` where a raw image must be converted."""
        if isinstance(self.view, ImageView):
            return to_bgr(self.view, scratch)
        pixels = decode(self.view.data)
        if pixels.shape != (self.height, self.width, 3):
            raise MalformedMessage(
                f"the compressed image decodes to {pixels.shape[1]}x{pixels.shape[0]},"
                f" its header says {self.width}x{self.height}"
            )
        return pixels

    def write_camera(self, out: Pixels) -> None:
        """Write the camera's own pixels."""
        if isinstance(self.view, ImageView) and self.is_publishable:
            np.copyto(out, view_pixels(self.view))
        elif (pixels := self.bgr(out)) is not out:
            np.copyto(out, pixels)

    def write_restored(self, rgb: Pixels, out: Pixels) -> None:
        """Write what the network made of it, RGB (H,W,3) uint8; alpha is the camera's."""
        from_rgb(rgb, self.encoding, out)
        if isinstance(self.view, ImageView):
            copy_alpha(self.view, out)


def read_frame(message: bytes, compressed: bool, arrived: float, number: int) -> CameraFrame:
    """Read a serialised `Image` or `CompressedImage`; MalformedMessage where it is not sound."""
    view: ImageView | CompressedView
    unsupported = None
    if compressed:
        view, size = view_compressed(message), (0, 0)
        try:
            size = compressed_size(view.data)
        except UnsupportedFrame as error:
            unsupported = str(error)
    else:
        view = view_image(message)
        size = view.width, view.height
        try:
            check_image(view)
        except UnsupportedFrame as error:
            unsupported = str(error)
    return CameraFrame(message, arrived, number, *size, unsupported, view)
