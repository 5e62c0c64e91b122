"""The way of frames as they arrive: passed on in camera mode, offered to be restored."""

from __future__ import annotations

import time
from collections.abc import Callable

from unirestore_ros.msgs.camera_frame import CameraFrame, read_frame
from unirestore_ros.msgs.camera_info import with_header
from unirestore_ros.msgs.cdr import MalformedMessage
from unirestore_ros.node.mode import Mode
from unirestore_ros.node.outputs import Demand
from unirestore_ros.node.relay import CameraRelay
from unirestore_ros.node.shared import Shared
from unirestore_ros.node.statistics import Drop


class CameraSide:
    """Runs in the executor's thread, and never waits for the network."""

    def __init__(self, shared: Shared, restore: Callable[[CameraFrame], bool]) -> None:
        """``restore``: offers a frame; True where it replaces one that waited."""
        self._shared = shared
        self._restore = restore
        self._relay = CameraRelay(shared.outputs)
        self._arrivals = 0

    def hear_image(self, message: bytes) -> None:
        """Take in a serialised image."""
        try:
            frame = self._read(message)
            demand = self._shared.outputs.demand()
            unfit = self._shared.bundle.unfit(frame)
            if self._shared.gate.admit(frame.number, demand.frames, unfit):
                self._pass_on(frame, demand)
        except MalformedMessage as error:
            self._shared.statistics.count_drop(Drop.MALFORMED)
            self._shared.troubles.frame_malformed(str(error))
            return
        if unfit is None and self._shared.parameters.enabled:
            replaced = self._restore(frame)
            if replaced and self._shared.gate.mode is Mode.RESTORED:
                self._shared.statistics.count_drop(Drop.REPLACED)

    def _read(self, message: bytes) -> CameraFrame:
        arrived = time.monotonic()
        self._shared.statistics.count_arrival(arrived)
        self._arrivals += 1
        compressed = self._shared.parameters.input_transport == "compressed"
        return read_frame(message, compressed, arrived, self._arrivals)

    def _pass_on(self, frame: CameraFrame, demand: Demand) -> None:
        shared = self._shared
        sent = self._relay.send(frame, demand, shared.parameters.jpeg_quality)
        if demand.camera_info and shared.camera_info is not None:
            info = with_header(shared.camera_info, frame.header())
            shared.outputs.camera_info.send_object(info)
        if sent:
            shared.report.published(frame, Mode.CAMERA, shared.gate.reason)
