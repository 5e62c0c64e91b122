"""The thread that makes what is seen: pictures for the page, and the composed one."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from rclpy.impl.rcutils_logger import RcutilsLogger

from unirestore_ros.display.canvas import Scene, compose, picture_span
from unirestore_ros.display.frames import Held
from unirestore_ros.display.hub import Hub
from unirestore_ros.display.overlay import Area, Box
from unirestore_ros.display.packet import Stream, write_packet
from unirestore_ros.display.parameters import DisplayParameters
from unirestore_ros.display.selection import Choice
from unirestore_ros.display.sources import Look, Sources
from unirestore_ros.display.view import Sign, View
from unirestore_ros.display.window import Window
from unirestore_ros.msgs.cdr import new_compressed, new_image
from unirestore_ros.msgs.compressed import encode_jpeg, jpeg_format
from unirestore_ros.msgs.errors import MalformedMessage
from unirestore_ros.msgs.image_conversion import Pixels
from unirestore_ros.msgs.publishing import LatestOnlyWorker, Topic
from unirestore_ros.msgs.rates import RecentSeries, Summary

# A stale picture is composed anew so often: its age is to be seen growing.
_STALE_EVERY_S = 0.5
_LOG_EVERY_S = 5.0
_REPEAT_UNDER_HZ = 12.0


class Outlets(NamedTuple):
    """Where what is made goes."""

    image: Topic
    compressed: Topic
    hub: Hub | None
    window: Window | None

    def wants_canvas(self) -> bool:
        topics = self.image, self.compressed
        return self.window is not None or any(topic.has_subscriber() for topic in topics)

    def is_watched(self) -> bool:
        return self.wants_canvas() or (self.hub is not None and bool(self.hub.wanted()))


class Figures(NamedTuple):
    """What was measured in the last seconds, in ms; rates in Hz."""

    fps: float
    age: Summary
    """Of pictures when they leave, from their stamp."""
    compose: Summary
    """Of the work on a picture."""
    share: Summary
    """From a picture's arrival until all that is made of it has left."""


class Compositor:
    """Works on the newest there is, whenever it is poked; nothing queues up behind it."""

    def __init__(
        self,
        sources: Sources,
        outlets: Outlets,
        parameters: DisplayParameters,
        logger: RcutilsLogger,
    ) -> None:
        self.parameters = parameters
        """Replaced as a whole when one changes."""
        self.tasks: tuple[str, ...] = ()
        self._sources = sources
        self._outlets = outlets
        self._logger = logger
        self._page: dict[Stream, object] = {}
        self._canvas: object = None
        self._last = -1
        self._shown = RecentSeries(window_s=2.0)
        self._lock = threading.Lock()
        self._age, self._compose, self._share = RecentSeries(), RecentSeries(), RecentSeries()
        self._worker: LatestOnlyWorker[None] = LatestOnlyWorker(self._turn, "compositor")

    def poke(self) -> None:
        """Something has changed, or some time has passed."""
        self._worker.offer(None)

    def stop(self) -> None:
        self._worker.stop()

    def is_alive(self) -> bool:
        return self._worker.is_alive()

    def figures(self) -> Figures:
        now = time.monotonic()
        with self._lock:
            series = (self._age, self._compose, self._share)
            return Figures(self._shown.rate_hz(now), *(each.summary(now) for each in series))

    def _turn(self, _: None) -> None:
        began = time.monotonic()
        look = self._sources.look()
        picture = look.driver.picture
        is_new = picture is not None and picture.frame.number != self._last
        if picture is not None and is_new:
            self._last = picture.frame.number
            with self._lock:
                self._shown.add(0.0, look.now)
        try:
            made = self._make_page(look)
            made = self._make_canvas(look) or made
        except MalformedMessage as error:
            words = f"a picture that cannot be shown: {error}"
            self._logger.warning(words, throttle_duration_sec=_LOG_EVERY_S)
            return
        if picture is not None and is_new and made:
            self._measure(picture, began, time.monotonic())

    def _measure(self, picture: Held, began: float, ended: float) -> None:
        with self._lock:
            self._age.add((ended - picture.captured) * 1e3, ended)
            self._compose.add((ended - began) * 1e3, ended)
            self._share.add((ended - picture.frame.arrived) * 1e3, ended)

    def _make_page(self, look: Look) -> bool:
        """Packets of the streams that have clients, each once for all of them."""
        hub = self._outlets.hub
        if hub is None:
            return False
        wanted = hub.wanted()
        self._page = {stream: seen for stream, seen in self._page.items() if stream in wanted}
        made = False
        for stream in wanted:
            choice = look.camera if stream is Stream.CAMERA else look.driver
            if choice.picture is None:
                continue
            seen = choice.picture.frame.number, choice.sign, self._late_overlay(look)
            if self._page.get(stream) != seen:
                self._page[stream] = seen
                hub.publish(stream, self._packet(stream, choice, choice.picture, look))
                made = True
        return made

    def _packet(self, stream: Stream, choice: Choice[Held], picture: Held, look: Look) -> bytes:
        settings = self.parameters
        quality, widest = settings.jpeg_quality, settings.page_width
        name = "camera" if stream is Stream.CAMERA else "driver"
        parts = {name: picture.jpeg(quality, widest)}
        if stream is Stream.BOTH and look.pair is not None:
            parts["camera"] = look.pair.jpeg(quality, widest)
        boxes, area = self._overlay(look)
        if area is not None:
            parts["area"] = area.png
        frame, now = picture.frame, time.monotonic()
        header = {
            "stamp": f"{frame.view.sec}.{frame.view.nanosec:09d}",
            "frame_id": frame.view.frame_id,
            "size": [frame.width, frame.height],
            "sign": choice.sign.value,
            "reason": choice.reason,
            "age_ms": round((now - picture.captured) * 1e3, 1),
            "made": round(now * 1e3, 1),
            "boxes": [box.as_list() for box in boxes],
        }
        return write_packet(header, parts)

    def _make_canvas(self, look: Look) -> bool:
        if not self._outlets.wants_canvas():
            self._canvas = None
            return False
        settings = self.parameters
        view = View(settings.view)
        choice = look.camera if view is View.RAW else look.driver
        number = None if choice.picture is None else choice.picture.frame.number
        tick = int(look.now / _STALE_EVERY_S) if choice.sign in (Sign.STALE, Sign.WAITING) else 0
        late = self._late_overlay(look)
        seen = number, choice.sign, choice.reason, tick, late, settings
        if seen == self._canvas:
            return False
        self._canvas = seen
        size = settings.output_width, settings.output_height
        canvas = compose(self._scene(view, choice, look), size)
        self._send_canvas(canvas, choice.picture)
        if self._outlets.window is not None:
            span = (0, size[0])
            if choice.picture is not None:
                span = picture_span(choice.picture.pixels, size)
            self._outlets.window.offer(canvas, span)
        return True

    def _scene(self, view: View, choice: Choice[Held], look: Look) -> Scene:
        picture = choice.picture
        pair = look.pair if view in (View.SPLIT, View.SIDE) else None
        boxes, area = self._overlay(look)
        now = time.monotonic()
        return Scene(
            view=view,
            sign=choice.sign,
            reason=choice.reason,
            picture=None if picture is None else picture.pixels,
            camera=None if pair is None else pair.pixels,
            divider=self.parameters.divider / 100,
            age_ms=None if picture is None else (now - picture.captured) * 1e3,
            fps=self._hz(now),
            tasks=self.tasks,
            boxes=boxes,
            area=area,
        )

    def _overlay(self, look: Look) -> tuple[tuple[Box, ...], Area | None]:
        """What is to be drawn over the picture."""
        boxes = look.boxes.boxes if look.boxes and self.parameters.show_boxes else ()
        return boxes, look.area if self.parameters.show_drivable_area else None

    def _late_overlay(self, look: Look) -> tuple[bool, bool] | None:
        """Which of boxes and area are those of the shown frame: they come after it, and it is shown
        again with them. Not at a high rate, at which those of the frame before fit as well."""
        if self._hz(look.now) > _REPEAT_UNDER_HZ or look.driver.picture is None:
            return None
        stamp = look.driver.picture.frame.stamp_ns
        boxes, area = (seen and seen.stamp_ns == stamp for seen in (look.boxes, look.area))
        return bool(boxes), bool(area)

    def _hz(self, now: float) -> float:
        with self._lock:
            return self._shown.rate_hz(now)

    def _send_canvas(self, canvas: Pixels, picture: Held | None) -> None:
        """With the header of the picture that it shows; without one there is none to send."""
        if picture is None:
            return
        header = picture.frame.header_fields
        if self._outlets.image.has_subscriber():
            height, width = canvas.shape[:2]
            message, data = new_image(*header, height, width, "bgr8", 3 * width)
            data[:] = canvas.reshape(-1)
            self._outlets.image.send(message)
        if self._outlets.compressed.has_subscriber():
            jpeg = encode_jpeg(canvas, self.parameters.jpeg_quality)
            self._outlets.compressed.send(new_compressed(*header, jpeg_format("bgr8"), jpeg))
