"""The thread that makes what is seen: packets for the page, and the composed image for topics."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from unirestore_ros.display.canvas import Scene, compose
from unirestore_ros.display.hub import Hub, Stream, write_packet
from unirestore_ros.display.overlay import Area, Box
from unirestore_ros.display.parameters import DisplayParameters, View
from unirestore_ros.display.selection import FrameStatus, Selected
from unirestore_ros.display.sources import BufferedFrame, Snapshot, Sources
from unirestore_ros.msgs.cdr import MalformedMessage, new_compressed, new_image
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.msgs.encodings import Pixels
from unirestore_ros.msgs.publishing import LatestOnlyWorker, Topic
from unirestore_ros.msgs.rates import RecentSeries, Summary
from unirestore_ros.node.diagnostics import ErrorLog

# A stale image is composed this often, so that the viewer sees its age grow.
_STALE_EVERY_S = 0.5
# At a lower rate a frame is shown again when its own boxes and area arrive; at a higher one those
# of the frame before fit as well.
_REPEAT_UNDER_HZ = 12.0


class Outputs(NamedTuple):
    """Where images are sent."""

    image: Topic
    compressed: Topic
    hub: Hub | None

    def wants_canvas(self) -> bool:
        return self.image.has_subscriber() or self.compressed.has_subscriber()

    def is_watched(self) -> bool:
        return self.wants_canvas() or (self.hub is not None and bool(self.hub.wanted()))


class Compositor:
    """Make the newest outputs whenever it is woken; nothing queues up behind it."""

    def __init__(
        self,
        sources: Sources,
        outputs: Outputs,
        parameters: DisplayParameters,
        errors: ErrorLog,
    ) -> None:
        self.parameters = parameters
        """Replaced as a whole when one changes."""
        self.tasks: tuple[str, ...] = ()
        """Machine tasks that are being computed."""
        self._sources = sources
        self._outputs = outputs
        self._errors = errors
        # What was last made of each output: it is made again only when this changes.
        self._sent_to_page: dict[Stream, object] = {}
        self._composed: object = None
        self._last_number = -1
        self._lock = threading.Lock()
        self._shown = RecentSeries(window_s=2.0)
        # In ms: from a frame's stamp until it is sent; the work on it; from its arrival until it is
        # sent, which is the display's share of the age.
        self._timings = {name: RecentSeries() for name in ("age", "compose", "share")}
        self._worker: LatestOnlyWorker[None] = LatestOnlyWorker(
            self._update, "compositor", errors.unforeseen
        )

    def wake(self) -> None:
        """Look for something new to show; from any thread."""
        self._worker.offer(None)

    def stop(self) -> None:
        self._worker.stop()

    def is_alive(self) -> bool:
        return self._worker.is_alive()

    def rate_hz(self) -> float:
        """Return the shown frames a second, over the last two seconds."""
        with self._lock:
            return self._shown.rate_hz(time.monotonic())

    def timings(self) -> dict[str, Summary]:
        """Return age, compose and share of the last seconds, in ms."""
        now = time.monotonic()
        with self._lock:
            return {name: series.summary(now) for name, series in self._timings.items()}

    def _update(self, _: None) -> None:
        began = time.monotonic()
        snapshot = self._sources.snapshot()
        frame = _shown_frame(snapshot.driver)
        is_new = frame is not None and frame.frame.number != self._last_number
        if frame is not None and is_new:
            self._last_number = frame.frame.number
            with self._lock:
                self._shown.add(0.0, snapshot.now)
        if not self._decodes(frame):
            return
        # Each by itself: what one fails on must not take the image from the other.
        updates = self._update_page, self._update_canvas
        made = [self._updated(update, snapshot) for update in updates]
        if frame is None or not is_new or not any(made):
            return
        ended = time.monotonic()
        with self._lock:
            starts = {"age": frame.captured, "compose": began, "share": frame.frame.arrived}
            for name, start in starts.items():
                self._timings[name].add((ended - start) * 1e3, ended)

    def _updated(self, update: Callable[[Snapshot], bool], snapshot: Snapshot) -> bool:
        """Make an output; return whether there was one to make."""
        try:
            return update(snapshot)
        except MalformedMessage as error:
            self._errors.image_not_shown(str(error))
        except Exception as error:
            # As in `surviving`: images and overlays are foreign data.
            self._errors.unforeseen(error)
        return False

    def _decodes(self, frame: BufferedFrame | None) -> bool:
        """Take back a frame that does not decode, so that another is shown, or that there is none;
        returns whether it decodes."""
        if frame is None or not self._outputs.is_watched():
            return True
        try:
            _ = frame.pixels
        except MalformedMessage as error:
            self._errors.image_not_shown(str(error))
            frame.refused = str(error)
            self._sources.add_refused_frame(frame)
            self.wake()
            return False
        return True

    def _update_page(self, snapshot: Snapshot) -> bool:
        """Make the packets of the streams that have clients; return whether there was one to make.

        A packet is made once for all clients of its stream.
        """
        hub = self._outputs.hub
        if hub is None:
            return False
        wanted = hub.wanted()
        self._sent_to_page = {s: key for s, key in self._sent_to_page.items() if s in wanted}
        made = False
        for stream in wanted:
            selected = snapshot.camera if stream is Stream.CAMERA else snapshot.driver
            frame = _shown_frame(selected)
            if frame is None:  # the state says why
                continue
            key = frame.frame.number, selected.status, self._overlays_due(snapshot)
            if self._sent_to_page.get(stream) != key:
                self._sent_to_page[stream] = key
                hub.publish(stream, self._packet(stream, selected, frame, snapshot))
                made = True
        return made

    def _packet(
        self,
        stream: Stream,
        selected: Selected[BufferedFrame],
        frame: BufferedFrame,
        snapshot: Snapshot,
    ) -> bytes:
        quality, max_width = self.parameters.jpeg_quality, self.parameters.page_width
        name = "camera" if stream is Stream.CAMERA else "driver"
        parts = {name: frame.jpeg(quality, max_width)}
        if stream is Stream.BOTH and snapshot.driver_input is not None:
            parts["camera"] = snapshot.driver_input.jpeg(quality, max_width)
        boxes, area = self._overlays(snapshot)
        listed: list[list[object]] = []
        try:
            listed = [box.as_list() for box in boxes]
            if area is not None:
                parts["area"] = area.png
        except Exception as error:  # as in `surviving`: overlays are foreign data
            self._errors.overlay_left_out("boxes or road are", error)
        now = time.monotonic()
        sec, nanosec, frame_id = frame.frame.header_fields
        header = {
            "stamp": f"{sec}.{nanosec:09d}",
            "frame_id": frame_id,
            "size": [frame.frame.width, frame.frame.height],
            "status": selected.status.value,
            "reason": selected.reason,
            "age_ms": round((now - frame.captured) * 1e3, 1),
            "age_note": frame.age_note,
            "made": round(now * 1e3, 1),
            "boxes": listed,
        }
        return write_packet(header, parts)

    def _update_canvas(self, snapshot: Snapshot) -> bool:
        """Compose and publish where somebody subscribes; return whether there was something new."""
        if not self._outputs.wants_canvas():
            self._composed = None
            return False
        parameters = self.parameters
        view = View(parameters.view)
        selected = snapshot.camera if view is View.RAW else snapshot.driver
        frame, status = selected.frame, selected.status
        if frame is None:  # there is no header to publish with
            return False
        tick = int(snapshot.now / _STALE_EVERY_S) if status is FrameStatus.STALE else 0
        due = self._overlays_due(snapshot)
        key = frame.frame.number, status, selected.reason, tick, due, parameters
        if key == self._composed:
            return False
        self._composed = key
        camera = snapshot.driver_input if view in (View.SPLIT, View.SIDE) else None
        boxes, area = self._overlays(snapshot)
        now = time.monotonic()
        scene = Scene(
            view=view,
            status=status,
            reason=selected.reason,
            image=None if status is FrameStatus.NO_PICTURE else frame.pixels,
            camera=None if camera is None else camera.pixels,
            divider=parameters.divider / 100,
            age_ms=(now - frame.captured) * 1e3,
            age_note=frame.age_note,
            fps=self.rate_hz(),
            tasks=self.tasks,
            boxes=boxes,
            area=area,
        )
        self._publish_canvas(self._compose(scene), frame)
        return True

    def _compose(self, scene: Scene) -> Pixels:
        """Compose; without boxes and road where they cannot be drawn: they must not take the image
        away."""
        size = self.parameters.output_width, self.parameters.output_height
        attempts = (
            (scene, ""),
            (dataclasses.replace(scene, boxes=()), "boxes are"),
            (dataclasses.replace(scene, area=None), "road (drivable area) is"),
        )
        failure: Exception | None = None
        for attempt, left_out in attempts:
            try:
                canvas = compose(attempt, size)
            except Exception as error:  # as in `surviving`: overlays are foreign data
                failure = error
                continue
            if failure is not None:
                self._errors.overlay_left_out(left_out, failure)
            return canvas
        if failure is not None:
            self._errors.overlay_left_out("boxes and road are", failure)
        return compose(dataclasses.replace(scene, boxes=(), area=None), size)

    def _publish_canvas(self, canvas: Pixels, frame: BufferedFrame) -> None:
        """Publish with the header of the frame that is shown."""
        header = frame.frame.header_fields
        if self._outputs.image.has_subscriber():
            height, width = canvas.shape[:2]
            message, data = new_image(*header, height, width, "bgr8", 3 * width)
            data[:] = canvas.reshape(-1)
            self._outputs.image.send(message)
        if self._outputs.compressed.has_subscriber():
            jpeg = encode_jpeg(canvas, self.parameters.jpeg_quality)
            self._outputs.compressed.send(new_compressed(*header, jpeg_format("bgr8"), jpeg))

    def _overlays(self, snapshot: Snapshot) -> tuple[tuple[Box, ...], Area | None]:
        """Return what is to be drawn on the image."""
        boxes = snapshot.boxes.boxes if snapshot.boxes and self.parameters.show_boxes else ()
        return boxes, snapshot.area if self.parameters.show_drivable_area else None

    def _overlays_due(self, snapshot: Snapshot) -> tuple[bool, bool] | None:
        """Return whether boxes and area are the shown frame's own; None at a high rate.

        They arrive after their frame, which is sent again when this changes.
        """
        frame = snapshot.driver.frame
        if frame is None or self.rate_hz() > _REPEAT_UNDER_HZ:
            return None
        boxes, area = (
            overlay is not None and overlay.stamp_ns == frame.frame.stamp_ns
            for overlay in (snapshot.boxes, snapshot.area)
        )
        return boxes, area


def _shown_frame(selected: Selected[BufferedFrame]) -> BufferedFrame | None:
    """The frame whose pixels are to be shown; None where there is none."""
    return None if selected.status is FrameStatus.NO_PICTURE else selected.frame
