"""The layouts in config/ for Foxglove and RViz: they are read, and show topics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CONFIG = Path(__file__).resolve().parents[2] / "config"
TOPICS = {
    "/camera/image_raw",
    "/camera/camera_info",
    "/unirestore/image",
    "/unirestore/camera_info",
    "/unirestore/status",
    "/segmentation_head/image",
    "/detection_head/image",
    "/diagnostics",
}


def strings_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from strings_in(each)
    elif isinstance(value, str):
        yield value


def panels_in(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
    else:
        assert layout["direction"] in ("row", "column")
        for side in ("first", "second"):
            yield from panels_in(layout[side])


def test_every_panel_of_foxglove_is_placed_once_and_shows_a_topic() -> None:
    layout = json.loads((CONFIG / "unirestore.foxglove.json").read_text(encoding="utf-8"))
    assert sorted(panels_in(layout["layout"])) == sorted(layout["configById"])
    shown = [text for text in strings_in(layout["configById"]) if text.startswith("/")]
    assert {re.split(r"[.\[]", text)[0] for text in shown} == TOPICS


def test_rviz_shows_topics_that_there_are() -> None:
    yaml = pytest.importorskip("yaml")
    layout = yaml.safe_load((CONFIG / "unirestore.rviz").read_text(encoding="utf-8"))
    displays = layout["Visualization Manager"]["Displays"]
    assert {display["Topic"]["Value"] for display in displays} < TOPICS
    assert all(display["Topic"]["Reliability Policy"] == "Reliable" for display in displays)
