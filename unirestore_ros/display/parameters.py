"""Parameters of `driver_display`: declared and checked here, applied by the node."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from enum import Enum

from unirestore_ros.msgs.encodings import ASSUMABLE
from unirestore_ros.msgs.parameter_struct import (
    Change,
    NodeParameters,
    ParameterRefused,
    parameter,
)

# Too long to guess: 16 characters of `openssl rand -hex 16` are 64 bits.
SHORTEST_TOKEN = 16


class View(Enum):
    RESTORED = "restored"
    """The driver's frame alone."""
    SPLIT = "split"
    """The camera's left of a divider, the driver's right of it."""
    SIDE = "side"
    """The camera's and the driver's side by side."""
    RAW = "raw"
    """The camera's alone."""


@dataclasses.dataclass(frozen=True)
class DisplayParameters(NodeParameters):
    """The values at one moment."""

    restorer: str = parameter(
        "unirestore", "Name of the restore_node whose images are shown", Change.AT_START
    )
    segmentation: str = parameter(
        "segmentation_head",
        "Name of the node whose labels are the drivable area; empty: none",
        Change.AT_START,
    )
    detection: str = parameter(
        "detection_head", "Name of the node whose markers are boxes; empty: none", Change.AT_START
    )
    input_transport: str = parameter(
        "raw",
        "Which topics of camera and restorer are subscribed: image, or image/compressed",
        Change.AT_START,
        choices=("raw", "compressed"),
    )
    input_reliability: str = parameter(
        "auto",
        "QoS of what is subscribed; auto: reliable if every publisher offers it, else best effort",
        Change.AT_START,
        choices=("auto", "reliable", "best_effort"),
    )
    assume_encoding: str = parameter(
        "",
        "What an encoding means that does not name its colours: 8UC1, 8UC3, 8UC4 or an empty one;"
        " empty: such images are not shown",
        Change.AT_START,
        choices=ASSUMABLE,
    )
    output_reliability: str = parameter(
        "reliable",
        "QoS that the node's topics offer; depth 1 and volatile in any case",
        Change.AT_START,
        choices=("reliable", "best_effort"),
    )
    view: str = parameter(
        "restored",
        "What ~/image shows, and what the page shows first",
        Change.AT_ONCE,
        choices=tuple(view.value for view in View),
    )
    divider: int = parameter(
        50, "Where the split view divides", Change.AT_ONCE, unit="%", lowest=0, highest=100
    )
    show_boxes: bool = parameter(True, "Whether detections are drawn", Change.AT_ONCE)
    show_drivable_area: bool = parameter(True, "Whether the road is tinted", Change.AT_ONCE)
    drivable_class: int = parameter(
        3, "Label of the road in the label image", Change.AT_ONCE, lowest=0, highest=255
    )
    max_age_ms: int = parameter(
        500,
        "An image older than this is never shown without the word STALE",
        Change.AT_ONCE,
        unit="ms",
        lowest=50,
        highest=10000,
    )
    fallback_after_ms: int = parameter(
        500,
        "The camera's image is shown when it sends frames and the restorer none for this long",
        Change.AT_ONCE,
        unit="ms",
        lowest=50,
        highest=60000,
    )
    output_width: int = parameter(
        1280, "Width of ~/image", Change.AT_ONCE, unit="pixels", lowest=320, highest=3840
    )
    output_height: int = parameter(
        720, "Height of ~/image", Change.AT_ONCE, unit="pixels", lowest=240, highest=2160
    )
    jpeg_quality: int = parameter(
        85,
        "JPEG quality of ~/image/compressed and of the page's images",
        Change.AT_ONCE,
        unit="%",
        lowest=1,
        highest=100,
    )
    page_width: int = parameter(
        1280,
        "Images wider than this are scaled down for the page",
        Change.AT_ONCE,
        unit="pixels",
        lowest=160,
        highest=3840,
    )
    page: bool = parameter(True, "Whether the page is served", Change.AT_START)
    page_address: str = parameter(
        "127.0.0.1",
        "IP address that the page is served on; any but this machine's own needs page_token",
        Change.AT_START,
    )
    page_port: int = parameter(
        8080, "Port of the page; 0: any that is free", Change.AT_START, lowest=0, highest=65535
    )
    page_token: str = parameter(
        "", "Secret without which the page answers nobody; empty: none", Change.AT_START
    )
    page_origin: str = parameter(
        "",
        "Where a TLS proxy on this machine serves the page, such as https://vehicle.example; needs"
        " page_token; empty: no proxy",
        Change.AT_START,
    )

    def check(self) -> None:
        if not self.restorer:
            raise ParameterRefused("restorer: name the restore_node, such as unirestore")
        try:
            address = ipaddress.ip_address(self.page_address)
        except ValueError:
            raise ParameterRefused(
                f"page_address: {self.page_address!r} is not an IP address, such as 127.0.0.1"
            ) from None
        if self.page_token and len(self.page_token) < SHORTEST_TOKEN:
            raise ParameterRefused(f"page_token: shorter than {SHORTEST_TOKEN} characters")
        if self.page and not address.is_loopback and not self.page_token:
            raise ParameterRefused(
                f"page_address: other machines reach {address}, so page_token must be set; make one"
                " with: openssl rand -hex 16"
            )
        if self.page_origin:
            self._check_origin()

    def _check_origin(self) -> None:
        if not re.fullmatch(r"https://[a-z0-9.-]+(:\d{1,5})?", self.page_origin):
            raise ParameterRefused(
                f"page_origin: {self.page_origin!r} is not like https://vehicle.example, in small"
                " letters and without a path"
            )
        if not self.page_token:
            raise ParameterRefused("page_origin: a proxy's clients need page_token, which is empty")
