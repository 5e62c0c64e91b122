"""One frame of the camera, raw or compressed: its header, and its pixels when they are wanted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import cv2
import numpy as np
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from unirestore_ros.msgs.cdr import CompressedView, ImageView, view_compressed, view_image
from unirestore_ros.msgs.compressed import compressed_size, decode
from unirestore_ros.msgs.errors import MalformedMessage, UnsupportedFrame
from unirestore_ros.msgs.image_conversion import (
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
class CameraFrame(ABC):
    """What the node keeps of a message until the frame's turn comes.

    Where a method takes ``out``, it is of the size and encoding in which the frame is published.
    """

    message: bytes
    """The message as it was serialised."""
    arrived: float
    """Seconds of the steady clock."""
    number: int
    """Counts arrivals, so that no frame is sent after a newer one."""
    width: int
    height: int
    unfit: str | None
    """Why its pixels cannot be read; such a frame can only be passed on as it is."""

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
    @abstractmethod
    def encoding(self) -> str:
        """Encoding in which it is published."""

    @abstractmethod
    def rgb(self, scratch: Pixels) -> Pixels:
        """(H,W,3), contiguous; in ``scratch`` where it must be converted."""

    @abstractmethod
    def bgr(self, scratch: Pixels) -> Pixels:
        """(H,W,3), contiguous; in ``scratch`` where it must be converted."""

    @abstractmethod
    def write_camera(self, out: Pixels) -> None:
        """Write the camera's own pixels."""

    def write_restored(self, rgb: Pixels, out: Pixels) -> None:
        """Write what the network made of it."""
        from_rgb(rgb, self.encoding, out)


@dataclass(frozen=True)
class RawFrame(CameraFrame):
    view: ImageView

    @property
    def encoding(self) -> str:
        return output_encoding(self.view.encoding)

    def rgb(self, scratch: Pixels) -> Pixels:
        return to_rgb(self.view, scratch)

    def bgr(self, scratch: Pixels) -> Pixels:
        return to_bgr(self.view, scratch)

    def write_camera(self, out: Pixels) -> None:
        if self.view.encoding == self.encoding:
            np.copyto(out, view_pixels(self.view))
        else:
            to_bgr(self.view, out)

    def write_restored(self, rgb: Pixels, out: Pixels) -> None:
        super().write_restored(rgb, out)
        copy_alpha(self.view, out)


@dataclass(frozen=True)
class CompressedFrame(CameraFrame):
    view: CompressedView

    @property
    def encoding(self) -> str:
        return "bgr8"

    def rgb(self, scratch: Pixels) -> Pixels:
        return np.asarray(cv2.cvtColor(self.bgr(scratch), cv2.COLOR_BGR2RGB, dst=scratch))

    def write_camera(self, out: Pixels) -> None:
        np.copyto(out, self.bgr(out))

    def bgr(self, scratch: Pixels) -> Pixels:
        pixels = decode(self.view.data)
        if pixels.shape != (self.height, self.width, 3):
            raise MalformedMessage(
                f"the compressed image decodes to {pixels.shape[1]}x{pixels.shape[0]},"
                f" its head says {self.width}x{self.height}"
            )
        return pixels


def read_frame(message: bytes, compressed: bool, arrived: float, number: int) -> CameraFrame:
    """Read a serialised `Image` or `CompressedImage`; MalformedMessage where it is not sound."""
    return (_read_compressed if compressed else _read_raw)(message, arrived, number)


def _read_raw(message: bytes, arrived: float, number: int) -> RawFrame:
    view = view_image(message)
    unfit = None
    try:
        check_image(view)
    except UnsupportedFrame as error:
        unfit = str(error)
    return RawFrame(message, arrived, number, view.width, view.height, unfit, view)


def _read_compressed(message: bytes, arrived: float, number: int) -> CompressedFrame:
    view = view_compressed(message)
    try:
        width, height = compressed_size(view.data)
    except UnsupportedFrame as error:
        return CompressedFrame(message, arrived, number, 0, 0, str(error), view)
    return CompressedFrame(message, arrived, number, width, height, None, view)
